package config

import (
	"fmt"
	"math"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config/internal/raw"
)

// SilenceMode is how it is found out that a feed is silent.
type SilenceMode string

// The modes. The zero value is: not set.
const (
	SilenceAuto  SilenceMode = "auto"  // learned from what each tunnel and feed carried before
	SilenceOff   SilenceMode = "off"   // not at all
	SilenceFixed SilenceMode = "fixed" // fewer than Bytes in Window
)

// Silence is when a tunnel counts as silent.
type Silence struct {
	Mode   SilenceMode
	Window time.Duration // of SilenceFixed, as is what follows
	Bytes  int64         // fewer than these from the exchange in a window are silence
	Close  bool          // end the tunnel; else it is only reported
}

// String returns the value as the file has it, "" if it is not set.
func (s Silence) String() string {
	if s == (Silence{Mode: s.Mode}) {
		return string(s.Mode)
	}
	return fmt.Sprintf("%d bytes in %s s, %s", s.Bytes, plain(s.Window.Seconds()), s.action())
}

func (s Silence) action() string {
	if s.Close {
		return "close"
	}
	return "report"
}

// ExchangeSilence is what an exchange's entry says of silence: for both kinds,
// and for each.
type ExchangeSilence struct {
	Both, HTTP, Websocket Silence
}

// own returns what is written for a kind alone.
func (s ExchangeSilence) own(k catalog.Kind) Silence {
	if k == catalog.KindWebsocket {
		return s.Websocket
	}
	return s.HTTP
}

// SilenceOf returns when a tunnel of an exchange and kind counts as silent: what
// is written for the kind, else for the exchange, else at the top. Where only the
// top says auto, it is off for an exchange that closes (catalog.Catalog.Closes).
func (c *Config) SilenceOf(exchange string, k catalog.Kind) Silence {
	for i := range c.Exchanges {
		if x := &c.Exchanges[i]; x.ID == exchange {
			if own := x.Silence.own(k); own.Mode != "" {
				return own
			}
			if x.Silence.Both.Mode != "" {
				return x.Silence.Both
			}
		}
	}
	if c.Silence.Mode == SilenceAuto && c.Known().Closes(exchange) {
		return Silence{Mode: SilenceOff}
	}
	return c.Silence
}

// silence returns what is written at key; where nothing is, auto at the top.
func (rep *report) silence(key string, r *raw.Silence) Silence {
	if r == nil {
		return Silence{Mode: SilenceAuto}
	}
	const hint = "write auto, off, or {window_seconds: 60, bytes: 1000}"
	if r.Text != nil {
		if *r.Text != string(SilenceAuto) && *r.Text != string(SilenceOff) {
			rep.errorf(key, hint, "%s is not known here", quoted(*r.Text))
		}
		return Silence{Mode: SilenceMode(*r.Text)}
	}
	s := Silence{
		Mode: SilenceFixed, Window: rep.seconds(key+".window_seconds", r.WindowSeconds, 0, 5, 86400),
		Bytes: int64(rep.whole(key+".bytes", r.Bytes, 0, 1, math.MaxInt32)), Close: orDefault(r.Action, "report") == "close",
	}
	if r.WindowSeconds == nil || r.Bytes == nil {
		text := "needs both window_seconds and bytes"
		if s.Close {
			text = "closes only with window_seconds and bytes: what is learned is only reported"
		}
		rep.missingf(key, hint, "%s", text)
	}
	return s
}

// exchangeSilence takes what an exchange's entry says of silence out of its
// outbounds, which have none of their own.
func (rep *report) exchangeSilence(key string, e *raw.Exchange) (s ExchangeSilence) {
	take := func(key string, r **raw.Silence) Silence {
		if *r == nil {
			return Silence{}
		}
		v := rep.silence(key+".silence", *r)
		*r = nil
		return v
	}
	s.Both = take(key, &e.Silence)
	if e.HTTP != nil {
		s.HTTP = take(key+".http", &e.HTTP.Silence)
	}
	if e.Websocket != nil {
		s.Websocket = take(key+".websocket", &e.Websocket.Silence)
	}
	return s
}

// refuseStallAndSilence refuses a window of silence beside tunnel.stall_seconds,
// which measures the same and closes. exchangeKey returns the key of an exchange.
func (rep *report) refuseStallAndSilence(c *Config, exchangeKey func(id string) string) {
	if c.Tunnel.Stall == 0 {
		return
	}
	refuse := func(key string, s Silence) {
		if s.Mode == SilenceFixed {
			rep.errorf(key+"silence", "keep one of the two: remove tunnel.stall_seconds and tunnel.stall_bytes, or write silence: auto", "sets a window, and tunnel.stall_seconds sets another for the same bytes")
		}
	}
	refuse("", c.Silence)
	for _, x := range c.Exchanges {
		key := exchangeKey(x.ID)
		refuse(key+".", x.Silence.Both)
		refuse(key+".http.", x.Silence.HTTP)
		refuse(key+".websocket.", x.Silence.Websocket)
	}
}

func putSilence(o *object, s Silence) {
	switch s.Mode {
	case "":
	case SilenceFixed:
		o.put("silence", newObject().put("window_seconds", secs(s.Window)).put("bytes", s.Bytes).put("action", s.action()))
	default:
		o.put("silence", string(s.Mode))
	}
}

package testkit

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Venue is the edge of an exchange as a prober meets it: it answers whatever a
// test wants next, over TLS, for any name.
type Venue struct {
	Addr string

	s    *server
	mu   sync.Mutex
	says VenueReply
	seen []Visit
}

// VenueReply is what a venue answers. The zero value is a 200 with "{}"; a
// websocket is then upgraded, greets with {"hello":1} and echoes.
type VenueReply struct {
	Status int // also of a refused upgrade; 0: 200 or 101
	Header map[string]string
	Body   string
	Quiet  bool   // after an upgrade: does not greet, but answers pings
	Mute   bool   // after an upgrade: neither greets nor answers pings
	Close  string // after an upgrade: closes with 1008 and this reason
	Ticks  bool   // after an upgrade and the client's first message: sends Tick ten times a second, as long as the reply in force is not Quiet, and answers pings
	Drop   bool   // reads the request and closes the connection without an answer
}

// Tick is what a ticking venue sends.
const Tick = `{"e":"trade","s":"BTCUSDT","p":"64210.10","q":"0.013","pad":"................................................................"}`

// Visit is one request.
type Visit struct {
	At     time.Time
	Host   string
	Target string
	Header http.Header
}

// NewVenue starts one, with certificates of ca.
func NewVenue(t testing.TB, ca *CA) *Venue {
	t.Helper()
	v := &Venue{s: newServer(t, "127.0.0.1")}
	v.Addr = v.s.ln.Addr().String()
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if done, ok := v.s.enter(); ok {
				defer done()
				v.answer(w, r)
			}
		}),
		ErrorLog: log.New(io.Discard, "", 0),
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				v.s.drop(bottom(c))
			}
		},
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ReadHeaderTimeout: time.Minute,
	}
	ln := tls.NewListener(tracking{v.s}, ca.Server(t))
	v.s.wg.Go(func() { _ = srv.Serve(ln) }) // ends with Close
	t.Cleanup(func() { _ = srv.Close() })   // before Stop, which waits
	return v
}

// Answer changes what is answered from now on.
func (v *Venue) Answer(r VenueReply) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.says = r
}

// Visits returns every request so far.
func (v *Venue) Visits() []Visit {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]Visit(nil), v.seen...)
}

// ResetAll resets every connection that is open now.
func (v *Venue) ResetAll() { v.s.ResetAll() }

func (v *Venue) reply() VenueReply {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.says
}

func (v *Venue) answer(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	v.seen = append(v.seen, Visit{time.Now(), r.Host, r.RequestURI, r.Header.Clone()})
	says := v.says
	v.mu.Unlock()
	if says.Drop {
		panic(http.ErrAbortHandler)
	}
	for name, value := range says.Header {
		w.Header().Set(name, value)
	}
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && says.Status == 0 {
		v.feed(w, r, says)
		return
	}
	if says.Status != 0 {
		w.WriteHeader(says.Status)
	}
	if says.Body == "" {
		says.Body = "{}"
	}
	_, _ = io.WriteString(w, says.Body)
}

func (v *Venue) feed(w http.ResponseWriter, r *http.Request, says VenueReply) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		defer v.s.drop(bottom(conn)) // of a hijacked connection the HTTP server says no more
	}
	defer func() { _ = c.CloseNow() }()
	ctx := context.WithoutCancel(r.Context()) // the end of the connection ends it
	switch {
	case says.Close != "":
		_ = c.Close(websocket.StatusPolicyViolation, says.Close)
	case says.Mute:
		conn, _ := r.Context().Value(connKey{}).(net.Conn)
		Hang(conn) // reads, and answers nothing
	case says.Ticks:
		v.tick(ctx, c)
	default:
		if !says.Quiet && c.Write(ctx, websocket.MessageText, []byte(`{"hello":1}`)) != nil {
			return
		}
		for {
			kind, msg, err := c.Read(ctx)
			if err != nil || c.Write(ctx, kind, msg) != nil {
				return
			}
		}
	}
}

// tick sends until the connection ends.
func (v *Venue) tick(ctx context.Context, c *websocket.Conn) {
	if _, _, err := c.Read(ctx); err != nil { // the subscription
		return
	}
	ctx = c.CloseRead(ctx) // answers pings; ends ctx with the connection
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if !v.reply().Quiet && c.Write(ctx, websocket.MessageText, []byte(Tick)) != nil {
				return
			}
		}
	}
}

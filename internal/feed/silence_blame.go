package feed

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/printable"
)

// blame is who is likely to be the cause of a silence, as Silence.Blame, and why.
type blame struct{ who, why, hint string }

// Whom a silence blames.
const (
	blameSubscription = "subscription"
	blameUpstream     = "upstream"
	blameExchange     = "exchange"
	blameUnknown      = "unknown"
	blameNetwork      = "network"
)

// blameFor returns the likely cause of f's silence, from which other feeds are
// silent with it. feeds are those that have tunnels, or are silent.
func blameFor(f *feedSilence, feeds []*feedSilence) blame {
	x := exchangeName(f.exchange)
	same, through, all := tally{}, tally{}, tally{}
	others := []string{} // upstreams of the exchange that go on
	for _, o := range feeds {
		all.add(o)
		if o.exchange == f.exchange && o.kind == f.kind {
			same.add(o)
			if o.state == "" && o.upstream != f.upstream {
				others = append(others, o.upstream)
			}
		}
		if o.upstream == f.upstream && o.exchange != f.exchange {
			through.add(o)
		}
	}
	slices.Sort(others)
	upstreamHint := fmt.Sprintf("proxyd drain %s, then proxyd close --upstream %s: the clients reconnect through others", f.upstream, f.upstream)
	switch {
	case all.exchanges > 1 && all.upstreams > 1 && all.silent >= 3 && all.silent*2 > all.feeds:
		return blame{blameNetwork, fmt.Sprintf("%d of %d feeds are silent at once: this machine's network", all.silent, all.feeds), "look at this machine's own connection"}
	case len(others) > 0:
		why := fmt.Sprintf("%s through %s goes on: %s", x, strings.Join(others[:min(len(others), 3)], ", "), f.upstream)
		return blame{blameUpstream, why, fmt.Sprintf("proxyd close --exchange %s --upstream %s: the clients reconnect", cmp.Or(f.exchange, "''"), f.upstream)}
	case through.silent > 0 && through.silent == through.feeds:
		return blame{blameUpstream, "all feeds through " + f.upstream + " are silent: " + f.upstream, upstreamHint}
	case same.silent > 1:
		return blame{blameExchange, fmt.Sprintf("silent through %d upstreams: %s", same.silent, x), "look at the exchange's status page"}
	case through.feeds > 0:
		return blame{blameExchange, fmt.Sprintf("other exchanges through %s go on: %s, or how it treats %s", f.upstream, x, f.upstream), "look at the exchange's status page, or try another upstream"}
	default:
		return blame{blameUnknown, fmt.Sprintf("cannot tell %s from %s: nothing else goes through %s", x, f.upstream, f.upstream), "proxyd probe " + cmp.Or(f.exchange, "ID") + " asks both"}
	}
}

// tally counts feeds.
type tally struct {
	feeds, silent, exchanges, upstreams int
	seen                                map[string]bool
}

func (t *tally) add(f *feedSilence) {
	if t.seen == nil {
		t.seen = map[string]bool{}
	}
	if t.feeds++; f.state != "" {
		t.silent++
	}
	if k := "x" + f.exchange; !t.seen[k] {
		t.seen[k] = true
		t.exchanges++
	}
	if k := "u" + f.upstream; !t.seen[k] {
		t.seen[k] = true
		t.upstreams++
	}
}

func exchangeName(id string) string { return cmp.Or(id, "the hosts of no exchange") }

// what says how the feed is silent.
func (f *feedSilence) what() string {
	n := max(f.silent, f.highest)
	on := fmt.Sprintf("on %d of %s", f.silent, tunnels(f.watched))
	switch {
	case f.watched == 0:
		on = "on " + tunnels(n) + ", none of which is open any more"
	case f.silent == 0:
		on = "on " + tunnels(f.watched) + " together"
	}
	switch f.state {
	case ruleFixed:
		return fmt.Sprintf("fewer than %d bytes in %s %s", f.rule.Bytes, printable.Seconds(f.rule.Window), on)
	case ruleNever:
		return "nothing has come since the client asked " + on
	}
	return fmt.Sprintf("next to nothing for %s %s%s", printable.Seconds(time.Duration(f.held)*time.Second), on, f.past())
}

// past says what the feed carried before, if that is known.
func (f *feedSilence) past() string {
	if f.before == 0 {
		return ""
	}
	return ", where it carried " + size(f.before) + " a minute"
}

func tunnels(n int) string {
	if n == 1 {
		return "1 tunnel"
	}
	return fmt.Sprintf("%d tunnels", n)
}

// size returns a number of bytes with a unit.
func size(n int64) string {
	switch {
	case n < 2000:
		return fmt.Sprintf("%d bytes", n)
	case n < 2_000_000:
		return fmt.Sprintf("%d kB", n/1000)
	default:
		return fmt.Sprintf("%d MB", n/1_000_000)
	}
}

// row returns the silence that holds, nil if there is none.
func (f *feedSilence) row(now time.Time) *Silence {
	if f.state == "" {
		return nil
	}
	return &Silence{
		Since: now.Add(-time.Duration(f.held) * time.Second), Tunnels: max(f.silent, min(f.highest, f.watched)), Rule: f.state,
		Blame: f.blame.who, Text: f.what() + "; " + f.blame.why,
	}
}

// closes reports whether tunnels of the feed are to be closed when they are
// silent.
func (f *feedSilence) closes() bool {
	return f.rule != nil && f.rule.Mode == config.SilenceFixed && f.rule.Close
}

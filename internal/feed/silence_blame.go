package feed

import (
	"cmp"
	"fmt"
	"strings"

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

// scene is which feeds are silent, and which go on.
type scene struct {
	all       tally
	pairs     map[pairKey]*tally
	upstreams map[string]*tally
	shares    map[[2]string]*tally // of an exchange in what an upstream carries
}

// tally counts feeds.
type tally struct {
	feeds, silent, going int      // going: they are known to carry
	carry                []string // upstreams through which they do, some of them
}

// sceneOf returns the scene of the feeds that have tunnels, or are silent.
func sceneOf(feeds []*feedSilence) scene {
	s := scene{pairs: map[pairKey]*tally{}, upstreams: map[string]*tally{}, shares: map[[2]string]*tally{}}
	for _, f := range feeds {
		s.all.add(f)
		count(s.pairs, pairKey{f.exchange, f.kind}).add(f)
		count(s.upstreams, f.upstream).add(f)
		count(s.shares, [2]string{f.upstream, f.exchange}).add(f)
	}
	return s
}

func count[K comparable](table map[K]*tally, key K) *tally {
	t := table[key]
	if t == nil {
		t = &tally{}
		table[key] = t
	}
	return t
}

func (t *tally) add(f *feedSilence) {
	t.feeds++
	switch {
	case f.state != "":
		t.silent++
	case f.healthy > 0:
		t.going++
		if len(t.carry) < 3 {
			t.carry = append(t.carry, f.upstream)
		}
	}
}

// exchanges returns of how many exchanges there are feeds.
func (s *scene) exchanges() int {
	seen := map[string]bool{}
	for key := range s.pairs {
		seen[key.exchange] = true
	}
	return len(seen)
}

// oneGoesOn reports whether most of what an upstream carries goes on: then this
// machine's network does.
func (s *scene) oneGoesOn() bool {
	for _, t := range s.upstreams {
		if t.going > t.silent {
			return true
		}
	}
	return false
}

// blameFor returns the likely cause of the silence of f, which is one of the feeds.
func (s *scene) blameFor(f *feedSilence) blame {
	x, up := cmp.Or(f.exchange, "the hosts of no exchange"), f.upstream
	pair, through, own := s.pairs[pairKey{f.exchange, f.kind}], s.upstreams[up], s.shares[[2]string{up, f.exchange}]
	others := through.feeds - own.feeds
	silent := through.silent - own.silent
	direct := up == "direct"
	again := "proxyd close --exchange " + cmp.Or(f.exchange, "none") + " makes the clients reconnect"
	switch {
	case s.all.silent >= 3 && s.all.silent*2 > s.all.feeds && len(s.upstreams) > 1 && s.exchanges() > 1 && !s.oneGoesOn():
		return blame{blameNetwork, fmt.Sprintf("%d of %d feeds are silent at once: this machine's network", s.all.silent, s.all.feeds), "look at this machine's own connection"}
	case len(pair.carry) > 0 && (silent == 0 || silent < others || direct):
		return blame{blameUpstream, fmt.Sprintf("%s through %s goes on: %s", x, strings.Join(pair.carry, ", "), up), "proxyd close " + f.filter() + ": the clients reconnect"}
	case silent > 0 && silent == others && direct:
		return blame{blameNetwork, "all direct feeds are silent: this machine's network", "look at this machine's own connection"}
	case silent > 0 && silent == others:
		why := "all feeds through " + up + " are silent: " + up
		if len(s.upstreams) == 1 {
			why += ", or this machine's network: nothing leaves by another upstream"
		}
		return blame{blameUpstream, why, fmt.Sprintf("if the pool has another member: proxyd drain %s, then proxyd close --upstream %s: the clients reconnect through it", up, up)}
	case pair.silent > 1:
		return blame{blameExchange, fmt.Sprintf("silent through %d upstreams: %s", pair.silent, x), "see the exchange's status page; " + again}
	case through.going > own.going:
		return blame{blameExchange, fmt.Sprintf("other exchanges go on, so it is %s, or how %s treats it", x, up), "see the exchange's status page, or try another upstream; " + again}
	case direct:
		return blame{blameUnknown, fmt.Sprintf("cannot tell %s from this machine's network: no other exchange carries directly", x), "proxyd probe " + f.exchange + " tests it"}
	default:
		return blame{blameUnknown, fmt.Sprintf("cannot tell %s from %s: no other exchange carries through %s", x, up, up), strings.TrimSpace("proxyd probe "+f.exchange) + " tests both"}
	}
}

// what says which tunnels are silent, and by what measure.
func (f *feedSilence) what() string {
	which := fmt.Sprintf("%d of %s", f.silent, printable.Count(f.watched, "tunnel", "tunnels"))
	switch {
	case f.watched == 0:
		which = printable.Count(f.highest, "tunnel", "tunnels") + ", closed since,"
	case f.silent == 0:
		which = printable.Count(f.watched, "tunnel", "tunnels") + " together"
	}
	how := ""
	switch {
	case f.state == ruleFixed:
		how = fmt.Sprintf(" (fewer than %d bytes in %s)", f.rule.Bytes, printable.Seconds(f.rule.Window))
	case f.state == ruleNever:
		how = " (nothing has come since the client asked)"
	case f.before > 0:
		how = " (the feed carried " + size(f.before) + " a minute)"
	}
	return which + " through " + f.upstream + how
}

// filter returns the flags that select the feed's tunnels.
func (f *feedSilence) filter() string {
	if f.exchange == "" {
		return "--upstream " + f.upstream
	}
	return "--exchange " + f.exchange + " --upstream " + f.upstream
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
func (f *feedSilence) row() *Silence {
	if f.state == "" {
		return nil
	}
	return &Silence{
		Since: f.at, Tunnels: max(f.silent, min(f.highest, f.watched)), Rule: f.state,
		Blame: f.blame.who, Text: f.what() + "; " + f.blame.why, why: f.blame.why, hint: f.blame.hint,
	}
}

// closes reports whether tunnels of the feed are to be closed when they are
// silent.
func (f *feedSilence) closes() bool {
	return f.rule != nil && f.rule.Mode == config.SilenceFixed && f.rule.Close
}

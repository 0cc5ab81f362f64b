package daemon

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
	"proxyd/internal/upstream"
)

// standings make events of ejections and verdicts, at most a second late, so that
// choosing has nothing to write. They are for one goroutine.
type standings struct {
	add      func(event.Event)
	ejected  map[string]bool
	verdicts map[pairName]upstream.Word // that speak against an upstream
}

type pairName struct {
	upstream, exchange string
	kind               catalog.Kind
}

// newStandings returns those that hold now, as the process before this one has left
// and said them.
func newStandings(upstreams []*upstream.Upstream, add func(event.Event)) *standings {
	s := &standings{add: func(event.Event) {}, ejected: map[string]bool{}, verdicts: map[pairName]upstream.Word{}}
	s.compare(upstreams)
	s.add = add
	return s
}

// wordHints says what to do about a verdict.
var wordHints = map[upstream.Word]string{
	upstream.WordGeoblocked:               "use an upstream whose exit is in a region that the exchange serves",
	upstream.WordRateLimited:              "open fewer connections from this exit, or use more exits; see limits",
	upstream.WordBlocked:                  "the exchange rejects this exit; use another upstream",
	upstream.Word(failure.UpstreamDenied): classHints[failure.UpstreamDenied],
}

// compare adds an event for each upstream and verdict that has changed since it was
// called before. A verdict that comes while a feed contradicts it is news when it holds.
func (s *standings) compare(upstreams []*upstream.Upstream) {
	gone := map[pairName]bool{}
	for p := range s.verdicts {
		gone[p] = true
	}
	left := maps.Clone(s.ejected)
	for _, u := range upstreams {
		delete(left, u.Name())
		if _, _, ejected := u.Ejected(); ejected != s.ejected[u.Name()] {
			s.ejection(u, ejected)
		}
		for _, v := range u.Verdicts() {
			p := pairName{u.Name(), v.Exchange, v.Kind}
			if delete(gone, p); v.Holds && v.Verdict.Word != s.verdicts[p] && (v.Verdict.Word != upstream.WordOK || s.verdicts[p] != "") {
				s.verdict(p, v.Verdict)
			}
		}
	}
	for name := range left { // the configuration has it no longer
		delete(s.ejected, name)
	}
	for p := range gone {
		if slices.ContainsFunc(upstreams, func(u *upstream.Upstream) bool { return u.Name() == p.upstream }) {
			s.verdict(p, upstream.Verdict{Word: upstream.WordOK}) // a connection was opened again
		}
		delete(s.verdicts, p)
	}
}

func (s *standings) ejection(u *upstream.Upstream, ejected bool) {
	if !ejected {
		delete(s.ejected, u.Name())
		s.add(event.Event{Severity: event.Info, Type: event.UpstreamBack, Upstream: u.Name(), Text: u.Name() + " is in use again"})
		return
	}
	e := u.Status().Ejection
	if e == nil { // back already
		return
	}
	s.ejected[u.Name()] = true
	s.add(event.Event{
		Severity: event.Warn, Type: event.UpstreamEjected, Upstream: u.Name(), Hint: classHints[e.Cause],
		Text: fmt.Sprintf("%s is ejected for at least %s: %s", u.Name(), printable.Span(e.Until.Sub(e.Since).Round(time.Second)), e.Cause),
	})
}

func (s *standings) verdict(p pairName, v upstream.Verdict) {
	before := s.verdicts[p]
	if s.verdicts[p] = v.Word; v.Word == upstream.WordOK {
		delete(s.verdicts, p)
	}
	e := event.Event{
		Severity: event.Warn, Type: event.UpstreamVerdict, Exchange: p.exchange, Kind: p.kind.String(), Upstream: p.upstream, Hint: wordHints[v.Word],
		Text: fmt.Sprintf("%s %s through %s: %s, before: %s", p.exchange, p.kind, p.upstream, v.Word, cmp.Or(before, upstream.WordOK)),
	}
	if v.Word == upstream.WordOK {
		e.Severity = event.Info
	}
	if v.Text != "" && v.Word != upstream.Word(failure.UpstreamDenied) { // whose text may name the client's host
		e.Text += "; " + v.Text
	}
	s.add(e)
}

package daemon

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"proxyd/internal/admin"
	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/limit"
	"proxyd/internal/printable"
	"proxyd/internal/upstream"
)

// logEvent writes an event as a line of the log, msg=event.
func logEvent(log *zap.Logger, e event.Event) {
	if e.Type == event.Started || e.Type == event.Stopping { // the lines "proxyd" and "stopping" say so
		return
	}
	level := zapcore.InfoLevel
	switch e.Severity {
	case event.Warn:
		level = zapcore.WarnLevel
	case event.Error:
		level = zapcore.ErrorLevel
	}
	line := log.Check(level, "event")
	if line == nil {
		return
	}
	fields := []zap.Field{zap.String("type", string(e.Type)), zap.Time("at", e.Time)}
	for _, f := range [...]struct{ name, value string }{{"id", e.ID}, {"exchange", e.Exchange}, {"kind", e.Kind}, {"upstream", e.Upstream}} {
		if f.value != "" {
			fields = append(fields, zap.String(f.name, f.value))
		}
	}
	if len(e.Upstreams) > 0 {
		fields = append(fields, zap.Strings("upstreams", e.Upstreams))
	}
	if e.Count > 0 {
		fields = append(fields, zap.Int("count", e.Count))
	}
	fields = append(fields, zap.String("text", e.Text))
	if e.Hint != "" {
		fields = append(fields, zap.String("hint", e.Hint))
	}
	line.Write(fields...)
}

// startEvent returns how this process has begun: by itself, or in place of another.
func startEvent(version string, generation int, file string, replaces bool) event.Event {
	e := event.Event{
		Severity: event.Info, Type: event.Started,
		Text: fmt.Sprintf("proxyd %s has started, process %d, with %s", version, os.Getpid(), file),
	}
	if replaces {
		e.Type = event.Upgraded
		e.Text = fmt.Sprintf("proxyd %s has taken over, process %d, generation %d", version, os.Getpid(), generation)
	}
	return e
}

func noAdminEvent(why string) event.Event {
	return event.Event{Severity: event.Warn, Type: event.Listening, Text: "no admin server: " + why}
}

// reloadEvent returns the outcome of a reload of file. held reports whether the file is
// valid, and only held back; left are the tunnels that keep a route of before.
func reloadEvent(file, by string, took time.Duration, r admin.Report, held bool, left []leftTunnels) event.Event {
	if !r.Applied {
		hint := "correct the file, and see that it is valid: proxyd check"
		if held {
			hint = "correct the file; " + ifMeant
		}
		return event.Event{
			Severity: event.Error, Type: event.ReloadRefused, Hint: hint,
			Text: "reload refused (" + by + "), the configuration in force stays: " + strings.Join(r.Faults, "; "),
		}
	}
	changes := "no change"
	if len(r.Changes) > 0 {
		changes = strings.Join(r.Changes, "; ")
	}
	e := event.Event{
		Severity: event.Info, Type: event.Reloaded,
		Text: fmt.Sprintf("reloaded %s (%s) in %d ms: %s", file, by, took.Milliseconds(), changes),
	}
	if len(left) > 0 {
		e.Hint = left[0].hint()
		e.Text += "; " + left[0].String()
		if more := len(left) - 1; more > 0 {
			e.Text += fmt.Sprintf(" (+%d more)", more)
		}
	}
	return e
}

// listenerEvents returns what a reload has opened and closed. before is why there was
// no admin server so far.
func listenerEvents(change *listenerChange, before string) (list []event.Event) {
	for _, b := range change.added {
		list = append(list, event.Event{Severity: event.Info, Type: event.Listening, Text: "listening on " + b.name()})
	}
	for _, b := range change.leaving {
		list = append(list, event.Event{Severity: event.Info, Type: event.Listening, Text: "no longer listening on " + b.name()})
	}
	if why := change.noAdmin; why != "" && before != why {
		list = append(list, noAdminEvent(why))
	}
	return list
}

// noLongerTransparent warns of ports to which rules may still redirect: proxyd sees
// nothing of the clients that are refused there.
func noLongerTransparent(before, now []config.Listener) (list []event.Event) {
	for _, l := range before {
		port := portOf(l.Address)
		if !l.Transparent || slices.ContainsFunc(now, func(n config.Listener) bool { return n.Transparent && portOf(n.Address) == port }) {
			continue
		}
		list = append(list, event.Event{
			Severity: event.Warn, Type: event.Listening,
			Text: "no transparent listener has port " + port + " any longer: what rules redirect there is refused",
			Hint: "write " + l.Address + " under listen again, as transparent, or take the rules back: nft delete table inet proxyd",
		})
	}
	return list
}

// drainEvent returns that an operator has drained an upstream, or resumed it.
func drainEvent(upstream, exchange string, on bool) event.Event {
	what := upstream
	if exchange != "" {
		what += " for " + exchange
	}
	e := event.Event{Severity: event.Warn, Type: event.Drained, Exchange: exchange, Upstream: upstream, Text: what + " is drained: no new connections"}
	e.Hint = "when it is to be used again: proxyd resume " + strings.TrimSpace(upstream+" "+exchange)
	if !on {
		e.Severity, e.Text, e.Hint = event.Info, what+" is no longer drained", ""
	}
	return e
}

// lowEvent warns of a limit that an exchange publishes and that the configuration does
// not set.
func lowEvent(r limit.Row) event.Event {
	text := fmt.Sprintf("budget nearly used up: %d of %s left for %s", r.Remaining, limitWords(r.Limits), r.Budget.Exit)
	if r.Remaining == 0 {
		text = fmt.Sprintf("budget used up: nothing of %s left for %s", limitWords(r.Limits), r.Budget.Exit)
	}
	return event.Event{
		Severity: event.Warn, Type: event.BudgetLow, Exchange: r.Budget.Exchange, Kind: r.Budget.Kind, Text: text,
		Hint: "the exchange publishes this limit, and bans clients that exceed it; to enforce it: limits: published",
	}
}

// standings make events of ejections and verdicts, at most a second late, so that
// choosing has nothing to write. They are for one goroutine.
type standings struct {
	add      func(event.Event)
	out      func(u *upstream.Upstream, cause string) // an upstream is ejected; may be nil
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
	if s.out != nil {
		s.out(u, string(e.Cause))
	}
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
	if v.From != "" {
		e.Text += "; found by host " + v.From
	}
	s.add(e)
}

package daemon

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/limit"
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

package daemon

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"proxyd/internal/admin"
	"proxyd/internal/event"
	"proxyd/internal/health"
	"proxyd/internal/limit"
)

// logEvent writes an event as a line of the log, msg=event, and counts it.
func (d *Daemon) logEvent(e event.Event) {
	if d.metrics != nil { // there are none before Run
		d.metrics.Event(e.Severity, e.Type)
	}
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
	line := d.log().Check(level, "event")
	if line == nil {
		return
	}
	fields := []zap.Field{zap.String("type", string(e.Type)), zap.Time("at", e.Time)}
	for _, f := range [...]struct{ name, value string }{{"id", e.ID}, {"exchange", e.Exchange}, {"kind", e.Kind}, {"upstream", e.Upstream}} {
		if f.value != "" {
			fields = append(fields, zap.String(f.name, f.value))
		}
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

// addFeed adds what the table of feeds has found. Once this process is replaced its
// tunnels only end, which is no loss: the next one knows whether they are opened again.
func (d *Daemon) addFeed(e event.Event) {
	if d.upgrade.isReplaced() && (e.Type == event.ExchangeLost || e.Type == event.ExchangeBack) {
		return
	}
	d.journal.Add(e)
}

// observeProbe keeps what a probe has found. What is new in it becomes an event.
func (d *Daemon) observeProbe(p health.Pair, found health.Result) {
	if r, _, _ := p.Apply(found); r.Verdict == health.Unknown {
		d.log().Debug("probe", zap.String("upstream", p.Member.Name()), zap.String("exchange", p.Exchange), zap.String("text", r.Text))
	}
}

// addStart adds how this process has begun.
func (d *Daemon) addStart() {
	e := event.Event{
		Severity: event.Info, Type: event.Started,
		Text: fmt.Sprintf("proxyd %s has started, process %d, with %s", d.options.Version, os.Getpid(), d.fileName()),
	}
	if p := d.upgrade.parent; p != nil {
		e.Type = event.Upgraded
		e.Text = fmt.Sprintf("proxyd %s has taken over, process %d, generation %d", d.options.Version, os.Getpid(), d.generation)
	}
	d.journal.Add(e)
	if why := d.listening.Load().noAdmin; why != "" {
		d.journal.Add(event.Event{Severity: event.Warn, Type: event.Listening, Text: "no admin server: " + why})
	}
}

// addReload adds the outcome of a reload. held reports whether the file is valid, and
// only held back.
func (d *Daemon) addReload(by string, start time.Time, r admin.Report, held bool) {
	if !r.Applied {
		hint := "correct the file, and see that it is valid: proxyd check"
		if held {
			hint = "correct the file; " + ifMeant
		}
		d.journal.Add(event.Event{
			Severity: event.Error, Type: event.ReloadRefused, Hint: hint,
			Text: "reload refused (" + by + "), the configuration in force stays: " + strings.Join(r.Faults, "; "),
		})
		return
	}
	changes := "no change"
	if len(r.Changes) > 0 {
		changes = strings.Join(r.Changes, "; ")
	}
	d.journal.Add(event.Event{
		Severity: event.Info, Type: event.Reloaded,
		Text: fmt.Sprintf("reloaded %s (%s) in %d ms: %s", d.fileName(), by, time.Since(start).Milliseconds(), changes),
	})
}

// addListeners adds what a reload has opened and closed.
func (d *Daemon) addListeners(change *listenerChange) {
	for _, b := range change.added {
		d.journal.Add(event.Event{Severity: event.Info, Type: event.Listening, Text: "listening on " + b.name()})
	}
	for _, b := range change.leaving {
		d.journal.Add(event.Event{Severity: event.Info, Type: event.Listening, Text: "no longer listening on " + b.name()})
	}
	if why := change.noAdmin; why != "" && d.listening.Load().noAdmin != why {
		d.journal.Add(event.Event{Severity: event.Warn, Type: event.Listening, Text: "no admin server: " + why})
	}
}

// addDrain adds that an operator has drained an upstream, or resumed it.
func (d *Daemon) addDrain(upstream, exchange string, on bool) {
	what := upstream
	if exchange != "" {
		what += " for " + exchange
	}
	e := event.Event{Severity: event.Warn, Type: event.Drained, Exchange: exchange, Upstream: upstream, Text: what + " is drained: no new connections"}
	e.Hint = "when it is to be used again: proxyd resume " + strings.TrimSpace(upstream+" "+exchange)
	if !on {
		e.Severity, e.Text, e.Hint = event.Info, what+" is in use again", ""
	}
	d.journal.Add(e)
}

// addLow warns of a limit that an exchange publishes and that the configuration does
// not set.
func (d *Daemon) addLow(r limit.Row) {
	d.journal.Add(event.Event{
		Severity: event.Warn, Type: event.BudgetLow, Exchange: r.Budget.Exchange, Kind: r.Budget.Kind,
		Text: fmt.Sprintf("budget nearly used up: %d of %s left for %s", r.Remaining, limitWords(r.Limits), r.Budget.Exit),
		Hint: "the exchange publishes this limit, and bans clients that exceed it; to enforce it: limits: published",
	})
}

// everySecond runs the checks that are due each second, until ctx ends: one ticker
// for all of them. known are the upstreams as they were.
func (d *Daemon) everySecond(ctx context.Context, known *standings) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if d.sources.look(now); !d.upgrade.isReplaced() { // then the next process sees to the upstreams
				known.compare(d.snapshot.Load().Set().Upstreams())
			}
			d.reasons(d.snapshot.Load())
			if lines, due := d.lines.tryAgain(time.Now()); due {
				d.log().Warn("lines of the log were lost", zap.Int("lines", lines))
			}
		}
	}
}

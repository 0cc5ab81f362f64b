package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/admin"
	"proxyd/internal/event"
	"proxyd/internal/feed"
	"proxyd/internal/printable"
	"proxyd/internal/tunnel"
)

// progressEvery is how often a drain logs how far it is.
const progressEvery = 5 * time.Second

// stop serves on for stop.grace_seconds, then waits for the tunnels for
// drain_seconds, and closes what is left. force ends the waiting.
func (d *Daemon) stop(ctx context.Context, force <-chan struct{}) {
	c := d.snapshot.Load().Config()
	d.setState(admin.StateDraining)
	ctx = context.WithoutCancel(ctx)
	d.log().Info("stopping", zap.Int("tunnels", d.handler.Active()), zap.Float64("grace_seconds", c.StopGrace.Seconds()),
		zap.Float64("drain_seconds", c.Drain.Seconds()), zap.String("note", "a second signal closes them at once"))
	d.journal.Add(event.Event{Severity: event.Warn, Type: event.Stopping, Count: d.handler.Active(), Text: "proxyd is stopping"})
	forced := false
	if c.StopGrace > 0 {
		select {
		case <-time.After(c.StopGrace): // new connections are still served: a bot cancels its orders
		case <-force:
			forced = true
		}
	}
	d.handler.Drain()
	closeAll(d.listening.Load().clients())
	d.inbound.Drain()
	if !forced {
		d.drain(ctx, c.Drain, force)
	}
	d.finish(ctx)
}

// finish closes what is left.
func (d *Daemon) finish(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	d.inbound.Close()
	if n := d.handler.Active(); n > 0 {
		d.log().Warn("closing tunnels", zap.Int("tunnels", n))
	}
	d.handler.CloseAll()
	lastCtx, cancelLast := context.WithTimeout(ctx, 2*time.Second)
	defer cancelLast()
	_ = d.handler.Wait(lastCtx)
	d.snapshot.Load().Set().Close()
	d.sources.finish()
	_ = d.admin.Shutdown(lastCtx) // an answer about an upgrade may not have been sent yet
	_ = d.admin.Close()
	d.log().Info("stopped", zap.Uint64("log_lines_dropped", d.lines.Dropped()))
}

// drain waits for the tunnels, at most so long, and logs how far it is.
func (d *Daemon) drain(ctx context.Context, most time.Duration, force <-chan struct{}) {
	waitCtx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	gone := make(chan struct{})
	go func() { // ends when Wait does: at the latest with waitCtx, which the next lines end
		defer close(gone)
		_ = d.inbound.Wait(waitCtx) // a dial under way may still become a tunnel
		_ = d.handler.Wait(waitCtx)
	}()
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-gone:
			return
		case <-force:
			cancel()
			<-gone
			return
		case <-ticker.C:
			d.progress()
		}
	}
}

// progress logs how many tunnels are left, and the oldest.
func (d *Daemon) progress() {
	n, oldest := 0, tunnel.Live{}
	d.handler.Each(func(t tunnel.Live) bool {
		if n++; n == 1 || t.Start.Before(oldest.Start) {
			oldest = t
		}
		return true
	})
	if n == 0 {
		return
	}
	age := time.Since(oldest.Start).Round(time.Second)
	d.log().Info("draining", zap.Int("tunnels", n), zap.String("oldest", oldest.ID), zap.String("host", oldest.Host),
		zap.String("exchange", oldest.Exchange), zap.Float64("age_s", age.Seconds()))
	notify(fmt.Sprintf("STATUS=draining: %s left, the oldest, to %s, for %s", printable.Count(n, "tunnel is", "tunnels are"), oldest.Host, age))
}

// retire ends a process that has been replaced: it serves what it has,
// and reports to the next one how far it is.
func (d *Daemon) retire(ctx context.Context, s Signals) {
	end := time.After(d.snapshot.Load().Config().Upgrade.Drain)
	ticker := time.NewTicker(retireInterval)
	defer ticker.Stop()
	var sent []admin.Process // not what handOver sent: some have ended since
	sentAt, heard := time.Time{}, true
wait:
	for d.handler.Active() > 0 || !d.inbound.Idle() || len(d.upgrade.others.processes()) > 0 { // the last: to pass on what is heard of them
		select {
		case <-ctx.Done():
			d.drain(context.WithoutCancel(ctx), d.snapshot.Load().Config().Drain, s.Force)
			break wait
		case <-end:
			break wait
		case <-ticker.C:
		}
		if now := d.processes(); heard && time.Since(sentAt) > time.Second && (d.journal.Holds() || !slices.EqualFunc(now, sent, sameState)) {
			heard = d.sendProgress(d.upgrade.child, false) == nil
			sent, sentAt = now, time.Now()
		}
	}
	if heard {
		d.sources.finish()
		data, _ := json.Marshal(progressMsg{Older: d.upgrade.others.processes(), Open: d.upgrade.others.openCounts(), Events: d.journal.Held()}) // cannot fail: plain data
		_ = d.upgrade.child.Finish(data)                                                                                                         // it sees our end too
	}
	d.finish(ctx)
}

func sameState(a, b admin.Process) bool {
	return a.PID == b.PID && a.Tunnels == b.Tunnels && slices.EqualFunc(a.Silent, b.Silent, func(x, y feed.Exchange) bool {
		return x.Exchange == y.Exchange && x.Kind == y.Kind && x.Text == y.Text
	})
}

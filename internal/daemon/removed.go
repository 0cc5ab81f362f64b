package daemon

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/tunnel"
)

// removed closes the tunnels whose upstream a reload has taken out of the
// configuration, where on_removed says drain.
type removed struct {
	kick chan struct{}        // after a reload
	due  map[string]time.Time // by a tunnel's id; closeRemoved's alone
}

// lookAgain finds tunnels that were still being opened when the reload came.
const lookAgain = 10 * time.Second

func (r *removed) look() {
	select {
	case r.kick <- struct{}{}:
	default: // it will look anyway
	}
}

// closeRemoved closes each such tunnel at a time of its own, between
// drain_after_seconds and twice that, so that not all of them reconnect at once.
// It runs until ctx ends, and costs nothing while on_removed is keep.
func (d *Daemon) closeRemoved(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.removed.kick:
		case <-timer.C:
		}
		c := d.snapshot.Load().Config()
		if c.OnRemoved != "drain" {
			d.removed.due = nil
			continue
		}
		timer.Reset(time.Until(d.closeDue(time.Now(), c.DrainAfter)))
	}
}

// closeDue closes what is due and says when to look again.
func (d *Daemon) closeDue(now time.Time, after time.Duration) time.Time {
	set, next := d.snapshot.Load().Set(), now.Add(lookAgain)
	due := map[string]time.Time{} // those that have ended, or are wanted again, drop out
	closed := 0
	d.handler.Each(func(t tunnel.Live) bool {
		if t.Member != nil && set.Has(t.Member) {
			return true
		}
		at, known := d.removed.due[t.ID]
		if !known {
			at = now.Add(after + rand.N(after+1)) //nolint:gosec // spreads load, guards nothing
		}
		if !at.After(now) {
			t.Close()
			closed++
			return true
		}
		due[t.ID] = at
		if at.Before(next) {
			next = at
		}
		return true
	})
	if started := len(due) > 0 && len(d.removed.due) == 0; started || closed > 0 {
		d.log().Info("on_removed: drain", zap.Int("closed", closed), zap.Int("tunnels_left", len(due)))
	}
	d.removed.due = due
	return next
}

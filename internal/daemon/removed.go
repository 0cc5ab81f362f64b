package daemon

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/router"
	"proxyd/internal/tunnel"
)

// removedTunnels closes the tunnels whose upstream a reload has taken out of the
// configuration, where on_removed says drain.
type removedTunnels struct {
	snapshot func() *router.Router
	each     func(func(tunnel.Live) bool) // the live tunnels
	log      func() *zap.Logger

	kick chan struct{}        // after a reload
	due  map[string]time.Time // by a tunnel's id; run's alone
}

// recheckAfter finds tunnels that were still being opened when the reload came.
const recheckAfter = 10 * time.Second

func (r *removedTunnels) wake() {
	select {
	case r.kick <- struct{}{}:
	default: // it will look anyway
	}
}

// run closes each such tunnel at a time of its own, between
// drain_after_seconds and twice that, so that they do not all reconnect at the same time.
// It runs until ctx ends, and costs nothing while on_removed is keep.
func (r *removedTunnels) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.kick:
		case <-timer.C:
		}
		c := r.snapshot().Config()
		if c.OnRemoved != "drain" {
			r.due = nil
			continue
		}
		timer.Reset(time.Until(r.closeDue(time.Now(), c.DrainAfter)))
	}
}

// closeDue closes what is due and returns when to look again.
func (r *removedTunnels) closeDue(now time.Time, after time.Duration) time.Time {
	set, next := r.snapshot().Set(), now.Add(recheckAfter)
	due := map[string]time.Time{} // those that have ended, or are wanted again, drop out
	closed := 0
	r.each(func(t tunnel.Live) bool {
		if t.Member != nil && set.Has(t.Member) {
			return true
		}
		at, known := r.due[t.ID]
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
	if started := len(due) > 0 && len(r.due) == 0; started || closed > 0 {
		r.log().Info("on_removed: drain", zap.Int("closed", closed), zap.Int("tunnels_left", len(due)))
	}
	r.due = due
	return next
}

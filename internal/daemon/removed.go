package daemon

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/catalog"
	"proxyd/internal/printable"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
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

// leftTunnels are the tunnels of an exchange that go on through an upstream to which new
// connections of theirs do not go any more.
type leftTunnels struct {
	exchange, upstream string
	tunnels            int
}

// String returns them in words.
func (l leftTunnels) String() string {
	of := " of " + cmp.Or(l.exchange, "no exchange") + " still "
	return printable.Count(l.tunnels, "tunnel"+of+"goes", "tunnels"+of+"go") + " through " + l.upstream
}

// hint returns the command that moves them.
func (l leftTunnels) hint() string {
	return "to move them: proxyd close --exchange " + cmp.Or(l.exchange, "none") + " --upstream " + l.upstream + " --over 60"
}

// leftBy returns what a reload has given another route, and goes on along the one before:
// open tunnels keep theirs. Those that a listener has routed are not among them.
func leftBy(prev, next *router.Router, each func(func(tunnel.Live) bool)) (list []leftTunnels) {
	type host struct {
		name string
		port uint16
		kind catalog.Kind
	}
	pools := map[host][2]*upstream.Pool{}
	each(func(t tunnel.Live) bool {
		closes := next.Config().OnRemoved == "drain" && t.Member != nil && !next.Set().Has(t.Member)
		if t.Member == nil || closes || strings.HasPrefix(t.Rule, "listener ") {
			return true
		}
		h := host{t.Host, t.Port, t.Kind}
		both, known := pools[h]
		if !known {
			for i, r := range []*router.Router{prev, next} {
				if route, err := r.Route(h.name, h.port, router.Hint{Kind: h.kind}); err == nil {
					both[i] = route.Pool
				}
			}
			pools[h] = both
		}
		if !prev.Set().Carries(both[0], t.Member) || next.Set().Carries(both[1], t.Member) {
			return true
		}
		i := slices.IndexFunc(list, func(l leftTunnels) bool { return l.exchange == t.Exchange && l.upstream == t.Upstream })
		if i < 0 {
			i, list = len(list), append(list, leftTunnels{exchange: t.Exchange, upstream: t.Upstream})
		}
		list[i].tunnels++
		return true
	})
	slices.SortFunc(list, func(a, b leftTunnels) int { return cmp.Or(b.tunnels-a.tunnels, cmp.Compare(a.String(), b.String())) })
	return list
}

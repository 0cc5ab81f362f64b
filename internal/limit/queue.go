package limit

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// waiter is a connection that waits for room.
type waiter struct {
	budgets []*Budget
	ready   chan struct{} // closed when it has its slots
	granted bool
}

// queue waits for room. The table is locked, and unlocked when it returns.
func (t *Table) queue(ctx context.Context, most time.Duration, budgets []*Budget, start int64) (Grant, error) {
	wait := t.patience(ctx, most, budgets, start)
	if at := roomAt(budgets, start); wait <= 0 || at != noDeadline && at-start > int64(wait) {
		return Grant{}, t.refuse(budgets, start, start) // unlocks
	}
	w := &waiter{budgets: budgets, ready: make(chan struct{})}
	t.waiting = append(t.waiting, w)
	for _, b := range budgets {
		b.queued++
	}
	t.serve(start)
	stop := t.stop
	t.mu.Unlock()

	enough := time.NewTimer(wait)
	defer enough.Stop()
	select {
	case <-w.ready:
	case <-enough.C:
	case <-stop:
	case <-ctx.Done():
	}
	t.mu.Lock()
	now := t.now()
	if t.due <= now { // the room came in the last moment, and the timer is late
		t.serve(now)
	}
	cancelled := errors.Is(ctx.Err(), context.Canceled)
	if !w.granted {
		t.leave(w)
	}
	switch {
	case cancelled && w.granted:
		t.unused(budgets)
		fallthrough
	case cancelled:
		t.mu.Unlock()
		return Grant{}, ctx.Err()
	case !w.granted && t.suspended:
		t.mu.Unlock()
		return Grant{}, ErrSuspended
	case !w.granted:
		return Grant{}, t.refuse(budgets, start, now) // unlocks
	}
	t.unlockAndWarn(budgets, now)
	return t.spread(ctx, start+int64(wait), budgets)
}

// patience returns how long one may wait that finds some of the budgets full.
func (t *Table) patience(ctx context.Context, most time.Duration, budgets []*Budget, now int64) time.Duration {
	for _, b := range budgets {
		if b.roomAt(now) > now {
			most = min(most, b.limits.Queue)
		}
	}
	if end, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(end))
	}
	return most
}

// spread lets one that has its slots wait a little more, at random, so that
// those that waited for the same moment do not all dial in it. Until it dials its
// slots are taken, so the windows stay exact.
func (t *Table) spread(ctx context.Context, end int64, budgets []*Budget) (Grant, error) {
	var jitter time.Duration
	t.mu.Lock()
	for _, b := range budgets {
		jitter = max(jitter, b.limits.Jitter)
	}
	left, stop := time.Duration(end-t.now()), t.stop
	t.mu.Unlock()
	g := Grant{t, budgets, granted}
	jitter = min(jitter, left/2) // the dial needs time too
	if jitter <= 0 {
		return g, nil
	}
	pause := time.NewTimer(rand.N(jitter)) //nolint:gosec // spreads load, guards nothing
	defer pause.Stop()
	select {
	case <-pause.C:
		return g, nil
	case <-stop:
		g.Unused()
		return Grant{}, ErrSuspended
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			g.Unused()
			return Grant{}, ctx.Err()
		}
		return g, nil
	}
}

// leave takes one out of the queue. The order of the others stays as it is.
func (t *Table) leave(w *waiter) {
	i := slices.Index(t.waiting, w)
	t.waiting = slices.Delete(t.waiting, i, i+1)
	for _, b := range w.budgets {
		b.queued--
	}
	if len(t.waiting) == 0 {
		t.wakeAt(noDeadline)
	}
}

// serve gives slots to those that wait, in their order, as far as there is room,
// and sets the timer for the next moment at which a window has some. It must be
// called after every change that makes room, and when the timer is due.
func (t *Table) serve(now int64) {
	if t.suspended {
		return
	}
	next := int64(noDeadline)
	still := t.waiting[:0]
	for _, w := range t.waiting {
		at := roomAt(w.budgets, now)
		if at > now {
			next = min(next, at)
			still = append(still, w)
			continue
		}
		take(w.budgets)
		for _, b := range w.budgets {
			b.queued--
		}
		w.granted = true
		close(w.ready)
	}
	clear(t.waiting[len(still):])
	t.waiting = still
	t.wakeAt(next)
}

// wakeAt sets the timer.
func (t *Table) wakeAt(at int64) {
	if at == t.due {
		return
	}
	t.due = at
	switch {
	case at == noDeadline:
		t.timer.Stop()
	case t.timer == nil:
		t.timer = time.AfterFunc(time.Duration(at-t.now()), t.wake)
	default:
		t.timer.Reset(time.Duration(at - t.now()))
	}
}

// wake runs when the timer fires.
func (t *Table) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := t.now(); t.due <= now {
		t.due = noDeadline // the timer does not stand any more
		t.serve(now)
	}
}

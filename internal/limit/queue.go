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
	ready   chan struct{} // closed when it has its slots, or is refused
	granted bool
	refused *Full
	start   int64
	end     int64 // it waits until then
	once    bool  // it does not wait: one answer of the Remote decides

	// Of one that needs shared budgets.
	dial   time.Duration // its dial may take so long
	id     uint32
	asking bool // its slots are taken here, and the Remote is asked for the others
	gone   bool // it has left meanwhile
}

// queue waits for room. The table is locked, and unlocked when it returns.
func (t *Table) queue(ctx context.Context, most time.Duration, budgets []*Budget, start int64) (Grant, error) {
	wait, at := t.patience(ctx, most, budgets, start), roomAt(budgets, start)
	if at > start && (wait <= 0 || at != noDeadline && at-start > int64(wait)) {
		return Grant{}, t.refuse(budgets, start, start) // unlocks
	}
	w := &waiter{budgets: budgets, ready: make(chan struct{}), start: start, end: start + int64(wait), once: wait <= 0, dial: dialTime(ctx)}
	t.waiting = append(t.waiting, w)
	for _, b := range budgets {
		b.queued++
	}
	t.serve(start)
	stop := t.stop
	t.mu.Unlock()

	w.wait(ctx, t, max(wait, 0), stop)
	t.mu.Lock()
	now := t.now()
	if t.due <= now { // the room came in the last moment, and the timer is late
		t.serve(now)
	}
	cancelled := errors.Is(ctx.Err(), context.Canceled)
	if !w.granted && w.refused == nil {
		t.leave(w)
	}
	switch {
	case cancelled && w.granted:
		t.unused(budgets, w.id)
		fallthrough
	case cancelled:
		t.mu.Unlock()
		return Grant{}, ctx.Err()
	case w.refused != nil:
		t.mu.Unlock()
		return Grant{}, w.refused
	case !w.granted && t.suspended:
		t.mu.Unlock()
		return Grant{}, ErrSuspended
	case !w.granted:
		return Grant{}, t.refuse(budgets, start, now) // unlocks
	}
	t.unlockAndWarn(budgets, now)
	return t.spread(ctx, Grant{t, budgets, granted, w.id}, start+int64(wait))
}

// wait waits until w has its slots, or will not get them. One whose time is over
// while the Remote is asked for it awaits that answer, which is near.
func (w *waiter) wait(ctx context.Context, t *Table, most time.Duration, stop chan struct{}) {
	enough := time.NewTimer(most)
	defer enough.Stop()
	for {
		select {
		case <-w.ready:
			return
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-enough.C:
			if !t.answerDue(w) {
				return
			}
		}
	}
}

// patience returns how long one may wait that finds some of the budgets full.
func (t *Table) patience(ctx context.Context, most time.Duration, budgets []*Budget, now int64) time.Duration {
	for _, b := range budgets {
		if b.roomAt(now) > now || b.shared.together() {
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
func (t *Table) spread(ctx context.Context, g Grant, end int64) (Grant, error) {
	var jitter time.Duration
	t.mu.Lock()
	now := t.now()
	for _, b := range g.budgets {
		jitter = max(jitter, b.jitter())
	}
	left, stop := time.Duration(end-now), t.stop
	t.mu.Unlock()
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
	w.gone = true // its slots here are given back when the Remote has answered
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
	var asks asks
	still := t.waiting[:0]
	for _, w := range t.waiting {
		if w.asking {
			still = append(still, w)
			continue
		}
		at := roomAt(w.budgets, now)
		if at > now && w.once {
			w.refused = t.full(w.budgets, w.start, now)
			w.goOn()
			continue
		}
		if at > now {
			next = min(next, at)
			still = append(still, w)
			continue
		}
		if t.remote != nil && together(w.budgets) {
			asks.add(t, w)
			still = append(still, w)
			continue
		}
		w.id, w.granted = t.take(w.dial, w.budgets), true
		w.goOn()
	}
	clear(t.waiting[len(still):])
	t.waiting = still
	t.wakeAt(next)
	asks.send(t)
}

// goOn ends the wait of one that has its slots, or is refused.
func (w *waiter) goOn() {
	for _, b := range w.budgets {
		b.queued--
	}
	close(w.ready)
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

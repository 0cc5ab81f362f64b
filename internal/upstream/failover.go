package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/limit"
	"proxyd/internal/printable"
)

// leastLeft is what must be left of a budget for another attempt to begin.
const leastLeft = time.Second

// shortWait is how long may be waited here without a word about it.
const shortWait = leastLeft / 10

// operation is what members are tried for.
type operation struct {
	reuse func(m *Member) (done bool, err error)                     // does it over a connection that is there already; nil: there is none
	open  func(ctx context.Context, m *Member, h *budgetLease) error // does it over a new one, inside ctx
	place DialSlot                                                   // may be nil
}

// failover is one search for a member that does a job for a target.
type failover struct {
	pool     *Pool
	deadline time.Time
	reserve  time.Duration // what must be left of the time after a wait for a slot
	job      operation
	look     selection
	tried    []failure.Attempt
	doubts   []unattributed
	queued   time.Duration // waited for budgets and a place
	waited   bool          // for a budget, in vain
	begun    bool          // some member was asked
	bounded  bool          // the attempt under way has attempt_seconds at most, and what is later than that is so by this machine
	dialled  time.Duration // what the dial took that ended well; 0: a plain request, whose answer is the exchange's time
	soonest  time.Duration // when one of the budgets that had no room may have some
	leave    func()
}

// run tries members until one succeeds, inside the deadline. The usable ones come
// first; the rest is ordered only after a failure.
func (w *failover) run(ctx context.Context) error {
	p := w.pool
	w.reserve = min(leastLeft, time.Until(w.deadline)/2)
	defer w.leaveSlot()
	if !p.queues(&w.look) { // nothing else is waited for: choose when it can begin
		if err := w.takePlace(ctx); err != nil {
			return err
		}
	}
	at, others := p.pick(&w.look)
	var next queue
	if at < 0 {
		if next.order = p.fallbacks(&w.look); len(next.order) == 0 {
			return p.noMemberError(&w.look)
		}
		at, others = next.take()
		next.ranked = true
	}
	for {
		m := &p.members[at]
		took, err := w.attempt(ctx, at, others)
		if err == nil {
			if !w.bounded && p.tooSlow(m.Upstream, &w.look, w.dialled) {
				m.recordUpstreamError(failure.UpstreamTimeout, m.rules.After)
			} else {
				m.recordSuccess()
			}
			for _, d := range w.doubts {
				d.recordUpstreamError(d.class, d.rules.After)
			}
			return nil
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err()
		}
		var e *failure.Error
		if !errors.As(err, &e) {
			return err
		}
		if e.Class == failure.Overload || e.Class == failure.Draining { // no slot came free in time, or another process has the budgets
			e.Tried = w.tried
			return e
		}
		e.Upstream = m.name
		w.tried = append(w.tried, failure.Attempt{Upstream: m.name, Class: e.Class, Took: took, Text: e.Text})
		if !e.Skipped && !w.cutShort(e, took) && p.recordFailure(m.Upstream, w.look.target, e, took) {
			w.doubts = append(w.doubts, unattributed{m.Upstream, e.Class})
		}
		if !next.ranked {
			next.order, next.sound = p.fallbackOrder(at, &w.look)
			next.ranked = true
		}
		if !w.retryable(e) || len(next.order) == 0 || w.begun && time.Until(w.deadline) < leastLeft {
			return w.withHistory(e)
		}
		at, others = next.take()
	}
}

// attempt has one member do the job, once its budgets have room and there is a place.
// took is without what was waited for before.
func (w *failover) attempt(ctx context.Context, at, others int) (took time.Duration, err error) {
	m, start := &w.pool.members[at], time.Now()
	was, _ := w.look.at(m.state)
	if w.job.reuse != nil {
		if done, err := w.job.reuse(m); done {
			w.begun = true
			return time.Since(start), err
		}
	}
	if w.pool.queues(&w.look) { // not while a budget is waited for
		w.leaveSlot()
	}
	h, full := w.acquireBudget(ctx, at)
	if full != nil {
		return time.Since(start), full
	}
	if err := w.takePlace(ctx); err != nil {
		h.failed(nil)
		return 0, err
	}
	if now, _ := w.look.at(m.state); now == never || now == avoided && was < avoided && others > 0 {
		h.failed(nil)
		e := failure.New(failure.NoUpstream, "was taken out of use while a place was waited for")
		e.Skipped, e.RetryAfter = true, nobodyRetry
		return 0, e
	}
	w.begun, start = true, time.Now()
	end := w.deadline
	// An attempt is cut short only for the sake of another one, and that of a
	// usable member not for one that is ejected.
	soon := start.Add(w.pool.set.attempt)
	if w.bounded = others > 0 && w.deadline.Sub(soon) >= leastLeft; w.bounded {
		end = soon
	}
	if err = w.openUntil(ctx, end, m, h); err != nil {
		h.failed(err)
	}
	return time.Since(start), err
}

// takePlace waits for a slot among the dials under way, unless the walk has one.
// It waits no longer than leaves time to dial: who would begin with less could
// only fail, and blame the far end for it.
func (w *failover) takePlace(ctx context.Context) (err error) {
	if w.job.place == nil || w.leave != nil {
		return nil
	}
	start := time.Now()
	waitCtx, cancel := context.WithDeadline(ctx, w.deadline.Add(-w.reserve))
	w.leave, err = w.job.place(waitCtx)
	cancel()
	w.note(time.Since(start))
	return err
}

// leaveSlot gives back the slot that the walk has, if it has one.
func (w *failover) leaveSlot() {
	if w.leave != nil {
		w.leave()
		w.leave = nil
	}
}

// cutShort reports whether an attempt ran out of time that had been spent on
// waiting here, which is no failure of the member.
func (w *failover) cutShort(e *failure.Error, took time.Duration) bool {
	return w.queued >= shortWait && took < w.pool.set.attempt && (e.Class == failure.UpstreamTimeout || e.Class == failure.TargetTimeout)
}

// note adds up what was waited; less than a millisecond is none.
func (w *failover) note(d time.Duration) {
	if d >= time.Millisecond {
		w.queued += d
	}
}

// openUntil runs one attempt. Most need no timer beside the one that ctx has.
func (w *failover) openUntil(ctx context.Context, end time.Time, m *Member, h *budgetLease) error {
	if have, ok := ctx.Deadline(); ok && !have.After(end) {
		return w.job.open(ctx, m, h)
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	return w.job.open(ctx, m, h)
}

// queue is who follows.
type queue struct {
	order  []int
	sound  int // so many of them, at the front, are usable
	ranked bool
}

// take gives the next one, and how many of its kind are left.
func (q *queue) take() (at, others int) {
	at, q.order = q.order[0], q.order[1:]
	if q.sound > 0 {
		q.sound--
		return at, q.sound
	}
	return at, len(q.order)
}

// retryable says whether the next member may do better.
func (w *failover) retryable(e *failure.Error) bool {
	if e.Final {
		return false
	}
	switch e.Class {
	case failure.Denied, failure.BadRequest:
		return false
	case failure.TargetRefused, failure.TargetUnreachable, failure.TargetDNS, failure.TargetTimeout, failure.TargetProtocol:
		return e.Unsure || w.pool.set.retryTarget
	}
	return true
}

// withHistory is the last attempt's error, whose text names those before it.
func (w *failover) withHistory(e *failure.Error) *failure.Error {
	e.Tried = w.tried
	if !slices.ContainsFunc(w.tried, func(a failure.Attempt) bool { return a.Class != failure.Budget }) {
		e.Text, e.RetryAfter = w.allFull(), w.soonest
	} else if n := len(w.tried); n > 1 {
		var before []string
		for _, a := range w.tried[:n-1] {
			before = append(before, a.Upstream+" "+a.Text)
		}
		e.Text = e.Upstream + " " + e.Text + fmt.Sprintf("; before that: %s; %d tried", strings.Join(before, "; "), n)
	}
	if e.Class == failure.UpstreamTimeout || e.Class == failure.TargetTimeout {
		hint := "if it is only slow, raise timeout_seconds"
		if w.queued >= shortWait {
			e.Text += fmt.Sprintf("; %s had been waited here before", printable.Seconds(w.queued))
			hint = "open fewer connections at once, or raise timeout_seconds"
		}
		e.Hint = cmp.Or(e.Hint, hint)
	}
	return e
}

// allFull says of all members' budgets that they had no room: of one that
// several share it says so once.
func (w *failover) allFull() string {
	var texts []string
	for _, a := range w.tried {
		if !slices.Contains(texts, a.Text) {
			texts = append(texts, a.Text)
		}
	}
	if more := len(texts) - 5; more > 0 {
		texts = append(texts[:5], fmt.Sprintf("%d more", more))
	}
	return strings.Join(texts, "; ")
}

// mayHaveCome reports whether after this failure the target may have seen a
// connection. Who was turned away by the upstream, or was told that there is no
// such name, was not let through to it.
func mayHaveCome(err error) bool {
	e, ok := errors.AsType[*failure.Error](err)
	if !ok {
		return false
	}
	switch e.Class {
	case failure.UpstreamAuth, failure.UpstreamDenied, failure.TargetDNS:
		return false
	}
	return e.Sent
}

// acquireBudget takes a place in m's budgets. It waits for one inside the time budget,
// but in a whole walk for one member alone.
func (w *failover) acquireBudget(ctx context.Context, at int) (*budgetLease, *failure.Error) {
	n := w.pool.need(at, &w.look)
	if len(n.budgets) == 0 {
		return nil, nil
	}
	var most time.Duration
	if left := time.Until(w.deadline); !w.waited { // the dial needs time too
		most = left - min(leastLeft, left/2)
	}
	st := w.pool.members[at].state
	st.dialling.Add(1) // so that least_connections sees who has a queue
	defer st.dialling.Add(-1)
	start := time.Now()
	grant, err := w.look.shared.limits.Acquire(ctx, most, n.budgets)
	w.note(time.Since(start))
	if err == nil {
		return &budgetLease{grant: grant}, nil
	}
	if errors.Is(err, limit.ErrSuspended) {
		return nil, suspendedFault(err)
	}
	f, ok := err.(*limit.Full) //nolint:errorlint // Acquire promises the very type
	if !ok {
		return nil, &failure.Error{Class: failure.Budget, Err: err} // the caller has given up
	}
	w.waited = w.waited || f.Queued > 0
	if w.soonest == 0 || f.RetryAfter > 0 && f.RetryAfter < w.soonest {
		w.soonest = f.RetryAfter
	}
	return nil, fullFault(f)
}

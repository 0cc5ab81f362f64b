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

// leastLeft is the least time that must be left for another attempt.
const leastLeft = time.Second

// shortWait is the longest wait that messages do not mention.
const shortWait = leastLeft / 10

// operation is what is tried with one member after the other.
type operation struct {
	reuse func(m *Member) (done bool, err error)                     // over an idle connection; nil: there is none
	open  func(ctx context.Context, m *Member, h *budgetLease) error // over a new connection, within ctx
	slot  DialSlot                                                   // may be nil
}

// failover tries an operation for one target with one member after the other.
type failover struct {
	pool         *Pool
	deadline     time.Time
	reserve      time.Duration // time that must be left after a wait for a slot
	operation    operation
	selection    selection
	tried        []failure.Attempt
	unattributed []unattributed
	queued       time.Duration // waited for budgets and a slot
	waited       bool          // for a budget, in vain
	begun        bool          // some member was asked
	bounded      bool          // the attempt has attempt_seconds at most; a later result is delayed by this machine
	dialled      time.Duration // how long the successful dial took; 0 for a plain request, whose time is the exchange's
	soonest      time.Duration // until one of the exhausted budgets may have room
	leave        func()
}

// run tries members until one succeeds, within the deadline. The usable ones come
// first; the others are ordered only after a failure.
func (w *failover) run(ctx context.Context) error {
	p := w.pool
	w.reserve = min(leastLeft, time.Until(w.deadline)/2)
	defer w.leaveSlot()
	if !p.queues(&w.selection) { // no other wait follows: choose when the dial can begin
		if err := w.takeSlot(ctx); err != nil {
			return err
		}
	}
	at, others := p.pick(&w.selection)
	var next queue
	if at < 0 {
		if next.order = p.fallbacks(&w.selection); len(next.order) == 0 {
			return p.noMemberError(&w.selection)
		}
		at, others = next.take()
		next.ranked = true
	}
	for {
		m := &p.members[at]
		took, err := w.attempt(ctx, at, others)
		if err == nil {
			if !w.bounded && p.tooSlow(m.Upstream, &w.selection, w.dialled) {
				m.recordUpstreamError(failure.UpstreamTimeout, m.rules.After)
			} else {
				m.recordSuccess()
			}
			for _, d := range w.unattributed {
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
		if e.Class == failure.Overload || e.Class == failure.Draining { // no slot was free in time, or another process has the budgets
			e.Tried = w.tried
			return e
		}
		e.Upstream = m.name
		w.tried = append(w.tried, failure.Attempt{Upstream: m.name, Class: e.Class, Took: took, Text: e.Text})
		if !e.Skipped && !w.cutShort(e, took) && p.recordFailure(m.Upstream, w.selection.target, e, took) {
			w.unattributed = append(w.unattributed, unattributed{m.Upstream, e.Class})
		}
		if !next.ranked {
			next.order, next.usable = p.fallbackOrder(at, &w.selection)
			next.ranked = true
		}
		if !w.retryable(e) || len(next.order) == 0 || w.begun && time.Until(w.deadline) < leastLeft {
			return w.withHistory(e)
		}
		at, others = next.take()
	}
}

// attempt runs the operation with one member, once its budgets have room and a slot
// is free. took is without those waits.
func (w *failover) attempt(ctx context.Context, at, others int) (took time.Duration, err error) {
	m, start := &w.pool.members[at], time.Now()
	was, _ := w.selection.at(m.state)
	if w.operation.reuse != nil {
		if done, err := w.operation.reuse(m); done {
			w.begun = true
			return time.Since(start), err
		}
	}
	if w.pool.queues(&w.selection) { // not held while waiting for a budget
		w.leaveSlot()
	}
	h, full := w.acquireBudget(ctx, at)
	if full != nil {
		return time.Since(start), full
	}
	if err := w.takeSlot(ctx); err != nil {
		h.failed(nil)
		return 0, err
	}
	if now, _ := w.selection.at(m.state); now == never || now == avoided && was < avoided && others > 0 {
		h.failed(nil)
		e := failure.New(failure.NoUpstream, "was taken out of use during the wait for a slot")
		e.Skipped, e.RetryAfter = true, defaultRetryAfter
		return 0, e
	}
	w.begun, start = true, time.Now()
	end := w.deadline
	// An attempt is cut short only in favour of another one, and one through a
	// usable member not in favour of an ejected one.
	soon := start.Add(w.pool.set.attempt)
	if w.bounded = others > 0 && w.deadline.Sub(soon) >= leastLeft; w.bounded {
		end = soon
	}
	if err = w.openUntil(ctx, end, m, h); err != nil {
		h.failed(err)
	}
	return time.Since(start), err
}

// takeSlot waits for a slot among the dials in progress, unless w has one. It keeps
// some time for the dial: with less it could only fail, and blame the far end.
func (w *failover) takeSlot(ctx context.Context) (err error) {
	if w.operation.slot == nil || w.leave != nil {
		return nil
	}
	start := time.Now()
	w.leave, err = w.operation.slot(ctx, w.deadline.Add(-w.reserve))
	w.addQueued(time.Since(start))
	return err
}

// leaveSlot gives back the slot of w, if it has one.
func (w *failover) leaveSlot() {
	if w.leave != nil {
		w.leave()
		w.leave = nil
	}
}

// cutShort reports whether an attempt ran out of time because of the waits before
// it, which is no failure of the member.
func (w *failover) cutShort(e *failure.Error, took time.Duration) bool {
	return w.queued >= shortWait && took < w.pool.set.attempt && (e.Class == failure.UpstreamTimeout || e.Class == failure.TargetTimeout)
}

// addQueued adds to the time that was waited; less than a millisecond is none.
func (w *failover) addQueued(d time.Duration) {
	if d >= time.Millisecond {
		w.queued += d
	}
}

// openUntil runs one attempt. Most need no timer beside that of ctx.
func (w *failover) openUntil(ctx context.Context, end time.Time, m *Member, h *budgetLease) error {
	if have, ok := ctx.Deadline(); ok && !have.After(end) {
		return w.operation.open(ctx, m, h)
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	return w.operation.open(ctx, m, h)
}

// queue holds the members that follow.
type queue struct {
	order  []int
	usable int // how many of them, at the front, are usable
	ranked bool
}

// take removes the next one, and returns how many like it are left.
func (q *queue) take() (at, others int) {
	at, q.order = q.order[0], q.order[1:]
	if q.usable > 0 {
		q.usable--
		return at, q.usable
	}
	return at, len(q.order)
}

// retryable reports whether the next member may do better.
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

// withHistory returns the last attempt's error, with those before it in its text.
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

// allFull returns the text of an error when no member's budgets had room; a budget
// that several share is named once.
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

// mayHaveReached reports whether after this failure the target may have seen a
// connection. A refusal by the upstream, or an unknown name, did not reach it.
func mayHaveReached(err error) bool {
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

// acquireBudget takes a lease of the member's budgets. It waits for one within the
// deadline, but only for one member in a whole failover.
func (w *failover) acquireBudget(ctx context.Context, at int) (*budgetLease, *failure.Error) {
	n := w.pool.requirement(at, &w.selection)
	if len(n.budgets) == 0 {
		return nil, nil
	}
	var most time.Duration
	if left := time.Until(w.deadline); !w.waited { // the dial needs time too
		most = left - min(leastLeft, left/2)
	}
	st := w.pool.members[at].state
	st.dialling.Add(1) // so that least_connections sees the queue
	defer st.dialling.Add(-1)
	start := time.Now()
	grant, err := w.selection.shared.limits.Acquire(ctx, most, n.budgets)
	w.addQueued(time.Since(start))
	if err == nil {
		return &budgetLease{grant: grant}, nil
	}
	if errors.Is(err, limit.ErrSuspended) {
		return nil, suspendedError(err)
	}
	f, ok := err.(*limit.Full) //nolint:errorlint // Acquire promises the very type
	if !ok {
		return nil, &failure.Error{Class: failure.Budget, Err: err} // the caller has given up
	}
	w.waited = w.waited || f.Queued > 0
	if w.soonest == 0 || f.RetryAfter > 0 && f.RetryAfter < w.soonest {
		w.soonest = f.RetryAfter
	}
	return nil, fullError(f)
}

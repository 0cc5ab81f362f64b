package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// leastLeft is what must be left of a budget for another attempt to begin.
const leastLeft = time.Second

// walk tries members for t until one succeeds, inside the deadline. The usable
// ones come first; the rest is ordered only after a failure.
func (p *Pool) walk(ctx context.Context, deadline time.Time, t *Target, try func(context.Context, *Member) error) ([]Attempt, error) {
	l := look{shared: p.set.shared, target: t}
	at, others := p.pick(&l)
	var next queue
	if at < 0 {
		if next.order = p.avoided(&l); len(next.order) == 0 {
			return nil, p.nobody(&l)
		}
		at, others = next.take()
		next.ranked = true
	}
	var tried []Attempt
	var doubts []doubt
	for {
		start := time.Now()
		end := deadline
		// An attempt is cut short only for the sake of another one, and that of a
		// usable member not for one that is ejected.
		if soon := start.Add(p.set.attempt); others > 0 && deadline.Sub(soon) >= leastLeft {
			end = soon
		}
		m := &p.members[at]
		err := tryUntil(ctx, end, m, try)
		if err == nil {
			m.worked()
			for _, d := range doubts {
				d.charge(d.class, d.rules.After)
			}
			return tried, nil
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return tried, ctx.Err()
		}
		var e *Error
		if !errors.As(err, &e) {
			return tried, err
		}
		e.Upstream = m.name
		took := time.Since(start)
		tried = append(tried, Attempt{m.name, e.Class, took, e.Text})
		if p.blame(m.Upstream, t, e, took) {
			doubts = append(doubts, doubt{m.Upstream, e.Class})
		}
		if !next.ranked {
			next.order, next.sound = p.rest(at, &l)
			next.ranked = true
		}
		if !p.goesOn(e) || len(next.order) == 0 || time.Until(deadline) < leastLeft {
			return tried, summed(e, tried)
		}
		at, others = next.take()
	}
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

// doubt is a failure that was the upstream's own if another one opens the way.
type doubt struct {
	*Upstream
	class Class
}

// blame remembers a failed attempt. It reports whether it is in doubt whose
// fault it was.
func (p *Pool) blame(u *Upstream, t *Target, e *Error, took time.Duration) (doubtful bool) {
	u.state.failed(e.Class)
	own, plain := ownFault(e)
	switch timeout := e.Class == ClassUpstreamTimeout || e.Class == ClassTargetTimeout; {
	case e.Class == ClassUpstreamDenied:
		u.deny(t, e)
	case timeout && took < min(p.set.attempt, leastLeft): // the budget was spent elsewhere
	case plain && !e.hop:
		u.charge(e.Class, 1)
	case own:
		u.charge(e.Class, u.rules.After)
	default:
		return e.Unsure
	}
	return false
}

// tryUntil runs one attempt. Most need no timer beside the one that ctx has.
func tryUntil(ctx context.Context, end time.Time, m *Member, try func(context.Context, *Member) error) error {
	if have, ok := ctx.Deadline(); ok && !have.After(end) {
		return try(ctx, m)
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	return try(ctx, m)
}

// goesOn says whether the next member may do better.
func (p *Pool) goesOn(e *Error) bool {
	if e.final {
		return false
	}
	switch e.Class {
	case ClassDenied, ClassBadRequest:
		return false
	case ClassTargetRefused, ClassTargetUnreachable, ClassTargetDNS, ClassTargetTimeout:
		return e.Unsure || p.set.retryTarget
	}
	return true
}

// summed is the last attempt's error, whose text names those before it.
func summed(e *Error, tried []Attempt) *Error {
	e.Tried = tried
	if n := len(tried); n > 1 {
		var before []string
		for _, a := range tried[:n-1] {
			before = append(before, a.Upstream+" "+a.Text)
		}
		e.Text = e.Upstream + " " + e.Text + fmt.Sprintf("; before that: %s; %d tried", strings.Join(before, "; "), n)
	}
	if e.Hint == "" && (e.Class == ClassUpstreamTimeout || e.Class == ClassTargetTimeout) {
		e.Hint = "if it is only slow, raise timeout_seconds"
	}
	return e
}

package tunnel

import (
	"context"
	"errors"
	"slices"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/upstream"
)

// earlier is what is remembered of an inquiry: less than its records would hold.
type earlier struct {
	began  time.Time
	owners []string
}

// inquiry is a question that several ends have in common.
type inquiry struct {
	member *upstream.Upstream
	began  time.Time // the first end
	ends   []*Record
}

// inquire decides who ended the connections of q, and emits their records.
func (h *Handler) inquire(known *memberEnds, q *inquiry) {
	h.pause(settleTime)
	if alive, ended := h.siblings(q); alive && h.several(known, q, ended) {
		h.pause(settleMore)
	}
	by := h.decide(known, q)
	h.endings.mu.Lock()
	if by == ByUpstream {
		known.died = q.began
	}
	known.open, known.before = nil, earlier{q.began, nil}
	for _, r := range q.ends[:min(len(q.ends), sampleSize)] {
		known.before.owners = append(known.before.owners, r.owner())
	}
	h.endings.mu.Unlock()
	h.emitClosedBy(by, q.ends...)
}

// pause waits, unless all tunnels are being closed.
func (h *Handler) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-h.ctx.Done():
	}
}

// several reports whether more than one connection ended: a member may be dying.
func (h *Handler) several(known *memberEnds, q *inquiry, ended []string) bool {
	h.endings.mu.Lock()
	defer h.endings.mu.Unlock()
	return len(q.ends)+len(ended)+len(known.before.of(q)) > 1
}

// of returns the owners of the connections that ended in e and may have ended for
// q's cause: all of q's were open then.
func (e *earlier) of(q *inquiry) []string {
	if q.began.Sub(e.began).Abs() > sameTime {
		return nil
	}
	for _, r := range q.ends {
		if r.Start.Add(r.Dial).After(e.began) {
			return nil
		}
	}
	return e.owners
}

// decide returns who ended the connections of q. Another connection through the
// member that goes on shows that the member lives, and so does one that has opened
// and ended since; if connections to several exchanges ended with no such, the member
// died. In between, where one exchange may be as much to blame, a connection to the
// member is tried.
func (h *Handler) decide(known *memberEnds, q *inquiry) string {
	alive, ended := h.siblings(q)
	if alive || h.comeAndGo(q) {
		return ByExchange
	}
	h.endings.mu.Lock()
	for _, r := range q.ends {
		ended = append(ended, r.owner())
	}
	ended = append(ended, known.before.of(q)...)
	mayPing, began := known.pings.take(pingRate, time.Now()), q.began
	h.endings.mu.Unlock()
	if slices.ContainsFunc(ended, func(owner string) bool { return owner != ended[0] }) {
		return ByUpstream
	}
	switch {
	case mayPing && h.isDown(q.member):
		return ByUpstream
	case len(ended) > 1 && h.goesOnElsewhere(ended[0], q.member, began):
		return ByUpstream
	}
	return ByExchange
}

// comeAndGo reports whether a connection through q's member was opened and has ended
// since q began, as short ones do through a member that works.
func (h *Handler) comeAndGo(q *inquiry) (yes bool) {
	h.endings.mu.Lock()
	began := q.began
	for _, r := range q.ends {
		yes = yes || r.Start.Add(r.Dial).After(began)
	}
	h.endings.mu.Unlock()
	if yes {
		return true
	}
	h.all(func(t *Tunnel) bool {
		if flow := t.flow.Load(); flow != nil && t.record.Start.Add(t.record.Dial).After(began) && t.member != nil && t.member.ID() == q.member.ID() {
			_, yes, _ = flow.Server()
		}
		return !yes
	})
	return yes
}

// owner returns the exchange, or the host where it belongs to none.
func (o *Opening) owner() string {
	if o.Exchange == "" {
		return o.Host
	}
	return o.Exchange
}

// siblings looks at connections through q's member that were open when its first
// one ended, those to other exchanges first. It returns whether one goes on, and
// the owners of those that have just ended too.
func (h *Handler) siblings(q *inquiry) (alive bool, ended []string) {
	h.endings.mu.Lock()
	began, owner := q.began, q.ends[0].owner()
	h.endings.mu.Unlock()
	for _, others := range []bool{true, false} {
		var gone []string
		alive, gone = h.sample(began, func(t *Tunnel) bool {
			return t.member != nil && t.member.ID() == q.member.ID() && (t.record.owner() != owner) == others
		})
		ended = append(ended, gone...)
		if alive {
			return true, ended
		}
	}
	return false, ended
}

// goesOnElsewhere reports whether a connection to an exchange, open at a time, goes
// on through another member than m.
func (h *Handler) goesOnElsewhere(owner string, m *upstream.Upstream, at time.Time) bool {
	alive, _ := h.sample(at, func(t *Tunnel) bool {
		return t.record.owner() == owner && (t.member == nil || t.member.ID() != m.ID())
	})
	return alive
}

// sample looks at the servers' ends of some of the tunnels that were open at a
// time. It returns whether one is still there, and the owners of those that have ended
// within sameTime.
func (h *Handler) sample(at time.Time, want func(*Tunnel) bool) (alive bool, ended []string) {
	n := 0
	h.all(func(t *Tunnel) bool {
		flow := t.flow.Load()
		if flow == nil || !t.record.Start.Add(t.record.Dial).Before(at) || !want(t) {
			return true
		}
		there, gone, when := flow.Server()
		if gone && when.Sub(at).Abs() < sameTime {
			ended = append(ended, t.record.owner())
		}
		alive = there
		n++
		return !alive && n < sampleSize
	})
	return alive, ended
}

// isDown reports whether a connection to a member fails by its own doing.
func (h *Handler) isDown(m *upstream.Upstream) bool {
	set := h.snapshot().Set()
	now := set.Upstream(m.Name())
	if now == nil || now.ID() != m.ID() {
		return false
	}
	ctx, cancel := context.WithTimeout(h.ctx, pingTime)
	defer cancel()
	e, failed := errors.AsType[*failure.Error](set.Ping(ctx, now))
	if !failed {
		return false
	}
	switch e.Class {
	case failure.UpstreamRefused, failure.UpstreamUnreachable, failure.UpstreamProtocol, failure.UpstreamTLS:
		return true
	}
	return false
}

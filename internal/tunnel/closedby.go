package tunnel

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/relay"
	"proxyd/internal/upstream"
)

// What stands in Record.ClosedBy.
const (
	ByClient   = "client"
	ByUpstream = "upstream" // the proxy server, or the path to it
	ByExchange = "exchange" // the target
	ByProxyd   = "proxyd"   // a limit, or the operator
)

// closedBy returns who ended a connection, and false if that is not clear: a
// proxy passes on the exchange's end, and its own looks the same.
func closedBy(s relay.Stats, direct bool) (by string, clear bool) {
	switch {
	case s.ClosedBy != relay.Server:
		return string(s.ClosedBy), true
	case direct:
		return ByExchange, true
	case s.Reason == relay.ReasonDead: // the path, and that leads to the proxy
		return ByUpstream, true
	case s.Reason == relay.ReasonError && !errors.Is(s.Err, io.ErrUnexpectedEOF): // TLS to the proxy
		return ByUpstream, true
	}
	return ByExchange, false
}

const (
	settleTime  = 50 * time.Millisecond  // a proxy that dies takes so long to lose all its connections and its listener
	settleMore  = 200 * time.Millisecond // and so much longer on a busy machine
	sameTime    = time.Second            // ends so close together may have one cause
	pingTime    = 300 * time.Millisecond
	sampleSize  = 8 // connections that are looked at
	mostMembers = 64
)

// pingRate is how often a member may be connected to, to see whether it lives.
var pingRate = rate{burst: 3, perSecond: 1}

// endings finds out who ended the connections through proxies: a proxy that dies
// loses them all at once. The ends of one member within settleTime are one
// inquiry; their records wait for it. Its methods are safe for concurrent use.
type endings struct {
	mu      sync.Mutex
	members map[config.Identity]*memberEnds
}

// memberEnds is what is known of the ends of one member's connections.
type memberEnds struct {
	open   *inquiry
	before earlier   // the last inquiry
	died   time.Time // when it was last found to have died
	pings  allowance
}

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

// emitEnd emits r, and counts it as done, when it is known who ended it: at once,
// or after an inquiry. m is the member, nil if it is not known here.
func (h *Handler) emitEnd(r *Record, m *upstream.Upstream, s relay.Stats) {
	by, clear := closedBy(s, m == nil || m.IsDirect())
	if clear {
		h.emitClosedBy(by, r)
		return
	}
	if s.At.IsZero() {
		s.At = time.Now()
	}
	e := &h.endings
	e.mu.Lock()
	known := e.of(m.ID())
	if gap := s.At.Sub(known.died); r.Start.Before(known.died) && gap < sameTime && gap > -sameTime {
		e.mu.Unlock()
		h.emitClosedBy(ByUpstream, r)
		return
	}
	if q := known.open; q != nil {
		q.ends = append(q.ends, r)
		if s.At.Before(q.began) {
			q.began = s.At
		}
		e.mu.Unlock()
		return
	}
	q := &inquiry{member: m, began: s.At, ends: []*Record{r}}
	known.open = q
	e.mu.Unlock()
	go h.inquire(known, q) // ends within settleTime, settleMore and pingTime; Wait waits for it
}

// emitClosedBy emits the records of ends.
func (h *Handler) emitClosedBy(by string, ends ...*Record) {
	for _, r := range ends {
		r.ClosedBy = by
		h.emit(r)
	}
	h.emitted(len(ends))
}

// of returns what is known of a member.
func (e *endings) of(id config.Identity) *memberEnds {
	known := e.members[id]
	if known != nil {
		return known
	}
	if len(e.members) >= mostMembers {
		for old, m := range e.members {
			if m.open == nil && time.Since(m.died) > sameTime {
				delete(e.members, old)
			}
		}
	}
	if e.members == nil {
		e.members = map[config.Identity]*memberEnds{}
	}
	known = &memberEnds{}
	e.members[id] = known
	return known
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

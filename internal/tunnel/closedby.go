package tunnel

import (
	"errors"
	"io"
	"sync"
	"time"

	"proxyd/internal/config"
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
// loses them all together. The ends of one member within settleTime are one
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
	if h.ending != nil {
		h.ending(r)
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

package upstream

import (
	"maps"
	"sync"
	"sync/atomic"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
)

// state is what is remembered of an upstream for as long as some configuration
// has its identity. The Upstreams of one set after the other point to it.
type state struct {
	marks     atomic.Uint32 // what choosing has to look at; 0 is the good case
	live      atomic.Int64  // ways that are open
	dialling  atomic.Int64  // attempts under way
	connects  atomic.Uint64 // ways that were opened
	pairsSeen atomic.Pointer[[]*exchangeState]

	mu       sync.Mutex
	failures map[failure.Class]uint64 // attempts that failed
	health   health
}

// The marks.
const (
	markEjected = 1 << iota
	markDrained
	markPairs  // some pair has a verdict that may be bad, or is drained
	markStreak // failures in a row
)

func newState() *state {
	st := &state{failures: map[failure.Class]uint64{}}
	st.pairsSeen.Store(&[]*exchangeState{})
	return st
}

// mark sets or clears marks, and ends the views that were made with the old
// ones. u.state.mu is held.
func (u *Upstream) mark(m uint32, on bool) {
	var old uint32
	if on {
		old = u.state.marks.Or(m)
	} else {
		old = u.state.marks.And(^m)
	}
	if m &^= markStreak; on && old&m != m || !on && old&m != 0 {
		u.shared.epoch.Add(1)
	}
}

// failed counts an attempt.
func (st *state) failed(c failure.Class) {
	st.mu.Lock()
	st.failures[c]++
	st.mu.Unlock()
}

// failuresByClass are those so far.
func (st *state) failuresByClass() map[failure.Class]uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return maps.Clone(st.failures)
}

// count counts a way to t that is open, until the function that it gives is
// called; hop releases the hop before.
func (u *Upstream) count(t *Target, hop func()) (release func()) {
	u.state.connects.Add(1)
	return chain(u.adopt(t.Exchange, t.Kind), hop)
}

// alive counts ways of a pair. The first and the last one may change what a
// verdict says.
func (s *shared) alive(pr *exchangeState, n int64) {
	if now := pr.live.Add(n); (now == 0 || now == n) && pr.verdict.Load() != nil {
		s.epoch.Add(1)
	}
}

// adopt counts a way that is open, until the function that it gives is called.
func (u *Upstream) adopt(exchange string, kind catalog.Kind) (release func()) {
	st, sh, pr := u.state, u.shared, u.exchange(exchange, kind) // not u: a tunnel must not hold on to a whole set
	st.live.Add(1)
	sh.alive(pr, 1)
	return func() {
		st.live.Add(-1)
		sh.alive(pr, -1)
	}
}

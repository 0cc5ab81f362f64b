package upstream

import (
	"maps"
	"sync"
	"sync/atomic"
)

// state is what is remembered of an upstream for as long as some configuration
// has its identity. The Upstreams of one set after the other point to it.
type state struct {
	live     atomic.Int64  // ways that are open
	dialling atomic.Int64  // attempts under way
	connects atomic.Uint64 // ways that were opened

	mu       sync.Mutex
	failures map[Class]uint64 // attempts that failed
}

func newState() *state { return &state{failures: map[Class]uint64{}} }

// opened counts a way that is open, until the function that it gives is called.
func (st *state) opened() (release func()) {
	st.connects.Add(1)
	st.live.Add(1)
	return func() { st.live.Add(-1) }
}

// failed counts an attempt.
func (st *state) failed(c Class) {
	st.mu.Lock()
	st.failures[c]++
	st.mu.Unlock()
}

// failed so far, by class.
func (st *state) failuresByClass() map[Class]uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return maps.Clone(st.failures)
}

package upstream

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"proxyd/internal/catalog"
)

// pairKey is an exchange, "" for other hosts, and a kind.
type pairKey struct {
	exchange string
	kind     catalog.Kind
}

// pairs numbers the pairs of exchange and kind that have been used, so that a choice
// among any number of members needs one look-up in a map. It is safe for concurrent
// use.
type pairs struct {
	mu    sync.Mutex
	known atomic.Pointer[pairList]
}

type pairList struct {
	at   map[pairKey]int
	keys []pairKey
}

func newPairs() *pairs {
	p := &pairs{}
	p.known.Store(&pairList{at: map[pairKey]int{}})
	return p
}

// find returns a pair's number, -1 if it has none.
func (p *pairs) find(k pairKey) int {
	if i, ok := p.known.Load().at[k]; ok {
		return i
	}
	return -1
}

// number returns a pair's number; a new pair gets the next one.
func (p *pairs) number(k pairKey) int {
	if i := p.find(k); i >= 0 {
		return i
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.known.Load()
	if i, ok := old.at[k]; ok {
		return i
	}
	next := &pairList{maps.Clone(old.at), append(slices.Clone(old.keys), k)}
	next.at[k] = len(old.keys)
	p.known.Store(next)
	return len(old.keys)
}

// exchangeState is what is known of one upstream for one exchange and kind.
type exchangeState struct {
	live     atomic.Int64 // open connections
	latency  atomic.Int64 // moving average of the time that a dial takes, in ns; 0 unknown
	usual    atomic.Int64 // the same, but a few slow dials change it little
	slow     atomic.Int64 // what the dial took that degraded the pair
	degraded atomic.Int64 // the pair is degraded until then; as measured, 0: it is not
	measured atomic.Int64 // when latency was last updated, in ns on shared's clock; 0 never
	tried    atomic.Int64 // when a dial was last made to measure it; as measured
	carried  atomic.Int64 // when a tunnel last showed that the exchange serves the exit; as measured
	answered atomic.Int64 // when it last answered a plain request; as measured
	short    atomic.Uint64
	row      atomic.Int64 // short tunnels in a row
	drained  atomic.Bool
	verdict  atomic.Pointer[storedVerdict]
}

// observeLatency updates the average. Of two concurrent updates one may be lost.
func (pr *exchangeState) observeLatency(d time.Duration, at int64) {
	next := int64(d)
	if old := pr.latency.Load(); old != 0 {
		next = old + (next-old)/4
	}
	pr.latency.Store(max(next, 1))
	pr.measured.Store(at)
}

// pairAt returns the state of the pair of that number, nil if there is none.
func (st *state) pairAt(i int) *exchangeState {
	if list := *st.pairs.Load(); i >= 0 && i < len(list) {
		return list[i]
	}
	return nil
}

// known returns the state for an exchange and a kind, nil if there is none.
func (u *Upstream) known(exchange string, kind catalog.Kind) *exchangeState {
	return u.state.pairAt(u.shared.pairs.find(pairKey{exchange, kind}))
}

// exchange returns the state for an exchange and a kind, a new one if need be.
func (u *Upstream) exchange(exchange string, kind catalog.Kind) *exchangeState {
	i := u.shared.pairs.number(pairKey{exchange, kind})
	if pr := u.state.pairAt(i); pr != nil {
		return pr
	}
	u.state.mu.Lock()
	defer u.state.mu.Unlock()
	if pr := u.state.pairAt(i); pr != nil {
		return pr
	}
	old := *u.state.pairs.Load()
	next := make([]*exchangeState, max(i+1, len(old)))
	copy(next, old)
	next[i] = &exchangeState{}
	u.state.pairs.Store(&next)
	return next[i]
}

// eachPair calls do for each pair with a state, in the order of first use.
func (u *Upstream) eachPair(do func(k pairKey, pr *exchangeState)) {
	keys := u.shared.pairs.known.Load().keys
	for i, pr := range *u.state.pairs.Load() {
		if pr != nil && i < len(keys) {
			do(keys[i], pr)
		}
	}
}

// opened records a dial to t that succeeded at a time, after took.
func (u *Upstream) opened(t *Target, took time.Duration, at time.Time) {
	u.observeDial(t.Exchange, t.Kind, took, u.shared.elapsed(at))
}

// observeDial records how long a successful dial took. One that took many times
// what is usual for the pair degrades it for a while; the next quick one ends that.
func (u *Upstream) observeDial(exchange string, kind catalog.Kind, took time.Duration, at int64) {
	pr := u.exchange(exchange, kind)
	pr.observeLatency(took, at)
	usual := pr.usual.Load()
	if usual == 0 {
		pr.usual.Store(max(int64(took), 1))
		return
	}
	slow := took >= slowLeast && int64(took) > slowFactor*usual
	pr.usual.Store(usual + (min(int64(took), 2*usual)-usual)/usualWeight)
	switch until := pr.degraded.Load(); {
	case slow:
		pr.slow.Store(int64(took))
		pr.degraded.Store(at + int64(degradedFor))
	case until == 0:
		return
	default:
		pr.degraded.Store(0)
	}
	u.state.mu.Lock()
	defer u.state.mu.Unlock()
	u.markPairs()
}

// isDegraded reports whether the pair is degraded, and until when.
func (pr *exchangeState) isDegraded(l *shared, now time.Time) (until time.Time, ok bool) {
	end := pr.degraded.Load()
	if end == 0 || l.elapsed(now) >= end {
		return time.Time{}, false
	}
	return l.start.Add(time.Duration(end)), true
}

// A websocket tunnel that ends within shortTime, though the client has sent a
// request, looks like an exchange that rejects the exit; shortWarn in a row are
// worth a warning. The bytes received say nothing: a TLS handshake is several KiB.
const (
	shortTime    = 5 * time.Second
	shortWarn    = 3
	carriedBytes = 2 << 10 // the least that an exchange sends in a longer time if it serves the client
)

// Ended records that a tunnel for an exchange has ended: after how long, and with
// how many bytes from the client and from the exchange. When websocket tunnels of
// the pair end very soon it returns how many did in a row, once for each such row,
// else 0.
func (u *Upstream) Ended(exchange string, kind catalog.Kind, lived time.Duration, up, down int64) (short int) {
	pr := u.exchange(exchange, kind)
	if lived >= shortTime {
		if down >= carriedBytes {
			pr.carried.Store(u.shared.elapsed(u.shared.now()))
		}
		pr.row.Store(0)
		return 0
	}
	if kind != catalog.KindWebsocket || up == 0 {
		return 0
	}
	pr.short.Add(1)
	if pr.row.Add(1) != shortWarn {
		return 0
	}
	return shortWarn
}

// LastSeen returns when a connection of u for an exchange and a kind was last
// opened, by traffic or a probe, and when a tunnel last showed that the exchange
// serves the exit: an open websocket shows it now. The zero time means never.
func (u *Upstream) LastSeen(exchange string, kind catalog.Kind) (opened, carried time.Time) {
	pr := u.known(exchange, kind)
	if pr == nil {
		return opened, carried
	}
	if at := pr.measured.Load(); at != 0 {
		opened = u.shared.start.Add(time.Duration(at))
	}
	if pr.contradicted(kind) {
		carried = u.shared.now()
	} else if at := pr.carried.Load(); at != 0 {
		carried = u.shared.start.Add(time.Duration(at))
	}
	return opened, carried
}

// recordAnswer records that u has answered a plain request for t.
func (u *Upstream) recordAnswer(t *Target) {
	u.exchange(t.Exchange, t.Kind).answered.Store(u.shared.elapsed(u.shared.now()))
}

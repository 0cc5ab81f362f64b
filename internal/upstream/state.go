package upstream

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/proxyclient"
)

// state is what is known of an upstream for as long as a configuration has its
// identity. The Upstreams of one set after the other point to it.
type state struct {
	marks    atomic.Uint32 // what a selection has to look at; 0 is the good case
	live     atomic.Int64  // open connections
	dialling atomic.Int64  // attempts in progress
	connects atomic.Uint64 // connections opened so far
	pairs    atomic.Pointer[[]*exchangeState]

	certificate proxyclient.Certificate // of the upstream itself, if it speaks TLS

	mu         sync.Mutex
	failures   map[failure.Class]uint64 // attempts that failed
	health     health
	unanswered unanswered
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
	st.pairs.Store(&[]*exchangeState{})
	return st
}

// mark sets or clears marks, and invalidates the candidates that were computed with
// the old ones. u.state.mu is held.
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

// failuresByClass returns the failed attempts so far.
func (st *state) failuresByClass() map[failure.Class]uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return maps.Clone(st.failures)
}

// count counts an open connection to t until release is called; hop releases the hop
// before it.
func (u *Upstream) count(t *Target, hop func()) (release func()) {
	u.state.connects.Add(1)
	return chain(u.adopt(t.Exchange, t.Kind), hop)
}

// addLive adds n open connections to a pair. The first and the last one may change
// whether a verdict holds.
func (s *shared) addLive(pr *exchangeState, n int64) {
	if now := pr.live.Add(n); (now == 0 || now == n) && pr.verdict.Load() != nil {
		s.epoch.Add(1)
	}
}

// adopt counts an open connection until release is called.
func (u *Upstream) adopt(exchange string, kind catalog.Kind) (release func()) {
	st, sh, pr := u.state, u.shared, u.exchange(exchange, kind) // not u: a tunnel must not keep a whole set in memory
	st.live.Add(1)
	sh.addLive(pr, 1)
	return func() {
		st.live.Add(-1)
		sh.addLive(pr, -1)
	}
}

// restore takes over the exported state of one upstream.
func (u *Upstream) restore(m Memory) {
	now := u.shared.now()
	ours := func(t time.Time) time.Time { // on this process's clock, which does not jump
		if t.IsZero() {
			return t
		}
		return now.Add(t.Sub(now.Round(0)))
	}
	u.state.certificate.Set(m.Certificate)
	st := u.state
	for _, p := range m.Pairs {
		pr := u.exchange(p.Exchange, p.Kind)
		if p.Latency > 0 {
			pr.observeLatency(p.Latency, u.shared.elapsed(now))
			pr.usual.Store(int64(p.Latency))
		}
		pr.drained.Store(p.Drained)
		if p.Verdict != nil {
			v := &storedVerdict{*p.Verdict, p.Times}
			v.Until, v.At, v.Since = ours(v.Until), ours(v.At), ours(v.Since)
			pr.verdict.Store(v)
		}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.health = health{
		streak: m.Streak, wins: m.Wins, times: m.Ejections, cause: m.Cause,
		since: ours(m.Since), until: ours(m.Until), first: ours(m.First), last: ours(m.Last), back: ours(m.Back),
	}
	u.mark(markEjected, !m.Since.IsZero())
	u.mark(markStreak, m.Streak > 0)
	u.mark(markDrained, m.Drained)
	u.markPairs()
}

// SetDrained begins (or ends) a drain: no new connections through u or,
// unless exchange is "", none of that exchange. Open ones stay; the idle ones of
// plain HTTP are closed.
func (u *Upstream) SetDrained(exchange string, drained bool) {
	st := u.state
	if exchange == "" {
		st.mu.Lock()
		u.mark(markDrained, drained)
		st.mu.Unlock()
	} else {
		for _, kind := range []catalog.Kind{catalog.KindHTTP, catalog.KindWebsocket} {
			pr := u.exchange(exchange, kind)
			st.mu.Lock()
			pr.drained.Store(drained)
			u.markPairs()
			st.mu.Unlock()
		}
	}
	if drained {
		u.shared.idle.closeIdle(func(k idleKey) bool { return k.epoch == u.epoch })
	}
}

// Drained reports whether u, or u for the exchange unless that is "", is drained.
func (u *Upstream) Drained(exchange string) bool {
	if u.state.marks.Load()&markDrained != 0 {
		return true
	}
	pr := u.known(exchange, catalog.KindHTTP)
	return exchange != "" && pr != nil && pr.drained.Load()
}

// Status is the state of an upstream, for users and metrics. It holds no
// credentials.
type Status struct {
	Name     string                   `json:"name"`
	URL      string                   `json:"url"` // masked
	Live     int64                    `json:"live"`
	Connects uint64                   `json:"connects"`           // connections opened since the upstream is known
	Failures map[failure.Class]uint64 `json:"failures,omitempty"` // failed attempts since then
	Drained  bool                     `json:"drained,omitempty"`
	Ejection *Ejection                `json:"ejection,omitempty"` // nil: it is not ejected
	Pairs    []PairStatus             `json:"pairs,omitempty"`    // in the order of first use

	CertificateExpires time.Time `json:"certificate_expires,omitzero"` // its own one, as the last handshake showed it; zero: not known
}

// Ejection is why an upstream is out of use, and at least until when.
type Ejection struct {
	Cause failure.Class `json:"cause"`
	Since time.Time     `json:"since"`
	Until time.Time     `json:"until"`
	Last  time.Time     `json:"last"` // its last failure
}

// PairStatus is what is known of an upstream for one exchange and kind.
type PairStatus struct {
	Exchange  string   `json:"exchange,omitempty"` // "" for hosts that are no exchange's
	Kind      string   `json:"kind,omitempty"`
	Live      int64    `json:"live"`
	LatencyMS float64  `json:"latency_ms,omitempty"` // moving average of what a dial takes
	Degraded  *Slow    `json:"degraded,omitempty"`   // nil: it is not
	Drained   bool     `json:"drained,omitempty"`
	Short     uint64   `json:"short,omitempty"`   // websocket tunnels that ended very soon
	Verdict   *Verdict `json:"verdict,omitempty"` // nil: none
	Holds     bool     `json:"holds,omitempty"`   // the verdict is not over, and no live feed contradicts it
}

// Slow is why an upstream is degraded for an exchange and kind: a dial took
// many times what is usual.
type Slow struct {
	Until   time.Time `json:"until"`
	TookMS  float64   `json:"took_ms"`
	UsualMS float64   `json:"usual_ms"`
}

func ms(ns int64) float64 { return float64(time.Duration(ns).Microseconds()) / 1000 }

// Status returns the current state of u.
func (u *Upstream) Status() Status {
	s := Status{
		Name: u.name, URL: u.URL(), Live: u.Live(), Connects: u.state.connects.Load(), Failures: u.state.failuresByClass(),
		Drained: u.Drained(""), CertificateExpires: u.Certificate().NotAfter,
	}
	u.state.mu.Lock()
	if h := &u.state.health; !h.since.IsZero() {
		s.Ejection = &Ejection{h.cause, h.since, h.until, h.last}
	}
	u.state.mu.Unlock()
	u.eachPair(func(k pairKey, pr *exchangeState) {
		p := PairStatus{
			Exchange: k.exchange, Kind: k.kind.String(), Live: pr.live.Load(),
			LatencyMS: ms(pr.latency.Load()), Drained: pr.drained.Load(), Short: pr.short.Load(),
		}
		if end, ok := pr.isDegraded(u.shared, u.shared.now()); ok {
			p.Degraded = &Slow{end, ms(pr.slow.Load()), ms(pr.usual.Load())}
		}
		if v := pr.verdict.Load(); v != nil {
			verdict := v.Verdict
			p.Verdict, p.Holds = &verdict, u.holds(k.kind, pr, v)
		}
		s.Pairs = append(s.Pairs, p)
	})
	return s
}

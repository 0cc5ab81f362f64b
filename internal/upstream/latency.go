package upstream

import (
	"math"
	"math/rand/v2"
	"time"

	"proxyd/internal/catalog"
)

const (
	latencyStale = time.Minute          // then one connection finds out anew
	latencySame  = 2 * time.Millisecond // with a quarter: members so near to one another share the load

	slowFactor  = 4                      // times the usual is slow
	slowLeast   = 250 * time.Millisecond // what takes less is not slow, whatever is usual
	degradedFor = 30 * time.Second       // then the member is asked in its turn again
	usualWeight = 16                     // a dial counts so much less than all before it
)

// powerOfTwo compares two members at random by how long their ways to the target
// take: the slowest of many is seldom used, and those that are about as quick as
// one another share. One of which nothing new is known gets a single connection,
// to find out.
func (p *Pool) powerOfTwo(list []int32, l *selection) int {
	a := rand.IntN(len(list))     //nolint:gosec // spreads load, guards nothing
	b := rand.IntN(len(list) - 1) //nolint:gosec // as above
	if b >= a {
		b++
	}
	first, second := int(list[a]), int(list[b])
	at := l.shared.elapsed(l.time())
	one, tryOne := p.latencyOf(first, l, at)
	if tryOne {
		return first
	}
	two, tryTwo := p.latencyOf(second, l, at)
	if tryTwo || clearlyLess(two, one) {
		return second
	}
	return first
}

// latencyOf is a member's average to the target, 0 if nothing is known; try is
// true for the first that asks after it has got old.
func (p *Pool) latencyOf(i int, l *selection, at int64) (avg int64, try bool) {
	pr := p.seats[i].state.pairAt(l.number())
	if pr == nil {
		pr = p.members[i].exchange(l.target.Exchange, l.target.Kind)
	}
	tried := pr.tried.Load()
	last := max(tried, pr.measured.Load())
	if (last == 0 || at-last > int64(latencyStale)) && pr.tried.CompareAndSwap(tried, max(at, 1)) {
		return 0, true
	}
	return pr.latency.Load(), false
}

// clearlyLess reports whether a is known and less than b beyond what may be
// chance; b may be unknown.
func clearlyLess(a, b int64) bool {
	if a == 0 || b == 0 {
		return a != 0
	}
	return a+a/4+int64(latencySame) < b
}

// observeDial takes in how long a dial took that ended well. One that took many
// times what is usual for the pair degrades it for a while; the next quick one
// ends that.
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

// tooSlow reports whether a dial to l's target through u that ended well took so
// long that it counts as a failure of u: more than attempt_seconds, and no other
// member is known to be as slow there, which would be the target's doing.
func (p *Pool) tooSlow(u *Upstream, l *selection, took time.Duration) bool {
	if took <= p.set.attempt || u.IsDirect() {
		return false
	}
	others := 0
	for i := range p.members {
		m := &p.members[i]
		if !m.Enabled || m.Upstream == u {
			continue
		}
		others++
		if known := p.knownLatency(i, l); known != math.MaxInt64 && known > int64(p.set.attempt) {
			return false
		}
	}
	return others > 0
}

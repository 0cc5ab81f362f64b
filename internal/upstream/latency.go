package upstream

import (
	"math/rand/v2"
	"time"
)

const (
	latencyStale = time.Minute          // then one connection finds out anew
	latencySame  = 2 * time.Millisecond // with a quarter: members so near to one another share the load
)

// quicker compares two members at random by how long their ways to the target
// take: the slowest of many is seldom used, and those that are about as quick as
// one another share. One of which nothing new is known gets a single connection,
// to find out.
func (p *Pool) quicker(list []int32, l *look) int {
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
func (p *Pool) latencyOf(i int, l *look, at int64) (avg int64, try bool) {
	pr := p.seats[i].state.pairAt(l.number())
	if pr == nil {
		pr = p.members[i].pair(l.target.Exchange, l.target.Kind)
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

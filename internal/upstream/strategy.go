package upstream

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"proxyd/internal/config"
)

// slot holds what a choice needs of a member, close together in memory.
type slot struct {
	state   *state
	weight  int64   // in millionths, so that shares are exact
	current int64   // of the smooth weighted round robin; under Pool.mu
	hash    uint64  // of its name
	share   float64 // 1/weight, for the hash strategy
}

// fillSlots fills the slots; the members and their states are complete.
func (p *Pool) fillSlots() {
	p.slots = make([]slot, len(p.members))
	for i := range p.members {
		m := &p.members[i]
		p.slots[i] = slot{state: m.state, weight: int64(math.Round(m.Weight * 1e6)), hash: mix(hashOf(m.name)), share: 1 / m.Weight}
	}
}

// pick returns the first member for a target: a usable one of the lowest tier that
// has one, by the strategy, skipping those that are over a budget; -1 if none is
// usable. others is the number of other usable members, in all tiers.
func (p *Pool) pick(l *selection) (at, others int) {
	v := p.candidates(l)
	if len(v.list) == 0 {
		return -1, 0
	}
	if at = p.byStrategy(v, l); p.exhausted(at, l) {
		if open := p.buildCandidates(l, v.epoch, true); len(open.list) > 0 {
			return p.byStrategy(open, l), open.all - 1
		}
	}
	return at, v.all - 1
}

// byStrategy returns a member of v by the pool's strategy.
func (p *Pool) byStrategy(v *candidates, l *selection) int {
	if len(v.list) == 1 {
		return int(v.list[0])
	}
	switch p.strategy {
	case config.Failover:
		return int(v.list[0])
	case config.Random:
		n := rand.Int64N(v.totals[len(v.totals)-1]) //nolint:gosec // spreads load, guards nothing
		k, _ := slices.BinarySearch(v.totals, n+1)
		return int(v.list[k])
	case config.Hash:
		return p.rendezvous(v.list, l.target)
	case config.LowestLatency:
		return p.powerOfTwo(v.list, l)
	case config.LeastConnections:
		var few [fewMembers]int32
		return p.smoothWRR(p.leastLoaded(append(few[:0], v.list...)))
	case config.RoundRobin:
		return p.smoothWRR(v.list)
	}
	panic("a strategy that byStrategy does not know: " + string(p.strategy))
}

// fewMembers is how many are compared without an allocation.
const fewMembers = 256

// smoothWRR returns the next member of the smooth weighted round robin; for
// least_connections among those that are equally loaded for their weight.
func (p *Pool) smoothWRR(list []int32) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	total, best := int64(0), list[0]
	for _, i := range list {
		s := &p.slots[i]
		total += s.weight
		s.current += s.weight
		if s.current > p.slots[best].current {
			best = i
		}
	}
	p.slots[best].current -= total
	return int(best)
}

// leastLoaded returns the members of list with the fewest connections for their
// weight, counting those that are being opened. It modifies list.
func (p *Pool) leastLoaded(list []int32) []int32 {
	kept, least, per := list[:0], int64(0), int64(1)
	for _, i := range list {
		s := &p.slots[i]
		load, weight := s.state.live.Load()+s.state.dialling.Load(), s.weight
		if d := cmp.Compare(load*per, least*weight); len(kept) == 0 || d < 0 {
			kept, least, per = append(kept[:0], i), load, weight
		} else if d == 0 {
			kept = append(kept, i)
		}
	}
	return kept
}

// fallbackOrder returns the members to try after the first one has failed: the other
// usable ones, usables of them, and then those that are avoided. Of the usable ones its own
// tier comes first, then the others, each in turn or as the strategy ranks them,
// with the degraded last in their tier.
func (p *Pool) fallbackOrder(first int, l *selection) (order []int, usables int) {
	n := len(p.members)
	slow := map[int]int{}
	for k := range n {
		i := (first + k) % n
		if p.strategy == config.Failover {
			i = k
		}
		if m := &p.members[i]; i != first && m.Enabled {
			switch s, _ := l.at(m.state); s {
			case degraded:
				slow[i] = 1
				fallthrough
			case usable:
				order = append(order, i)
			}
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(p.members[a].Tier, p.members[b].Tier), cmp.Compare(slow[a], slow[b]), p.compare(a, b, l))
	})
	usables = len(order)
	for _, i := range p.fallbacks(l) {
		if i != first {
			order = append(order, i)
		}
	}
	return order, usables
}

// compare ranks members of one tier, where the strategy has a ranking.
func (p *Pool) compare(a, b int, l *selection) int {
	switch p.strategy {
	case config.Hash:
		key := p.hashKey(l.target)
		return cmp.Compare(p.score(a, key), p.score(b, key))
	case config.LowestLatency:
		return cmp.Compare(p.knownLatency(a, l), p.knownLatency(b, l))
	default:
		return 0
	}
}

// knownLatency returns a member's average to the target; without one, the maximum.
func (p *Pool) knownLatency(i int, l *selection) int64 {
	if pr := p.slots[i].state.pairAt(l.number()); pr != nil && pr.latency.Load() > 0 {
		return pr.latency.Load()
	}
	return math.MaxInt64
}

// hashOf returns the FNV-1a hash, which is the same in every process: a restart
// keeps the exits.
func hashOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix spreads every bit over all others (the end of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// unit returns a number above 0 and up to 1 from a key and a member's hash, which is
// already mixed.
func unit(key, member uint64) float64 {
	return float64(mix(key^member)>>11+1) * (1. / (1 << 53))
}

// hashKey returns the hash of what the hash strategy uses.
func (p *Pool) hashKey(t *Target) uint64 {
	if p.overHost || t.Exchange == "" {
		return hashOf(t.Host)
	}
	return hashOf(t.Exchange)
}

// rendezvous returns the member of list by weighted rendezvous hashing: the member with
// the smallest -ln(unit)/weight. So each has its share of the keys, and when one
// goes only its keys move.
func (p *Pool) rendezvous(list []int32, t *Target) int {
	key := p.hashKey(t)
	best, least := int32(-1), math.Inf(1)
	for _, i := range list {
		s := &p.slots[i]
		u := unit(key, s.hash)
		if (1-u)*s.share >= least { // -ln(u) is not less than 1-u: spares nearly every logarithm
			continue
		}
		if score := -math.Log(u) * s.share; score < least {
			best, least = i, score
		}
	}
	if best < 0 {
		return int(list[0])
	}
	return int(best)
}

// score returns what rendezvous compares.
func (p *Pool) score(i int, key uint64) float64 {
	return -math.Log(unit(key, p.slots[i].hash)) * p.slots[i].share
}

const (
	latencyStale = time.Minute          // then one connection measures it again
	latencySame  = 2 * time.Millisecond // with a quarter: members so near to one another share the load

	slowFactor  = 4                      // times the usual is slow
	slowLeast   = 500 * time.Millisecond // a shorter dial is never slow
	degradedFor = 30 * time.Second       // then the member is tried in its turn again
	usualWeight = 16                     // a dial counts so much less than all before it
)

// powerOfTwo compares two members at random by how long their dials to the target
// take: the slowest of many is seldom used, and those that are about equally quick
// share. A member without a recent measurement gets a single connection, to measure.
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

// latencyOf returns a member's average to the target, 0 if it is unknown; try is true
// for the first caller after it has become stale.
func (p *Pool) latencyOf(i int, l *selection, at int64) (avg int64, try bool) {
	pr := p.slots[i].state.pairAt(l.number())
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

// clearlyLess reports whether a is known and significantly less than b; b may be
// unknown.
func clearlyLess(a, b int64) bool {
	if a == 0 || b == 0 {
		return a != 0
	}
	return a+a/4+int64(latencySame) < b
}

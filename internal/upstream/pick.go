package upstream

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"proxyd/internal/config"
)

// slot is what choosing needs of a member, close together.
type slot struct {
	state   *state
	weight  int64   // in millionths, so that shares are exact
	current int64   // of the smooth weighted round robin; under Pool.mu
	hash    uint64  // of its name
	share   float64 // 1/weight, for the hash strategy
}

// sit fills the seats; the members and their states are complete.
func (p *Pool) sit() {
	p.seats = make([]slot, len(p.members))
	for i := range p.members {
		m := &p.members[i]
		p.seats[i] = slot{state: m.state, weight: int64(math.Round(m.Weight * 1e6)), hash: mix(hashOf(m.name)), share: 1 / m.Weight}
	}
}

// pick chooses the first member for a target: a usable one of the lowest tier
// that has one, by the strategy, past those that are over a budget; -1 if none is
// usable. others is how many usable
// ones there are beside it, in all tiers.
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
	default:
		return p.smoothWRR(v.list)
	}
}

// fewMembers is how many are compared without an allocation.
const fewMembers = 256

// smoothWRR is the smooth weighted round robin; for least_connections among those
// that have equally little to do for their weight.
func (p *Pool) smoothWRR(list []int32) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	total, best := int64(0), list[0]
	for _, i := range list {
		s := &p.seats[i]
		total += s.weight
		s.current += s.weight
		if s.current > p.seats[best].current {
			best = i
		}
	}
	p.seats[best].current -= total
	return int(best)
}

// leastLoaded keeps those of list with the fewest connections for their weight,
// those that are being opened among them. It changes list.
func (p *Pool) leastLoaded(list []int32) []int32 {
	kept, least, per := list[:0], int64(0), int64(1)
	for _, i := range list {
		s := &p.seats[i]
		load, weight := s.state.live.Load()+s.state.dialling.Load(), s.weight
		if d := cmp.Compare(load*per, least*weight); len(kept) == 0 || d < 0 {
			kept, least, per = append(kept[:0], i), load, weight
		} else if d == 0 {
			kept = append(kept, i)
		}
	}
	return kept
}

// fallbackOrder is who follows the first member after a failure: the other usable ones,
// how many these are, and then those that are avoided. Of the usable ones its own
// tier comes first, then the others, each in turn or as the strategy ranks them,
// with the degraded last in their tier.
func (p *Pool) fallbackOrder(first int, l *selection) (order []int, sound int) {
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
	sound = len(order)
	for _, i := range p.fallbacks(l) {
		if i != first {
			order = append(order, i)
		}
	}
	return order, sound
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

// knownLatency is a member's average to the target, those without one last.
func (p *Pool) knownLatency(i int, l *selection) int64 {
	if pr := p.seats[i].state.pairAt(l.number()); pr != nil && pr.latency.Load() > 0 {
		return pr.latency.Load()
	}
	return math.MaxInt64
}

package upstream

import "math"

// hashOf is FNV-1a, which is the same in every process: who restarts keeps its
// exits.
func hashOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix spreads every bit over all (the end of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// unit is a number above 0 and up to 1 that a key and a member's hash, which is
// mixed already, make together.
func unit(key, member uint64) float64 {
	return float64(mix(key^member)>>11+1) * (1. / (1 << 53))
}

// hashKey is what the hash strategy goes by.
func (p *Pool) hashKey(t *Target) uint64 {
	if p.overHost || t.Exchange == "" {
		return hashOf(t.Host)
	}
	return hashOf(t.Exchange)
}

// rendezvous picks from list as weighted rendezvous hashing does: the member with
// the smallest -ln(unit)/weight. So each has its share of the keys, and when one
// goes only its keys move.
func (p *Pool) rendezvous(list []int32, t *Target) int {
	key := p.hashKey(t)
	best, least := int32(-1), math.Inf(1)
	for _, i := range list {
		s := &p.seats[i]
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

// score is what rendezvous goes by.
func (p *Pool) score(i int, key uint64) float64 {
	return -math.Log(unit(key, p.seats[i].hash)) * p.seats[i].share
}

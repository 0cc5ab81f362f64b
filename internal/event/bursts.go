package event

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	burstTime = time.Second // what ends within it of the first is one burst
	burstMin  = 5           // fewer are no event
)

// End is how a tunnel ended.
type End struct {
	Exchange, Kind, Upstream string
	By                       string // client, upstream, exchange or server, proxyd
	Reason                   string
}

// Burst is what many ends that came within a second have in common.
type Burst struct {
	Count                    int
	Exchange, Kind, Upstream string   // "" for several
	Upstreams                []string // all of them
	How                      []How    // the most frequent first
}

// How is a number of ends of a burst.
type How struct {
	By, Reason string
	Count      int
}

// Bursts finds tunnels that end at the same time: all through one upstream, or all
// of one exchange, or both. It is safe for concurrent use.
type Bursts struct {
	mu    sync.Mutex
	first time.Time
	ends  map[End]int
}

// Note takes the end of a tunnel.
func (b *Bursts) Note(e End, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ends == nil {
		b.ends = map[End]int{}
	}
	if len(b.ends) == 0 {
		b.first = now
	}
	b.ends[e]++
}

// Take returns the bursts that are over, the largest first.
func (b *Bursts) Take(now time.Time) []Burst {
	b.mu.Lock()
	if len(b.ends) == 0 || now.Sub(b.first) < burstTime {
		b.mu.Unlock()
		return nil
	}
	ends := b.ends
	b.ends = nil
	b.mu.Unlock()
	return split(ends)
}

// part is what the ends of one burst share.
type part struct{ exchange, kind, upstream string }

// split parts ends by what most of them share: the upstream, or the exchange.
func split(ends map[End]int) (bursts []Burst) {
	for len(ends) > 0 {
		sums := map[part]int{}
		for e, n := range ends {
			sums[part{upstream: e.Upstream}] += n
			sums[part{exchange: e.Exchange, kind: e.Kind}] += n
		}
		best, most := part{}, 0
		for p, n := range sums {
			if n > most || n == most && cmp.Or(strings.Compare(p.upstream, best.upstream), strings.Compare(p.exchange, best.exchange), strings.Compare(p.kind, best.kind)) > 0 {
				best, most = p, n
			}
		}
		if most < burstMin {
			break
		}
		bursts = append(bursts, take(ends, best))
	}
	return bursts
}

// take removes the ends that share p, and returns them as a burst.
func take(ends map[End]int, p part) Burst {
	var b Burst
	how, first := map[How]int{}, true
	for e, n := range ends {
		if p.upstream != "" && e.Upstream != p.upstream || p.upstream == "" && (e.Exchange != p.exchange || e.Kind != p.kind) {
			continue
		}
		delete(ends, e)
		if b.Count += n; first {
			b.Exchange, b.Kind, first = e.Exchange, e.Kind, false
		}
		if b.Exchange != e.Exchange {
			b.Exchange = ""
		}
		if b.Kind != e.Kind {
			b.Kind = ""
		}
		if !slices.Contains(b.Upstreams, e.Upstream) {
			b.Upstreams = append(b.Upstreams, e.Upstream)
		}
		how[How{By: e.By, Reason: e.Reason}] += n
	}
	if slices.Sort(b.Upstreams); len(b.Upstreams) == 1 {
		b.Upstream = b.Upstreams[0]
	}
	for h, n := range how {
		h.Count = n
		b.How = append(b.How, h)
	}
	slices.SortFunc(b.How, func(x, y How) int {
		return cmp.Or(y.Count-x.Count, strings.Compare(x.By, y.By), strings.Compare(x.Reason, y.Reason))
	})
	return b
}

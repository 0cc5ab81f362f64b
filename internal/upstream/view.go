package upstream

import (
	"math"
	"time"
)

// candidates is who is usable for one exchange and kind. It is found out once and
// holds until something is remembered that changes a standing.
type candidates struct {
	epoch  uint64
	until  time.Time // a verdict in it ends then; zero: none does
	list   []int32   // of the lowest tier that has one; degraded ones when it has no others
	totals []int64   // the weights of list, each with those before it
	all    int       // how many are usable, of whatever tier
}

// candidates gives the one that holds now.
func (p *Pool) candidates(l *selection) *candidates {
	epoch := l.shared.epoch.Load() // before the marks are read: a change that comes meanwhile ends the view
	n := l.number()
	views := p.views.Load()
	if views != nil && n < len(*views) {
		if v := (*views)[n]; v != nil && v.epoch == epoch && (v.until.IsZero() || l.time().Before(v.until)) {
			return v
		}
	}
	v := p.buildCandidates(l, epoch, false)
	p.mu.Lock()
	defer p.mu.Unlock()
	var old []*candidates
	if views = p.views.Load(); views != nil {
		old = *views
	}
	next := make([]*candidates, max(n+1, len(old)))
	copy(next, old)
	next[n] = v
	p.views.Store(&next)
	return v
}

// buildCandidates looks at every member; with open, past those that are over a budget.
func (p *Pool) buildCandidates(l *selection, epoch uint64, open bool) *candidates {
	v := &candidates{epoch: epoch}
	tier, best := math.MaxInt, degraded
	for i := range p.members {
		m := &p.members[i]
		if !m.Enabled {
			continue
		}
		standing, until := l.at(m.state)
		if !until.IsZero() && (v.until.IsZero() || until.Before(v.until)) {
			v.until = until
		}
		if standing > degraded || open && p.exhausted(i, l) {
			continue
		}
		v.all++
		if m.Tier < tier || m.Tier == tier && standing < best {
			v.list, tier, best = v.list[:0], m.Tier, standing
		}
		if m.Tier == tier && standing == best {
			v.list = append(v.list, int32(i)) //nolint:gosec // a file has fewer members
		}
	}
	total := int64(0)
	v.totals = make([]int64, len(v.list))
	for k, i := range v.list {
		total += p.seats[i].weight
		v.totals[k] = total
	}
	return v
}

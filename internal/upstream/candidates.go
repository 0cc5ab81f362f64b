package upstream

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/printable"
)

// availability is whether a member may be used for a target.
type availability uint8

const (
	usable   availability = iota
	degraded              // recently slow for the target: after the usable ones of its tier
	avoided               // ejected, or with a bad verdict for the target: when no other is left
	never                 // drained, or rate limited
)

// selection is the choice of a member for one target. It computes what most choices
// do not need only when it is first asked.
type selection struct {
	shared *shared
	target *Target
	hop    bool // the target is an upstream, which counts in no budget
	pair   int  // the pair's number
	known  bool
	now    time.Time
}

// number returns the number of the target's pair.
func (l *selection) number() int {
	if !l.known {
		l.pair, l.known = l.shared.pairs.number(pairKey{l.target.Exchange, l.target.Kind}), true
	}
	return l.pair
}

// time returns one time for the whole selection.
func (l *selection) time() time.Time {
	if l.now.IsZero() {
		l.now = l.shared.now()
	}
	return l.now
}

// at returns a member's availability, and when that may change by itself: zero for
// never.
func (l *selection) at(st *state) (s availability, until time.Time) {
	m := st.marks.Load()
	if m&markDrained != 0 {
		return never, time.Time{}
	}
	if m&markEjected != 0 {
		s = avoided
	}
	if m&markPairs == 0 {
		return s, time.Time{}
	}
	pr := st.pairAt(l.number())
	if pr == nil {
		return s, time.Time{}
	}
	if pr.drained.Load() {
		return never, time.Time{}
	}
	if v := pr.verdict.Load(); v.bad(l.time()) && !pr.contradicts(v, l.target.Kind) {
		if v.Word == WordRateLimited && !v.Until.IsZero() {
			return never, v.Until
		}
		return avoided, v.Until
	}
	if end, ok := pr.isDegraded(l.shared, l.time()); ok && s == usable {
		return degraded, end
	}
	return s, time.Time{}
}

// fallbacks returns the members to try when no usable one is left: the one whose
// failure is longest ago first.
func (p *Pool) fallbacks(l *selection) (order []int) {
	failed := map[int]time.Time{}
	for i := range p.members {
		m := &p.members[i]
		if s, _ := l.at(m.state); !m.Enabled || s != avoided {
			continue
		}
		order = append(order, i)
		m.state.mu.Lock()
		failed[i] = m.state.health.last
		m.state.mu.Unlock()
		if pr := m.state.pairAt(l.number()); pr != nil {
			if v := pr.verdict.Load(); v.bad(l.time()) && v.At.After(failed[i]) {
				failed[i] = v.At
			}
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return failed[a].Compare(failed[b]) })
	return order
}

// defaultRetryAfter is the Retry-After when nothing better is known.
const defaultRetryAfter = 10 * time.Second

// noMemberError returns the error of a pool without a member that may be used.
func (p *Pool) noMemberError(l *selection) *failure.Error {
	e := &failure.Error{Class: failure.NoUpstream, RetryAfter: defaultRetryAfter}
	var why []string
	for i := range p.members {
		m := &p.members[i]
		if !m.Enabled {
			continue
		}
		pr := m.state.pairAt(l.number())
		var v *storedVerdict
		if pr != nil {
			v = pr.verdict.Load()
		}
		switch name := m.name; {
		case m.state.marks.Load()&markDrained != 0:
			why = append(why, name+" is drained")
		case pr != nil && pr.drained.Load():
			why = append(why, name+" is drained for "+l.target.Exchange)
		case v.bad(l.time()):
			left := max(v.Until.Sub(l.time()), time.Second)
			if e.Hint == "" || left < e.RetryAfter {
				e.RetryAfter = left
			}
			e.Hint = "the exchange has said when it may be tried again"
			why = append(why, fmt.Sprintf("%s is rate limited by %s for %s", name, cmp.Or(l.target.Exchange, "the target"), printable.Seconds(left)))
		}
	}
	if len(p.members) == 0 {
		e.Text, e.Hint = "pool "+p.name+" has no member yet: its list was not fetched so far", "proxyd status says why, and proxyd reload fetches it at once"
		return e
	}
	if len(why) == 0 {
		e.Text, e.Hint = "pool "+p.name+" has no member that is enabled", "enable one in the configuration"
		return e
	}
	if more := len(why) - 5; more > 0 {
		why = append(why[:5], fmt.Sprintf("%d more", more))
	}
	e.Text = "pool " + p.name + " has no member that may be used: " + strings.Join(why, ", ")
	if e.Hint == "" {
		e.Hint = "proxyd resume ends a drain"
	}
	return e
}

// candidates are the members that are usable for one exchange and kind. They are
// computed once, for pools of 10,000 members, and hold until a change of a member's
// availability.
type candidates struct {
	epoch  uint64
	until  time.Time // a verdict in it ends then; zero: none does
	list   []int32   // of the lowest tier that has one; degraded ones when it has no others
	totals []int64   // the weights of list, each with those before it
	all    int       // how many are usable, in all tiers
}

// candidates returns those that hold now.
func (p *Pool) candidates(l *selection) *candidates {
	epoch := l.shared.epoch.Load() // before the marks are read: a change that comes meanwhile invalidates them
	n := l.number()
	views := p.cached.Load()
	if views != nil && n < len(*views) {
		if v := (*views)[n]; v != nil && v.epoch == epoch && (v.until.IsZero() || l.time().Before(v.until)) {
			return v
		}
	}
	v := p.buildCandidates(l, epoch, false)
	p.mu.Lock()
	defer p.mu.Unlock()
	var old []*candidates
	if views = p.cached.Load(); views != nil {
		old = *views
	}
	next := make([]*candidates, max(n+1, len(old)))
	copy(next, old)
	next[n] = v
	p.cached.Store(&next)
	return v
}

// buildCandidates looks at every member; open skips those that are over a budget.
func (p *Pool) buildCandidates(l *selection, epoch uint64, open bool) *candidates {
	v := &candidates{epoch: epoch}
	tier, best := math.MaxInt, degraded
	for i := range p.members {
		m := &p.members[i]
		if !m.Enabled {
			continue
		}
		av, until := l.at(m.state)
		if !until.IsZero() && (v.until.IsZero() || until.Before(v.until)) {
			v.until = until
		}
		if av > degraded || open && p.exhausted(i, l) {
			continue
		}
		v.all++
		if m.Tier < tier || m.Tier == tier && av < best {
			v.list, tier, best = v.list[:0], m.Tier, av
		}
		if m.Tier == tier && av == best {
			v.list = append(v.list, int32(i)) //nolint:gosec // a file has fewer members
		}
	}
	total := int64(0)
	v.totals = make([]int64, len(v.list))
	for k, i := range v.list {
		total += p.slots[i].weight
		v.totals[k] = total
	}
	return v
}

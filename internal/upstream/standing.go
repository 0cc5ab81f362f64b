package upstream

import (
	"cmp"
	"fmt"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
	"slices"
	"strings"
	"time"
)

// availability is what may be done with a member for a target.
type availability uint8

const (
	usable   availability = iota
	degraded              // slow of late for the target: after the usable ones of its tier
	avoided               // ejected, or with a bad verdict for the target: when no other is left
	never                 // drained, or rate limited
)

// selection judges members for one target. What most choices need not know it finds
// out when it is first asked.
type selection struct {
	shared *shared
	target *Target
	hop    bool // it is the way to an upstream, which counts in no budget
	pair   int  // the pair's number
	known  bool
	now    time.Time
}

func (l *selection) number() int {
	if !l.known {
		l.pair, l.known = l.shared.pairs.number(pairKey{l.target.Exchange, l.target.Kind}), true
	}
	return l.pair
}

func (l *selection) time() time.Time {
	if l.now.IsZero() {
		l.now = l.shared.now()
	}
	return l.now
}

// at is a member's standing, and when that may change by itself: zero for never.
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
	if v := pr.verdict.Load(); v.bad(l.time()) && !pr.contradicted(l.target.Kind) {
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

// fallbacks are the members that are tried when no usable one is left: the one
// whose failure is longest ago first.
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

// nobodyRetry is when a client may try again of whom nobody knows when.
const nobodyRetry = 10 * time.Second

// noMemberError is the error of a pool none of whose members may be used.
func (p *Pool) noMemberError(l *selection) *failure.Error {
	e := &failure.Error{Class: failure.NoUpstream, RetryAfter: nobodyRetry}
	var why []string
	for i := range p.members {
		m := &p.members[i]
		if !m.Enabled {
			continue
		}
		pr := m.state.pairAt(l.number())
		var v *remembered
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

package upstream

import (
	"proxyd/internal/failure"
	"time"
)

// Status is an upstream at one moment, for people and metrics. It holds no
// credentials.
type Status struct {
	Name     string                   `json:"name"`
	URL      string                   `json:"url"` // masked
	Live     int64                    `json:"live"`
	Connects uint64                   `json:"connects"`           // ways opened since the upstream is known
	Failures map[failure.Class]uint64 `json:"failures,omitempty"` // failed attempts since then
	InUse    bool                     `json:"in_use"`             // enabled in some pool
	Drained  bool                     `json:"drained,omitempty"`
	Ejection *Ejection                `json:"ejection,omitempty"` // nil: it is not ejected
	Pairs    []PairStatus             `json:"pairs,omitempty"`    // in the order of first use
}

// Ejection is why an upstream is out of use, and how long at least.
type Ejection struct {
	Cause failure.Class `json:"cause"`
	Since time.Time     `json:"since"`
	Until time.Time     `json:"until"`
	Last  time.Time     `json:"last"` // its last failure
}

// PairStatus is what is remembered of an upstream for one exchange and kind.
type PairStatus struct {
	Exchange  string   `json:"exchange,omitempty"` // "" for hosts that are no exchange's
	Kind      string   `json:"kind,omitempty"`
	Live      int64    `json:"live"`
	LatencyMS float64  `json:"latency_ms,omitempty"` // moving average of what opening a way takes
	Degraded  *Slow    `json:"degraded,omitempty"`   // nil: it is not
	Drained   bool     `json:"drained,omitempty"`
	Short     uint64   `json:"short,omitempty"`   // websocket tunnels that ended at once
	Verdict   *Verdict `json:"verdict,omitempty"` // nil: none
	Holds     bool     `json:"holds,omitempty"`   // the verdict is not over, and no living feed contradicts it
}

// Slow is why an upstream is degraded for an exchange and kind: a dial took
// many times what is usual.
type Slow struct {
	Until   time.Time `json:"until"`
	TookMS  float64   `json:"took_ms"`
	UsualMS float64   `json:"usual_ms"`
}

func ms(ns int64) float64 { return float64(time.Duration(ns).Microseconds()) / 1000 }

// Status is u now.
func (u *Upstream) Status() Status {
	s := Status{
		Name: u.name, URL: u.URL(), Live: u.Live(), Connects: u.state.connects.Load(), Failures: u.state.failuresByClass(),
		InUse: len(u.pools) > 0, Drained: u.Drained(""),
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

// PoolStatus is a pool at one moment.
type PoolStatus struct {
	Name    string         `json:"name"`
	Members []MemberStatus `json:"members"` // in the order of the file
}

// MemberStatus is a membership, and what may be done with it now.
type MemberStatus struct {
	Upstream string  `json:"upstream"`
	Weight   float64 `json:"weight"`
	Tier     int     `json:"tier"`
	Standing string  `json:"standing"` // usable, degraded, avoided, never or disabled
}

// Standings says for a target what may be done with each member now, in the order
// of the file: usable, degraded (slow: after the others of its tier), avoided (ejected, or a bad verdict: only when no usable
// one is left), never (drained, rate limited, or over a budget) or disabled.
func (p *Pool) Standings(t Target) PoolStatus {
	l := selection{shared: p.set.shared, target: &t}
	s := PoolStatus{Name: p.name}
	for i := range p.members {
		m := &p.members[i]
		word := "disabled"
		if m.Enabled {
			at, _ := l.at(m.state)
			if at <= degraded && p.exhausted(i, &l) {
				at = never
			}
			word = [...]string{usable: "usable", degraded: "degraded", avoided: "avoided", never: "never"}[at]
		}
		s.Members = append(s.Members, MemberStatus{m.name, m.Weight, m.Tier, word})
	}
	return s
}

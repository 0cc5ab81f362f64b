package upstream

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
)

// Pool is a choice among members.
type Pool struct {
	set        *Set
	name       string
	inline     bool // written in place, named after its key
	strategy   config.Strategy
	overHost   bool // what the hash strategy goes by: the host, else the exchange
	maxPercent int  // of the members may be ejected
	direct     bool // some member that is enabled dials targets from here
	members    []Member
	seats      []slot
	views      atomic.Pointer[[]*candidates]   // by a pair's number
	needs      atomic.Pointer[[]*requirements] // the same

	mu sync.Mutex // the seats' turns
}

// Member is an upstream in a pool.
type Member struct {
	*Upstream
	Weight  float64
	Tier    int
	Enabled bool
	Exit    string // members with the same one share budgets
}

// Name is the pool's name or, for an inline one, its key path.
func (p *Pool) Name() string { return p.name }

// Members lists the members in the order of the file.
func (p *Pool) Members() []Member { return p.members }

// LeavesDirectly reports whether some member that is enabled dials targets from
// this machine.
func (p *Pool) LeavesDirectly() bool { return p.direct }

// Refuses returns why no member of the pool will be asked for a target, as far as
// that can be told without asking a name server; nil if one may be.
func (p *Pool) Refuses(t Target) *failure.Error {
	var why *failure.Error
	for i := range p.members {
		m := &p.members[i]
		if !m.Enabled {
			continue
		}
		e := p.set.refuses(&t)
		switch {
		case e != nil:
		case m.IsDirect() && t.IP.IsValid():
			e = p.set.guard.CheckDirect(netip.AddrPortFrom(t.IP, t.Port), t.Trusted)
		case m.via == nil && (m.url.Host.IP.IsLoopback() || p.set.guard.IsLocalName(m.url.Host.Name)):
			e = p.set.refusesLocal(&t)
		}
		if e == nil {
			return nil
		}
		why = e
	}
	return why
}

// DialSlot waits for a slot among the dials under way; leave gives it back. The
// error is an *Error of class overload, or ctx's.
type DialSlot func(ctx context.Context) (leave func(), err error)

// Dial opens a way to t through the first member that can, inside ctx's
// deadline. The error is an *Error, or ctx's when the caller gave up.
func (p *Pool) Dial(ctx context.Context, t Target) (*Conn, error) { return p.DialIn(ctx, t, nil) }

// DialIn is Dial for one of many at once: it asks for a place before it dials and
// has it until it returns, but has none while it waits for a budget.
func (p *Pool) DialIn(ctx context.Context, t Target, place DialSlot) (*Conn, error) {
	return p.dial(ctx, place, selection{shared: p.set.shared, target: &t})
}

// dialHop is Dial for a hop before an upstream, which counts in no budget.
func (p *Pool) dialHop(ctx context.Context, t Target) (*Conn, error) {
	return p.dial(ctx, nil, selection{shared: p.set.shared, target: &t, hop: true})
}

func (p *Pool) dial(ctx context.Context, place DialSlot, l selection) (*Conn, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	var way *Conn
	w := failover{pool: p, deadline: deadline, look: l, job: operation{place: place}}
	w.job.open = func(ctx context.Context, m *Member, h *budgetLease) (err error) {
		if way, err = m.dial(ctx, p.set, l.target, h); err == nil {
			w.dialled = way.Dial
		}
		return err
	}
	if err := w.run(ctx); err != nil {
		return nil, err
	}
	way.Tried, way.Queued = w.tried, w.queued
	return way, nil
}

// dial opens a way that counts, in budgets as h has them.
func (m *Member) dial(ctx context.Context, s *Set, t *Target, h *budgetLease) (*Conn, error) {
	m.state.dialling.Add(1)
	defer m.state.dialling.Add(-1)
	start := time.Now()
	way, err := m.open(ctx, s, *t)
	if err != nil {
		return nil, err
	}
	if way.Forward != nil {
		way.Forward.Answered = h.opened // the end of the way does it, too
	} else {
		h.opened()
	}
	now := time.Now()
	way.Dial = now.Sub(start)
	m.opened(t, way.Dial, now)
	if m.state.marks.Load()&markPairs != 0 {
		m.allowed(t)
	}
	way.Release = h.after(m.count(t, way.Release))
	return way, nil
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

// label is the pool's name for people.
func (p *Pool) label() string {
	if !p.inline {
		return p.name
	}
	names := make([]string, len(p.members))
	for i, m := range p.members {
		names[i] = m.name
	}
	return strings.Join(names, "|")
}

// inUse are the identities of the members that are enabled.
func (p *Pool) inUse() (ids []config.Identity) {
	for i := range p.members {
		if m := &p.members[i]; m.Enabled {
			ids = append(ids, m.id)
		}
	}
	return ids
}

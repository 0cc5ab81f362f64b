package upstream

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/failure"
)

// Pool is a choice among members.
type Pool struct {
	set          *Set
	name         string
	inline       bool // written in place, named after its key
	strategy     config.Strategy
	overHost     bool // the hash strategy hashes the host, else the exchange
	maxPercent   int  // of the members may be ejected
	direct       bool // some member that is enabled dials targets from here
	members      []Member
	slots        []slot
	cached       atomic.Pointer[[]*candidates]   // by a pair's number
	requirements atomic.Pointer[[]*requirements] // the same

	mu sync.Mutex // slots[].current
}

// Member is an upstream in a pool.
type Member struct {
	*Upstream
	Weight  float64
	Tier    int
	Enabled bool
	Exit    string // members with the same one share budgets
}

// Name returns the pool's name or, for an inline one, its key path.
func (p *Pool) Name() string { return p.name }

// Members returns the members in the order of the file. The caller must not modify
// them.
func (p *Pool) Members() []Member { return p.members }

// LeavesDirectly reports whether some member that is enabled dials targets from
// this machine.
func (p *Pool) LeavesDirectly() bool { return p.direct }

// Refuses returns why no member of the pool may be asked for a target, as far as
// that is known without a name server; nil if one may.
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

// DialSlot waits for a slot among the dials in progress, until then at most; leave
// gives it back. The error is a *failure.Error of class overload, or ctx's.
type DialSlot func(ctx context.Context, until time.Time) (leave func(), err error)

// Dial opens a connection to t through the first member that can, within ctx's
// deadline. The error is a *failure.Error, or ctx's when the caller gave up.
func (p *Pool) Dial(ctx context.Context, t Target) (*Conn, error) { return p.DialIn(ctx, t, nil) }

// DialIn is Dial with a limit on concurrent dials: it takes a slot before it dials
// and holds it until it returns, but not while it waits for a budget.
func (p *Pool) DialIn(ctx context.Context, t Target, slot DialSlot) (*Conn, error) {
	return p.dial(ctx, slot, selection{shared: p.set.shared, target: &t})
}

// dialHop is Dial for a hop before an upstream, which counts in no budget.
func (p *Pool) dialHop(ctx context.Context, t Target) (*Conn, error) {
	return p.dial(ctx, nil, selection{shared: p.set.shared, target: &t, hop: true})
}

func (p *Pool) dial(ctx context.Context, slot DialSlot, l selection) (*Conn, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(30 * time.Second)
	}
	var conn *Conn
	w := failover{pool: p, deadline: deadline, selection: l, operation: operation{slot: slot}}
	w.operation.open = func(ctx context.Context, m *Member, h *budgetLease) (err error) {
		if conn, err = m.dial(ctx, p.set, l.target, h); err == nil {
			w.dialled = conn.Dial
		}
		return err
	}
	if err := w.run(ctx); err != nil {
		return nil, err
	}
	conn.Tried, conn.Queued = w.tried, w.queued
	return conn, nil
}

// dial opens a connection that is counted, also in the budgets of h.
func (m *Member) dial(ctx context.Context, s *Set, t *Target, h *budgetLease) (*Conn, error) {
	m.state.dialling.Add(1)
	defer m.state.dialling.Add(-1)
	start := time.Now()
	conn, err := m.open(ctx, s, *t)
	if err != nil {
		return nil, err
	}
	if conn.Forward != nil {
		conn.Forward.Answered = h.opened // the end of the connection does it, too
	} else {
		h.opened()
	}
	now := time.Now()
	conn.Dial = now.Sub(start)
	m.opened(t, conn.Dial, now)
	if m.state.marks.Load()&markPairs != 0 {
		m.allowed(t)
	}
	conn.Release = h.after(m.count(t, conn.Release))
	return conn, nil
}

// Usable reports whether a member may be used for an exchange and a kind that is
// neither ejected nor drained and has no bad verdict there, budgets aside.
func (p *Pool) Usable(exchange string, kind catalog.Kind) bool {
	l := selection{shared: p.set.shared, target: &Target{Exchange: exchange, Kind: kind}}
	return slices.ContainsFunc(p.members, func(m Member) bool { return l.usable(&m) })
}

// Left returns how many of the members that are enabled are usable in this sense.
func (p *Pool) Left(exchange string, kind catalog.Kind) (usable, enabled int) {
	l := selection{shared: p.set.shared, target: &Target{Exchange: exchange, Kind: kind}}
	for i := range p.members {
		m := &p.members[i]
		if m.Enabled {
			enabled++
		}
		if l.usable(m) {
			usable++
		}
	}
	return usable, enabled
}

func (l *selection) usable(m *Member) bool {
	at, _ := l.at(m.state)
	return m.Enabled && at <= degraded
}

// Unavailable is why a member of a pool cannot be used.
type Unavailable struct {
	Upstream string // its name
	Why      string // "ejected (upstream_refused)", "drained", "geoblocked", "disabled"
	Drained  string // what an operator has drained, as proxyd resume takes it: "tokyo-1", "tokyo-1 okx"; "": nothing
	Soon     bool   // it has refused a client's request, and is tried again soon
	Answers  bool   // it is ejected and, as the last resort, has carried a connection since its last failure
	Tried    bool   // new connections are tried through it where no other is left
}

// maxUnavailable bounds what Unavailable returns.
const maxUnavailable = 5

// Unavailable returns why members may not be used for an exchange and a kind, of
// the first few that are enabled: those that are drained, those that are tried all the
// same, then others; if none is enabled, of those that are not.
func (p *Pool) Unavailable(exchange string, kind catalog.Kind) (list []Unavailable) {
	l := selection{shared: p.set.shared, target: &Target{Exchange: exchange, Kind: kind}}
	add := func(most int, which func(m *Member) bool) {
		for i := 0; i < len(p.members) && len(list) < most; i++ {
			if m := &p.members[i]; which(m) {
				list = append(list, m.unavailable(&l))
			}
		}
	}
	enabled := func(want availability) func(m *Member) bool {
		return func(m *Member) bool {
			at, _ := l.at(m.state)
			return m.Enabled && at == want && !m.Drained(exchange)
		}
	}
	add(maxUnavailable-2, func(m *Member) bool { return m.Enabled && m.Drained(exchange) })
	add(maxUnavailable, enabled(avoided))
	add(maxUnavailable, enabled(never))
	if len(list) == 0 {
		add(maxUnavailable, func(m *Member) bool { return !m.Enabled })
	}
	return list
}

func (m *Member) unavailable(l *selection) Unavailable {
	u := Unavailable{Upstream: m.name, Why: "disabled"}
	pr := m.state.pairAt(l.number())
	var v *storedVerdict
	if pr != nil {
		v = pr.verdict.Load()
	}
	switch marks := m.state.marks.Load(); {
	case !m.Enabled:
	case marks&markDrained != 0:
		u.Why, u.Drained = "drained", m.name
	case pr != nil && pr.drained.Load():
		u.Why, u.Drained = "drained for "+l.target.Exchange, m.name+" "+l.target.Exchange
	case v.bad(l.time()) && !pr.contradicts(v, l.target.Kind):
		u.Why, u.Soon = string(v.Word), v.Word == Word(failure.UpstreamDenied) && !v.Until.IsZero()
	case marks&markEjected != 0:
		m.state.mu.Lock()
		u.Why, u.Answers = "ejected ("+string(m.state.health.cause)+")", m.state.health.wins > 0
		m.state.mu.Unlock()
	default:
		u.Why = "in use again"
	}
	at, _ := l.at(m.state)
	u.Tried = m.Enabled && at == avoided
	return u
}

// label returns the pool's name for messages.
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

// inUse returns the identities of the members that are enabled.
func (p *Pool) inUse() (ids []config.Identity) {
	for i := range p.members {
		if m := &p.members[i]; m.Enabled {
			ids = append(ids, m.id)
		}
	}
	return ids
}

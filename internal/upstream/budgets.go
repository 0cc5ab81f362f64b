package upstream

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/limit"
)

// requirement is the budgets that a connection through a member needs.
type requirement struct {
	budgets []*limit.Budget
	rejects bool // one of them may have no room and no queue
}

var noRequirement requirement

// requirements are those of a pool's members for one pair, each computed when it is
// first needed.
type requirements struct {
	members []atomic.Pointer[requirement] // nil: none has any
	queues  bool                          // some may let a connection wait
}

// requirementsOf returns those of a pair.
func (p *Pool) requirementsOf(l *selection) *requirements {
	n := l.number()
	if list := p.requirements.Load(); list != nil && n < len(*list) {
		if of := (*list)[n]; of != nil {
			return of
		}
	}
	return p.addRequirements(n, l)
}

// queues reports whether a connection may have to wait for a budget.
func (p *Pool) queues(l *selection) bool { return !l.hop && p.requirementsOf(l).queues }

// requirement returns what a connection through the i-th member needs. Hops need
// nothing.
func (p *Pool) requirement(i int, l *selection) *requirement {
	if l.hop {
		return &noRequirement
	}
	of := p.requirementsOf(l)
	if of.members == nil {
		return &noRequirement
	}
	if m := of.members[i].Load(); m != nil {
		return m
	}
	m := p.set.requirementOf(l.target, p.members[i].Exit, p.name)
	of.members[i].Store(m)
	return m
}

// addRequirements adds the requirements of the members for a pair.
func (p *Pool) addRequirements(n int, l *selection) *requirements {
	p.mu.Lock()
	defer p.mu.Unlock()
	var old []*requirements
	if list := p.requirements.Load(); list != nil {
		old = *list
	}
	if n < len(old) && old[n] != nil {
		return old[n]
	}
	of := &requirements{}
	f := p.set.limits
	own := f.exchange(pairKey{l.target.Exchange, l.target.Kind})
	of.queues = own.Queue > 0 || f.queues
	if own.IsSet() || len(f.exits) > 0 {
		of.members = make([]atomic.Pointer[requirement], len(p.members))
	}
	next := make([]*requirements, max(n+1, len(old)))
	copy(next, old)
	next[n] = of
	p.requirements.Store(&next)
	return of
}

// requirementOf returns what a connection to t by an exit needs, through a pool
// unless that is "".
func (s *Set) requirementOf(t *Target, exit, pool string) *requirement {
	keys := s.limits.keys(pairKey{t.Exchange, t.Kind}, exit, pool)
	if len(keys) == 0 {
		return &noRequirement
	}
	n := &requirement{}
	for _, k := range keys {
		l := s.limits.of(k)
		n.rejects = n.rejects || !l.Watch && l.Queue == 0
		n.budgets = append(n.budgets, s.shared.limits.Budget(k))
	}
	return n
}

// exhausted reports whether the i-th member is over a budget without a queue.
func (p *Pool) exhausted(i int, l *selection) bool {
	n := p.requirement(i, l)
	return n.rejects && l.shared.limits.Exhausted(n.budgets)
}

// fullError returns the error of a member whose budgets had no room in time.
func fullError(f *limit.Full) *failure.Error {
	e := failure.New(failure.Budget, "%s", f.Error())
	e.Err, e.RetryAfter, e.Skipped = f, f.RetryAfter, true
	e.Hint = "try again later, or spread over more exits"
	if f.Max {
		e.Hint = "close some, or spread over more exits"
	}
	return e
}

// suspendedError returns the error of a connection that needs a budget which another
// process has taken over.
func suspendedError(err error) *failure.Error {
	e := failure.New(failure.Draining, "proxyd is being upgraded, and the new process counts the budgets").With(err, "reconnect in a moment")
	e.RetryAfter, e.Skipped = time.Second, true
	return e
}

// budgetLease is what one connection holds of its budgets, nil if it needs none. It
// is safe for concurrent use.
type budgetLease struct {
	mu    sync.Mutex
	grant limit.Grant
}

// opened records that the dial has succeeded.
func (h *budgetLease) opened() {
	if h != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.grant.Settle()
	}
}

// ended records that the connection has ended.
func (h *budgetLease) ended() {
	if h != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.grant.Release()
	}
}

// failed records how the dial failed: what the exchange may have counted is counted.
func (h *budgetLease) failed(err error) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !mayHaveReached(err) {
		h.grant.Unused()
	}
	h.grant.Release()
}

// after returns release followed by ended.
func (h *budgetLease) after(release func()) func() {
	if h == nil {
		return release
	}
	return chain(release, h.ended)
}

// Budgets returns all budgets of the process: what is left of them, for status and
// metrics, and what another process must know of them. Their limits are those of
// the set that was activated last.
func (s *Set) Budgets() *limit.Table { return s.shared.limits }

// OnBudgetNearlyUsed sets the function that is called, once for each budget that is
// only watched, when 80 % of it are used; for all sets built from one another. It
// must not block.
func (s *Set) OnBudgetNearlyUsed(do func(limit.Row)) { s.shared.nearlyUsed.Store(&do) }

// OnTurnedAway sets the function that is called for what an exchange says against an
// exit, each time that this process finds it; for all sets built from one another. It
// must not block.
func (s *Set) OnTurnedAway(do func(*Upstream, PairVerdict)) { s.shared.found.Store(&do) }

// BudgetRows returns what is left for a connection to t through a member: the rows
// of the exchange, the exit and the pool that have budgets.
func (p *Pool) BudgetRows(member string, t Target) []limit.Row {
	i := slices.IndexFunc(p.members, func(m Member) bool { return m.name == member })
	if i < 0 {
		return nil
	}
	l := selection{shared: p.set.shared, target: &t}
	return l.shared.limits.RowsOf(p.requirement(i, &l).budgets)
}

// HasRoom reports whether the limits on some member that may be tried have room for a
// connection now, for an exchange and a kind.
func (p *Pool) HasRoom(exchange string, kind catalog.Kind) bool {
	l := selection{shared: p.set.shared, target: &Target{Exchange: exchange, Kind: kind}}
	full := func(r limit.Row) bool { return !r.Limits.Watch && r.Remaining == 0 }
	for i := range p.members {
		m := &p.members[i]
		if at, _ := l.at(m.state); !m.Enabled || at == never {
			continue
		}
		if !slices.ContainsFunc(l.shared.limits.RowsOf(p.requirement(i, &l).budgets), full) {
			return true
		}
	}
	return false
}

// Adopt counts a tunnel that another process has opened and handed over, also in
// its budgets, until release is called. u is this set's upstream for it; without
// one of that name both are nil.
func (s *Set) Adopt(pool, upstream, exchange string, kind catalog.Kind) (u *Upstream, release func()) {
	if u = s.names[upstream]; u == nil {
		return nil, nil
	}
	exit, p := u.exit, s.pools[pool]
	if pool == s.direct.name {
		p = s.direct
	}
	if p != nil {
		if i := slices.IndexFunc(p.members, func(m Member) bool { return m.Upstream == u }); i >= 0 {
			exit = p.members[i].Exit
		}
	}
	need := s.requirementOf(&Target{Exchange: exchange, Kind: kind}, exit, pool)
	h := &budgetLease{grant: s.shared.limits.Adopt(need.budgets)}
	return u, chain(u.adopt(exchange, kind), h.ended)
}

// poolExit precedes the name of a pool that stands for an exit. No exit has a
// space in it that does not follow a longer name.
const poolExit = "pool "

// jitterPart is the divisor of the queue time for the jitter after a wait, so that
// not all connections start in the moment when there is room.
const jitterPart = 10

// limitSet holds the limits of one configuration, and nothing else of it.
type limitSet struct {
	exchanges map[pairKey]limit.Limits // those in the file
	exits     map[string]limit.Limits  // with those of pools, by poolExit and the name
	named     map[string]bool          // exits that the file names: only these can be shared
	queues    bool                     // some exit's or pool's lets a connection wait
}

// newLimitSet returns the limits of c.
func newLimitSet(c *config.Config) *limitSet {
	f := &limitSet{exchanges: map[pairKey]limit.Limits{}, exits: map[string]limit.Limits{}, named: map[string]bool{}}
	for _, e := range c.Exchanges {
		for _, k := range []catalog.Kind{catalog.KindHTTP, catalog.KindWebsocket} {
			if l := e.Limits.Of(k); l != (config.Limits{}) {
				f.exchanges[pairKey{e.ID, k}] = limitsOf(l)
			}
		}
	}
	for _, p := range c.Pools {
		if p.Limits != (config.Limits{}) {
			f.exits[poolExit+p.Name] = limitsOf(p.Limits)
		}
		for _, m := range p.Proxies {
			if m.ExitStable {
				f.named[m.Exit] = true
			}
			if m.Enabled && m.Limits != (config.Limits{}) {
				f.exits[m.Exit] = smaller(f.exits[m.Exit], limitsOf(m.Limits))
			}
		}
	}
	for _, l := range f.exits {
		f.queues = f.queues || l.Queue > 0
	}
	return f
}

// limitsOf returns the limits that are written as l.
func limitsOf(l config.Limits) limit.Limits {
	here := l.Here()
	f := limit.Limits{Connects: here.Connects, Per: l.Per, MaxConnections: here.MaxConnections, Queue: l.Queue, Shared: l.Shared}
	if here.Connects != l.Connects {
		f.Whole.Connects = l.Connects
	}
	if here.MaxConnections != l.MaxConnections {
		f.Whole.MaxConnections = l.MaxConnections
	}
	return withJitter(f)
}

// withJitter sets the jitter, which is for windows: they give room to many at the
// same time, while connections end one by one.
func withJitter(l limit.Limits) limit.Limits {
	l.Jitter = 0
	if l.Connects > 0 {
		l.Jitter = l.Queue / jitterPart
	}
	return l
}

// smaller returns the stricter one of each limit; a may have none.
func smaller(a, b limit.Limits) limit.Limits {
	if !a.IsSet() {
		return b
	}
	l := a
	if b.Connects > 0 && (a.Connects == 0 || float64(b.Connects)*a.Per.Seconds() < float64(a.Connects)*b.Per.Seconds()) {
		l.Connects, l.Per, l.Whole.Connects = b.Connects, b.Per, b.Whole.Connects
	}
	if b.MaxConnections > 0 && (a.MaxConnections == 0 || b.MaxConnections < a.MaxConnections) {
		l.MaxConnections, l.Whole.MaxConnections = b.MaxConnections, b.Whole.MaxConnections
	}
	l.Queue = min(a.Queue, b.Queue)
	l.Shared = a.Shared || b.Shared
	return withJitter(l)
}

// exchange returns the limits for each exit: those in the file, else those that the
// exchange publishes, which are only watched.
func (f *limitSet) exchange(k pairKey) limit.Limits {
	if l, ok := f.exchanges[k]; ok || k.exchange == "" {
		return l
	}
	l := limitsOf(config.Published(k.exchange, k.kind))
	l.Watch = true
	return l
}

// of returns the limits of a budget.
func (f *limitSet) of(k limit.Key) limit.Limits {
	if k.Exchange == "" {
		return f.exits[k.Exit]
	}
	for _, kind := range []catalog.Kind{catalog.KindHTTP, catalog.KindWebsocket} {
		if kind.String() == k.Kind {
			l := f.exchange(pairKey{k.Exchange, kind})
			l.Shared = l.Shared && f.named[k.Exit]
			return l
		}
	}
	return limit.Limits{}
}

// keys returns the budgets that a connection needs: those that have limits. pool may
// be "".
func (f *limitSet) keys(to pairKey, exit, pool string) (list []limit.Key) {
	if l := f.exchange(to); l.IsSet() {
		list = append(list, limit.Key{Exchange: to.exchange, Kind: to.kind.String(), Exit: exit})
	}
	for _, name := range []string{exit, poolExit + pool} {
		if l := f.exits[name]; l.IsSet() {
			list = append(list, limit.Key{Exit: name})
		}
	}
	return list
}

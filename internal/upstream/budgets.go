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

// requirement is which budgets a connection through a member takes.
type requirement struct {
	budgets []*limit.Budget
	shuts   bool // one of them may have no room and lets nobody wait
}

var noNeed requirement

// requirements are those of a pool's members for one pair, each found out when it is
// first asked for.
type requirements struct {
	members []atomic.Pointer[requirement] // nil: none has any
	queues  bool                          // some may let a connection wait
}

// needsOf gives those for a pair.
func (p *Pool) needsOf(l *selection) *requirements {
	n := l.number()
	if list := p.needs.Load(); list != nil && n < len(*list) {
		if of := (*list)[n]; of != nil {
			return of
		}
	}
	return p.needsFor(n, l)
}

// queues reports whether a connection may have to wait for a budget.
func (p *Pool) queues(l *selection) bool { return !l.hop && p.needsOf(l).queues }

// need gives what a connection through the i-th member needs. Hops need nothing.
func (p *Pool) need(i int, l *selection) *requirement {
	if l.hop {
		return &noNeed
	}
	of := p.needsOf(l)
	if of.members == nil {
		return &noNeed
	}
	if m := of.members[i].Load(); m != nil {
		return m
	}
	m := p.set.needOf(l.target, p.members[i].Exit, p.name)
	of.members[i].Store(m)
	return m
}

// needsFor makes room for what the members need for a pair.
func (p *Pool) needsFor(n int, l *selection) *requirements {
	p.mu.Lock()
	defer p.mu.Unlock()
	var old []*requirements
	if list := p.needs.Load(); list != nil {
		old = *list
	}
	if n < len(old) && old[n] != nil {
		return old[n]
	}
	of := &requirements{}
	f := p.set.figures
	own := f.exchange(pairKey{l.target.Exchange, l.target.Kind})
	of.queues = own.Queue > 0 || f.queues
	if own.IsSet() || len(f.exits) > 0 {
		of.members = make([]atomic.Pointer[requirement], len(p.members))
	}
	next := make([]*requirements, max(n+1, len(old)))
	copy(next, old)
	next[n] = of
	p.needs.Store(&next)
	return of
}

// needOf is what a connection to t needs that leaves by an exit, through a pool
// unless that is "".
func (s *Set) needOf(t *Target, exit, pool string) *requirement {
	keys := s.figures.keys(pairKey{t.Exchange, t.Kind}, exit, pool)
	if len(keys) == 0 {
		return &noNeed
	}
	n := &requirement{}
	for _, k := range keys {
		l := s.figures.of(k)
		n.shuts = n.shuts || !l.Watch && l.Queue == 0
		n.budgets = append(n.budgets, s.shared.limits.Budget(k))
	}
	return n
}

// exhausted reports whether the i-th member is over a budget that lets nobody wait.
func (p *Pool) exhausted(i int, l *selection) bool {
	n := p.need(i, l)
	return n.shuts && l.shared.limits.Exhausted(n.budgets)
}

// fullFault is the error of a member whose budgets had no room in time.
func fullFault(f *limit.Full) *failure.Error {
	e := failure.New(failure.Budget, "%s", f.Error())
	e.Err, e.RetryAfter, e.Skipped = f, f.RetryAfter, true
	e.Hint = "try again later, or spread over more exits"
	if f.Max {
		e.Hint = "close some, or spread over more exits"
	}
	return e
}

// suspendedFault is the error of who would need a budget that another process
// has taken over.
func suspendedFault(err error) *failure.Error {
	e := failure.New(failure.Draining, "proxyd is being upgraded, and the new process counts the budgets").With(err, "reconnect in a moment")
	e.RetryAfter, e.Skipped = time.Second, true
	return e
}

// budgetLease is what one connection has of its budgets, nil if it has none. Its methods
// may be called at once.
type budgetLease struct {
	mu    sync.Mutex
	grant limit.Grant
}

// opened says that the dial has ended well.
func (h *budgetLease) opened() {
	if h != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.grant.Settle()
	}
}

// ended says that the connection has ended.
func (h *budgetLease) ended() {
	if h != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.grant.Release()
	}
}

// failed says how the dial failed: what the exchange may have counted counts here.
func (h *budgetLease) failed(err error) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !mayHaveCome(err) {
		h.grant.Unused()
	}
	h.grant.Release()
}

// after has release followed by the end of what is held.
func (h *budgetLease) after(release func()) func() {
	if h == nil {
		return release
	}
	return chain(release, h.ended)
}

// Budgets are all budgets of the process: what is left of them, for status and
// metrics, and what another process must know of them. Their figures are those of
// the set that was last put in force.
func (s *Set) Budgets() *limit.Table { return s.shared.limits }

// OnBudgetNearlyUsed sets what is called, once for each budget that is only
// watched, when 80 % of it are used; for all sets that come from one another. It
// must not block.
func (s *Set) OnBudgetNearlyUsed(do func(limit.Row)) { s.shared.nearlyUsed.Store(&do) }

// BudgetRows is what is left for a connection to t through a member: of the
// exchange, the exit and the pool, as far as there are such budgets.
func (p *Pool) BudgetRows(member string, t Target) []limit.Row {
	i := slices.IndexFunc(p.members, func(m Member) bool { return m.name == member })
	if i < 0 {
		return nil
	}
	l := selection{shared: p.set.shared, target: &t}
	return l.shared.limits.RowsOf(p.need(i, &l).budgets)
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
	need := s.needOf(&Target{Exchange: exchange, Kind: kind}, exit, pool)
	h := &budgetLease{grant: s.shared.limits.Adopt(need.budgets)}
	return u, chain(u.adopt(exchange, kind), h.ended)
}

// poolExit leads the name of a pool where it stands for an exit. No exit has a
// space in it that does not follow a longer name.
const poolExit = "pool "

// jitterPart of the time that one may wait is what one that has waited may be
// late by, so that not all go in the moment a place comes free.
const jitterPart = 10

// limitSet are the budgets of one configuration. They hold on to nothing else.
type limitSet struct {
	exchanges map[pairKey]limit.Limits // those that are written
	exits     map[string]limit.Limits  // with those of pools, by poolExit and the name
	queues    bool                     // some exit's or pool's lets a connection wait
}

func newFigures(c *config.Config) *limitSet {
	f := &limitSet{exchanges: map[pairKey]limit.Limits{}, exits: map[string]limit.Limits{}}
	for _, e := range c.Exchanges {
		for _, k := range []catalog.Kind{catalog.KindHTTP, catalog.KindWebsocket} {
			if l := e.Limits.Of(k); l != (config.Limits{}) {
				f.exchanges[pairKey{e.ID, k}] = held(l)
			}
		}
	}
	for _, p := range c.Pools {
		if p.Limits != (config.Limits{}) {
			f.exits[poolExit+p.Name] = held(p.Limits)
		}
		for _, m := range p.Proxies {
			if m.Enabled && m.Limits != (config.Limits{}) {
				f.exits[m.Exit] = smaller(f.exits[m.Exit], held(m.Limits))
			}
		}
	}
	for _, l := range f.exits {
		f.queues = f.queues || l.Queue > 0
	}
	return f
}

func held(l config.Limits) limit.Limits {
	return spread(limit.Limits{Connects: l.Connects, Per: l.Per, MaxConnections: l.MaxConnections, Queue: l.Queue})
}

// spread sets the jitter. A window gives many places back at once, connections
// end one by one.
func spread(l limit.Limits) limit.Limits {
	l.Jitter = 0
	if l.Connects > 0 {
		l.Jitter = l.Queue / jitterPart
	}
	return l
}

// smaller gives for each figure the one that lets less through; a may have none.
func smaller(a, b limit.Limits) limit.Limits {
	if !a.IsSet() {
		return b
	}
	l := a
	if b.Connects > 0 && (a.Connects == 0 || float64(b.Connects)*a.Per.Seconds() < float64(a.Connects)*b.Per.Seconds()) {
		l.Connects, l.Per = b.Connects, b.Per
	}
	if b.MaxConnections > 0 && (a.MaxConnections == 0 || b.MaxConnections < a.MaxConnections) {
		l.MaxConnections = b.MaxConnections
	}
	l.Queue = min(a.Queue, b.Queue)
	return spread(l)
}

// exchange gives the figures for each exit: those that are written, else those
// that the exchange publishes, which are only watched.
func (f *limitSet) exchange(k pairKey) limit.Limits {
	if l, ok := f.exchanges[k]; ok || k.exchange == "" {
		return l
	}
	l := held(config.Published(k.exchange, k.kind))
	l.Watch = true
	return l
}

// of gives a budget's figures by its name.
func (f *limitSet) of(k limit.Key) limit.Limits {
	if k.Exchange == "" {
		return f.exits[k.Exit]
	}
	for _, kind := range []catalog.Kind{catalog.KindHTTP, catalog.KindWebsocket} {
		if kind.String() == k.Kind {
			return f.exchange(pairKey{k.Exchange, kind})
		}
	}
	return limit.Limits{}
}

// keys are the budgets that a connection needs, by their names: those that have
// figures. pool may be "".
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

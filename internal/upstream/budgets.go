package upstream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"proxyd/internal/catalog"
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

// acquireBudget takes a place in m's budgets. It waits for one inside the time budget,
// but in a whole walk for one member alone.
func (w *failover) acquireBudget(ctx context.Context, at int) (*budgetLease, *failure.Error) {
	n := w.pool.need(at, &w.look)
	if len(n.budgets) == 0 {
		return nil, nil
	}
	var most time.Duration
	if left := time.Until(w.deadline); !w.waited { // the dial needs time too
		most = left - min(leastLeft, left/2)
	}
	st := w.pool.members[at].state
	st.dialling.Add(1) // so that least_connections sees who has a queue
	defer st.dialling.Add(-1)
	start := time.Now()
	grant, err := w.look.shared.limits.Acquire(ctx, most, n.budgets)
	w.note(time.Since(start))
	if err == nil {
		return &budgetLease{grant: grant}, nil
	}
	if errors.Is(err, limit.ErrSuspended) {
		return nil, suspendedFault(err)
	}
	f, ok := err.(*limit.Full) //nolint:errorlint // Acquire promises the very type
	if !ok {
		return nil, &failure.Error{Class: failure.Budget, Err: err} // the caller has given up
	}
	w.waited = w.waited || f.Queued > 0
	if w.soonest == 0 || f.RetryAfter > 0 && f.RetryAfter < w.soonest {
		w.soonest = f.RetryAfter
	}
	return nil, fullFault(f)
}

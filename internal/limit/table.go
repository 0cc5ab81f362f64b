package limit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Table is all budgets of a process, and lives as long as it. Its methods are
// safe for concurrent use.
type Table struct {
	warn  func(Row)
	start time.Time // what its clock counts from

	mu      sync.Mutex
	limits  func(Key) Limits // those in force
	budgets map[Key]*Budget
	waiting []*waiter // in the order of their arrival
	timer   *time.Timer
	due     int64 // when timer fires; noDeadline while none waits for the clock

	suspended bool
	stop      chan struct{} // closed by Suspend; Resume makes another

	remote Remote          // nil: no budget is shared
	asking map[string]bool // by exit: the answer of remote is awaited
	lastID uint32          // of a slot in shared budgets
}

// ErrSuspended is the error of Acquire while the table grants nothing.
var ErrSuspended = errors.New("no connections are granted: another process takes over")

// NewTable returns a table without budgets. It starts nothing. warn, if not nil,
// is called once for each budget that is only watched, when 80 % of it are
// used, and again only after its limits have changed; it is called by Acquire
// and must not block.
func NewTable(warn func(Row)) *Table {
	return &Table{warn: warn, start: time.Now(), limits: func(Key) Limits { return Limits{} }, budgets: map[Key]*Budget{}, due: noDeadline, stop: make(chan struct{})}
}

// Suspend makes the table grant nothing of budgets that hold something back until
// Resume: what Export then gives stays the whole history. Those that wait, and
// those that come, get ErrSuspended. Connections that are open may end as ever.
func (t *Table) Suspend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.suspended {
		t.suspended = true
		close(t.stop)
		t.wakeAt(noDeadline)
	}
}

// Resume ends Suspend.
func (t *Table) Resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.suspended {
		t.suspended, t.stop = false, make(chan struct{})
		t.serve(t.now())
	}
}

func (t *Table) now() int64 { return int64(time.Since(t.start)) }

// Budget returns the budget of that name, or makes one with the limits in
// force; without any it holds nothing back.
func (t *Table) Budget(k Key) *Budget {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.budget(k)
}

func (t *Table) budget(k Key) *Budget {
	b := t.budgets[k]
	if b == nil {
		b = &Budget{key: k}
		if l := t.limits(k); l.IsSet() {
			b.configure(l, t.now())
			t.share(b)
		}
		t.budgets[k] = b
	}
	return b
}

// Configure puts other limits in force, for the budgets that there are and for
// those that are made later: what limits returns for each, which must always be the
// same and is called with the table locked. Histories stay. A budget without
// limits holds nothing back from now on, and is forgotten when nothing is left to
// remember of it: the caller that may use it must then ask for it anew.
func (t *Table) Configure(limits func(Key) Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.limits = limits
	for k, b := range t.budgets {
		if l := limits(k); l.IsSet() {
			b.configure(l, now)
			t.share(b)
			continue
		}
		b.on = false
		t.share(b)
		if b.used(now) == 0 && b.open+b.remote+b.queued == 0 {
			delete(t.budgets, k)
		}
	}
	t.serve(now)
}

// SetRemoteOpen sets how many connections other processes of this service have
// open, those that are left from before an upgrade. They count against
// MaxConnections. What is not named has none.
func (t *Table) SetRemoteOpen(open map[Key]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.budgets {
		b.remote = 0
	}
	for k, n := range open {
		if n > 0 {
			t.budget(k).remote = n
		}
	}
	t.serve(t.now())
}

// Grant is a slot for one connection in some budgets. The zero Grant holds
// nothing; its methods then do nothing. It must not be copied once used, and its
// methods are not safe for concurrent use.
type Grant struct {
	table   *Table
	budgets []*Budget
	state   uint8
	id      uint32 // of its slots in shared budgets; 0 for none
}

const (
	granted uint8 = iota + 1 // the dial is pending
	settled                  // the dial has ended
)

// Acquire takes a slot in all of the budgets together, or in none. Where there
// is no room it waits, as long as the shortest Queue of those that are full, at
// most for most and not beyond the end of ctx; it does not wait in vain for a
// window that will not have room by then. The error is a *Full, ErrSuspended,
// or ctx's when ctx was cancelled. budgets must not change as long as the Grant
// is used.
//
// The caller dials, then calls Settle, and Release when the connection has
// ended; or Unused, if nothing went out.
func (t *Table) Acquire(ctx context.Context, most time.Duration, budgets []*Budget) (Grant, error) {
	if len(budgets) == 0 {
		return Grant{}, nil
	}
	t.mu.Lock()
	now := t.now()
	if t.due <= now { // the timer is late: those that wait come first
		t.serve(now)
	}
	if t.suspended && slices.ContainsFunc(budgets, (*Budget).enforced) {
		t.mu.Unlock()
		return Grant{}, ErrSuspended
	}
	if roomAt(budgets, now) > now || t.remote != nil && together(budgets) {
		return t.queue(ctx, most, budgets, now) // unlocks
	}
	id := t.take(dialTime(ctx), budgets)
	t.unlockAndWarn(budgets, now)
	return Grant{t, budgets, granted, id}, nil
}

// Adopt takes slots for a connection that is open already: it came from another
// process, and is no more open there. It is no new one, and there need not be room
// for it.
func (t *Table) Adopt(budgets []*Budget) Grant {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range budgets {
		b.open++
		b.remote = max(0, b.remote-1)
		if b.shared != nil {
			b.shared.Share.Connections++
		}
	}
	t.tell(Adopted, 0, budgets)
	return Grant{t, budgets, settled, 0}
}

// Exhausted reports whether one of the budgets has no room and no queue.
func (t *Table) Exhausted(budgets []*Budget) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for _, b := range budgets {
		if b.limits.Queue == 0 && b.roomAt(now) > now {
			return true
		}
	}
	return false
}

// Settle says that the dial has ended and may have reached the exchange: its
// slot in the window is taken for one length of that, from now on.
func (g *Grant) Settle() {
	if g.state != granted {
		return
	}
	g.state = settled
	t := g.table
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settle(g.budgets, g.id)
}

func (t *Table) settle(budgets []*Budget, id uint32) {
	now := t.now()
	for _, b := range budgets {
		b.settle(now)
	}
	t.tell(Settled, id, budgets)
	if len(t.waiting) > 0 { // what was never is a time now
		t.serve(now)
	}
}

// Release says that the connection has ended.
func (g *Grant) Release() {
	if g.state == 0 {
		return
	}
	t := g.table
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range g.budgets {
		b.open--
	}
	t.tell(Released, g.id, g.budgets)
	if g.state == granted {
		t.settle(g.budgets, g.id)
	} else if len(t.waiting) > 0 {
		t.serve(t.now())
	}
	*g = Grant{}
}

// Unused gives the slot back as if it had never been taken: no connection came
// so far that an exchange could count it.
func (g *Grant) Unused() {
	if g.state != granted {
		return
	}
	t := g.table
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unused(g.budgets, g.id)
	*g = Grant{}
}

func (t *Table) unused(budgets []*Budget, id uint32) {
	untake(budgets)
	count(budgets, -1)
	t.tell(Unused, id, budgets)
	if len(t.waiting) > 0 {
		t.serve(t.now())
	}
}

func untake(budgets []*Budget) {
	for _, b := range budgets {
		b.pending--
		b.open--
	}
}

// take takes a slot in each, and returns its id where some are shared: then what this
// process may use of them by itself has room.
func (t *Table) take(dial time.Duration, budgets []*Budget) (id uint32) {
	for _, b := range budgets {
		b.take()
	}
	if t.remote != nil && anyShared(budgets) {
		id = t.nextID()
		count(budgets, 1)
		t.remote.Tell(Note{What: Granted, ID: id, Keys: sharedKeys(budgets), Dial: dial})
	}
	return id
}

// roomAt returns when all have room, as far as can be known now.
func roomAt(budgets []*Budget, now int64) int64 {
	at := now
	for _, b := range budgets {
		at = max(at, b.roomAt(now))
	}
	return at
}

// unlockAndWarn warns of those budgets that are watched and now nearly used up.
func (t *Table) unlockAndWarn(budgets []*Budget, now int64) {
	var rows []Row
	for _, b := range budgets {
		if b.warns(now) {
			rows = append(rows, b.row(now))
		}
	}
	t.mu.Unlock()
	for _, r := range rows {
		if t.warn != nil {
			t.warn(r)
		}
	}
}

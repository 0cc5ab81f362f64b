package limit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Full is the error when a budget had no room in time.
type Full struct {
	Budget     Key
	Limits     Limits
	Left       int           // of Connects
	Open       int           // connections, those of other processes included
	Max        bool          // it is MaxConnections that is used up
	Queued     time.Duration // how long the connection waited
	RetryAfter time.Duration // when a window may have room again; 0 when that is not known
	Why        string        // of a shared budget that this process uses by itself: why, and what it may use
}

// Error returns a sentence: "queued 4.2 s; budget binance via tokyo-1: 0 of 300
// per 5 m".
func (f *Full) Error() string {
	text := fmt.Sprintf("budget %s: %d of %d per %s", f.Budget, f.Left, f.Limits.Connects, Period(f.Limits.Per))
	if f.Max {
		text = fmt.Sprintf("budget %s: %d of %d connections are open", f.Budget, f.Open, f.Limits.MaxConnections)
	}
	if whole := f.Limits.Whole; f.Max {
		text += partOf(whole.MaxConnections)
	} else {
		text += partOf(whole.Connects)
	}
	if f.Budget.Kind != "" {
		text += " (" + f.Budget.Kind + ")"
	}
	if f.Why != "" {
		text += "; " + f.Why
	}
	if f.Queued > 0 {
		text = fmt.Sprintf("queued %.1f s; %s", f.Queued.Seconds(), text)
	}
	return text
}

// partOf returns that a limit is this host's part of what all hosts may do together, ""
// if it is all of it.
func partOf(whole int) string {
	if whole == 0 {
		return ""
	}
	return fmt.Sprintf(", this host's part of %d", whole)
}

// Period returns a window as people say it: "5 m".
func Period(d time.Duration) string {
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%d m", d/time.Minute)
	default:
		return fmt.Sprintf("%g s", d.Seconds())
	}
}

// refuse counts a refusal and says what was full: the first of the budgets that
// has no room. The table is locked, and unlocked when it returns.
func (t *Table) refuse(budgets []*Budget, start, now int64) *Full {
	defer t.mu.Unlock()
	return t.full(budgets, start, now)
}

// full is refuse, and leaves the table locked.
func (t *Table) full(budgets []*Budget, start, now int64) *Full {
	f := &Full{Queued: time.Duration(now - start)}
	for _, b := range budgets {
		if b.roomAt(now) == now {
			continue
		}
		b.refused, b.refusedAt = b.refused+1, now
		if f.Budget == (Key{}) {
			f.Budget, f.Limits, f.Open = b.key, b.limits, b.open+b.remote
			f.Max = b.windowAt(now) == now // the window has room, so it is the other limit
			f.Left = max(0, b.limits.Connects-b.used(now))
			b.shared.describe(b, f)
		}
		f.RetryAfter = max(f.RetryAfter, b.retryAfter(now))
	}
	return f
}

// retryAfter returns when the window has room. Where all depends on dials that
// are pending it is the longest that it can be if they end now.
func (b *Budget) retryAfter(now int64) time.Duration {
	if b.shared.together() {
		return b.shared.last.RetryAfter
	}
	if at := b.windowAt(now); at != noDeadline {
		return time.Duration(at - now)
	}
	if s := b.shared; s != nil && s.Window == 0 {
		return 0 // no clock brings room
	}
	return b.limits.Per
}

// Row is a budget as status and metrics show it.
type Row struct {
	Budget    Key
	Limits    Limits
	Left      int    // of Connects, in the window that ends now
	Remaining int    // connections that would be admitted now
	Open      int    // connections, those of other processes included
	Queued    int    // connections that wait for it now
	Refused   uint64 // connections that it did not admit in time, so far
	Refusing  bool   // the last of them within 5 s

	RetryAfter time.Duration // until its window has room again; 0: it has

	Share *Share // of a budget that a fleet shares; else nil
}

// refusingFor is how long a budget counts as refusing after the last time.
const refusingFor = int64(5 * time.Second)

// Rows returns the budgets that are in force, by exchange, kind and exit.
func (t *Table) Rows() []Row {
	t.mu.Lock()
	now := t.now()
	rows := make([]Row, 0, len(t.budgets))
	for _, b := range t.budgets {
		if b.on {
			t.refresh(b)
			rows = append(rows, b.row(now))
		}
	}
	t.mu.Unlock()
	slices.SortFunc(rows, func(a, b Row) int { return compare(a.Budget, b.Budget) })
	return rows
}

// Open returns how many connections are open here, of all budgets that have
// some. SetRemoteOpen takes it in another process.
func (t *Table) Open() map[Key]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	open := map[Key]int{}
	for k, b := range t.budgets {
		if b.open > 0 {
			open[k] = b.open
		}
	}
	return open
}

// RowsOf returns some budgets' rows, in their order; those that are not in
// force are left out.
func (t *Table) RowsOf(budgets []*Budget) (rows []Row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for _, b := range budgets {
		if b.on {
			t.refresh(b)
			rows = append(rows, b.row(now))
		}
	}
	return rows
}

// String returns what is left, in words: "binance via tokyo-1: 280 of 300 per 5
// m left, 20 of 500 connections open, 3 wait".
func (r Row) String() string {
	var parts []string
	if l := r.Limits; l.Connects > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d per %s left", r.Left, l.Connects, Period(l.Per))+partOf(l.Whole.Connects))
	}
	if most := r.Limits.MaxConnections; most > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d connections open", r.Open, most)+partOf(r.Limits.Whole.MaxConnections))
	}
	if r.Queued > 0 {
		parts = append(parts, fmt.Sprintf("%d wait", r.Queued))
	}
	if r.Limits.Watch {
		parts = append(parts, "only watched")
	}
	if r.Share != nil {
		parts = append(parts, r.Share.String())
	}
	kind := ""
	if r.Budget.Kind != "" {
		kind = " (" + r.Budget.Kind + ")"
	}
	return r.Budget.String() + kind + ": " + strings.Join(parts, ", ")
}

func (b *Budget) row(now int64) Row {
	r := Row{
		Budget: b.key, Limits: b.limits, Left: max(0, b.limits.Connects-b.used(now)), Remaining: b.left(now), Open: b.open + b.remote,
		Queued: b.queued, Refused: b.refused, Refusing: b.refused > 0 && now-b.refusedAt < refusingFor,
	}
	if b.windowAt(now) != now {
		r.RetryAfter = b.retryAfter(now)
	}
	b.shared.fill(b, &r, now)
	return r
}

func compare(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Exchange, b.Exchange), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Exit, b.Exit))
}

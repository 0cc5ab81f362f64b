package limit

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	long   = time.Hour
	second = time.Second
)

// one is a table with one budget.
func one(l Limits) (*Table, []*Budget) {
	t := NewTable(nil)
	k := Key{"binance", "websocket", "tokyo-1"}
	b := []*Budget{t.Budget(k)}
	configure(t, map[Key]Limits{k: l})
	return t, b
}

// configure puts the limits of all in force, and makes their budgets.
func configure(t *Table, all map[Key]Limits) {
	for k, l := range all {
		if l.IsSet() {
			t.Budget(k)
		}
	}
	t.Configure(func(k Key) Limits { return all[k] })
}

// must takes a slot whose dial takes no time.
func must(t *testing.T, table *Table, b []*Budget) *Grant {
	t.Helper()
	g, err := table.Acquire(t.Context(), long, b)
	if err != nil {
		t.Fatal(err)
	}
	g.Settle()
	return &g
}

func refused(t *testing.T, table *Table, b []*Budget) *Full {
	t.Helper()
	_, err := table.Acquire(t.Context(), long, b)
	var full *Full
	if !errors.As(err, &full) {
		t.Fatalf("got %v, want a refusal", err)
	}
	return full
}

// The window slides: each slot comes back one window after its own dial has
// ended, and a nanosecond later than two arrivals could still be in one.
func TestWindowSlides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 2, Per: 10 * second})
		must(t, table, b)
		time.Sleep(4 * second)
		must(t, table, b)
		if f := refused(t, table, b); f.RetryAfter != 6*second+1 {
			t.Errorf("room in %v", f.RetryAfter)
		}
		time.Sleep(6 * second)
		refused(t, table, b)
		time.Sleep(time.Nanosecond)
		must(t, table, b)
		if f := refused(t, table, b); f.RetryAfter != 4*second {
			t.Errorf("room in %v", f.RetryAfter)
		}
	})
}

// A slot is taken while its dial is pending, and for a window after that,
// so that the exchange never sees too many, however long dials take.
func TestPendingDialHoldsItsSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 1, Per: second})
		g, err := table.Acquire(t.Context(), 0, b)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * second)
		if f := refused(t, table, b); f.RetryAfter != second {
			t.Errorf("while it dials: room in %v, want a window", f.RetryAfter)
		}
		g.Settle()
		time.Sleep(second)
		refused(t, table, b)
		time.Sleep(time.Nanosecond)
		g2, err := table.Acquire(t.Context(), 0, b)
		if err != nil {
			t.Fatal(err)
		}
		g2.Unused()
		must(t, table, b)
	})
}

func TestMaxConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{MaxConnections: 2, Queue: second})
		first, second := must(t, table, b), must(t, table, b)
		start := time.Now()
		f := refused(t, table, b)
		if took := time.Since(start); took != time.Second || f.RetryAfter != 0 || f.Open != 2 {
			t.Errorf("after %v: %+v", took, f)
		}
		first.Release()
		first.Release() // counts once
		must(t, table, b)
		refused(t, table, b)
		second.Release()
		time.AfterFunc(300*time.Millisecond, must(t, table, b).Release)
		start = time.Now()
		must(t, table, b)
		if took := time.Since(start); took != 300*time.Millisecond {
			t.Errorf("woken after %v, want the moment of the release", took)
		}
	})
}

// What is needed for an answer, in words.
func TestFullError(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		key    Key
		limits Limits
		most   time.Duration
		want   string
	}{
		{"queued in vain", Key{"binance", "", "tokyo-1"}, Limits{MaxConnections: 1, Queue: 4200 * time.Millisecond}, long, "queued 4.2 s; budget binance via tokyo-1: 1 of 1 connections are open"},
		{"no room before the queue's end", Key{"binance", "", "tokyo-1"}, Limits{Connects: 1, Per: 5 * time.Minute, Queue: 2 * second}, long, "budget binance via tokyo-1: 0 of 1 per 5 m"},
		{"of a kind", Key{"binance", "websocket", "tokyo-1"}, Limits{Connects: 1, Per: 1500 * time.Millisecond}, long, "budget binance via tokyo-1: 0 of 1 per 1.5 s (websocket)"},
		{"of all traffic", Key{"", "", "tokyo-1"}, Limits{Connects: 1, Per: time.Hour, Queue: 2 * time.Hour}, time.Minute, "budget tokyo-1: 0 of 1 per 1 h"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				table := NewTable(nil)
				b := []*Budget{table.Budget(tt.key)}
				configure(table, map[Key]Limits{tt.key: tt.limits})
				must(t, table, b)
				_, err := table.Acquire(t.Context(), tt.most, b)
				if err == nil || err.Error() != tt.want {
					t.Errorf("got  %v\nwant %s", err, tt.want)
				}
			})
		})
	}
}

// One that is queued while a dial is pending waits for what becomes of it.
func TestFullErrorNamesTheTimeQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 300, Per: 5 * time.Minute, Queue: 4200 * time.Millisecond})
		for range 300 {
			g, err := table.Acquire(t.Context(), 0, b)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Release()
		}
		if f := refused(t, table, b); !strings.HasPrefix(f.Error(), "queued 4.2 s; budget binance via tokyo-1: 0 of 300 per 5 m") {
			t.Error(f)
		}
	})
}

// Budgets that go together are taken together, or not at all.
func TestAcquireTakesAllBudgetsOrNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(nil)
		wide, narrow := Key{"", "", "tokyo-1"}, Key{"binance", "websocket", "tokyo-1"}
		both := []*Budget{table.Budget(wide), table.Budget(narrow)}
		configure(table, map[Key]Limits{wide: {Connects: 5, Per: long, MaxConnections: 5}, narrow: {MaxConnections: 1}})
		g := must(t, table, both)
		for range 3 {
			if f := refused(t, table, both); f.Budget != narrow {
				t.Errorf("full is %v", f.Budget)
			}
		}
		g.Release()
		want := []Row{
			{Budget: wide, Limits: Limits{Connects: 5, Per: long, MaxConnections: 5}, Left: 4, Remaining: 4},
			{Budget: narrow, Limits: Limits{MaxConnections: 1}, Remaining: 1, Refused: 3, Refusing: true},
		}
		if diff := cmp.Diff(want, table.Rows()); diff != "" {
			t.Error(diff)
		}
		if ok, _ := table.Room(both); !ok {
			t.Error("there is room")
		}
		must(t, table, both)
		if ok, in := table.Room(both); ok || in != 0 {
			t.Errorf("room: %v, %v", ok, in)
		}
	})
}

// A budget that is only watched holds nothing back, and is reported once.
func TestWatchedBudgetHoldsNothingBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var warned []Row
		table := NewTable(func(r Row) { warned = append(warned, r) })
		k := Key{"binance", "websocket", "tokyo-1"}
		b := []*Budget{table.Budget(k)}
		l := Limits{Connects: 10, Per: time.Minute, Watch: true}
		configure(table, map[Key]Limits{k: l})
		for i := range 25 {
			must(t, table, b)
			if (i >= 7) != (len(warned) == 1) {
				t.Fatalf("%d warnings after %d connections", len(warned), i+1)
			}
		}
		if want := (Row{Budget: k, Limits: l, Left: 2, Remaining: 2, Open: 8}); !cmp.Equal(want, warned[0]) {
			t.Error(cmp.Diff(want, warned[0]))
		}
		if r := table.Rows()[0]; r.Remaining != 0 || r.Refused != 0 {
			t.Errorf("%+v", r)
		}
		configure(table, map[Key]Limits{k: l}) // a reload that changes nothing
		must(t, table, b)
		if len(warned) != 1 {
			t.Errorf("%d warnings", len(warned))
		}
		l.Connects = 20
		configure(table, map[Key]Limits{k: l})
		for range 20 {
			must(t, table, b)
		}
		if len(warned) != 2 {
			t.Errorf("%d warnings, want one more for other limits", len(warned))
		}
	})
}

// Clients that connect at the same time, as at a start, may use up a watched limit of a
// second: only what exceeds it is reported.
func TestWatchedBudgetOfASecondIsReportedOnceExceeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		warned := 0
		table := NewTable(func(Row) { warned++ })
		k := Key{"okx", "websocket", "tokyo-1"}
		b := []*Budget{table.Budget(k)}
		configure(table, map[Key]Limits{k: {Connects: 3, Per: time.Second, Watch: true}})
		for range 3 {
			must(t, table, b)
		}
		time.Sleep(2 * time.Second)
		for range 3 {
			must(t, table, b)
		}
		if warned != 0 {
			t.Errorf("%d warnings of a limit that is kept", warned)
		}
		must(t, table, b)
		if warned != 1 {
			t.Errorf("%d warnings of one that is exceeded", warned)
		}
	})
}

// A zero grant, and one of no budgets, cost nothing and do nothing.
func TestAcquireWithoutBudgets(t *testing.T) {
	t.Parallel()
	table := NewTable(nil)
	g, err := table.Acquire(context.Background(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.Settle()
	g.Unused()
	g.Release()
	unset := []*Budget{table.Budget(Key{Exit: "x"})} // never configured
	for range 100 {
		must(t, table, unset).Release()
	}
	if rows := table.Rows(); len(rows) != 0 {
		t.Errorf("got %+v", rows)
	}
}

// Room reports whether all budgets have room now. If not, in is the time until
// their windows do, 0 if that is not known. It takes nothing.
func (t *Table) Room(budgets []*Budget) (ok bool, in time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	switch at := roomAt(budgets, now); at {
	case now:
		return true, 0
	case noDeadline:
		return false, 0
	default:
		return false, time.Duration(at - now)
	}
}

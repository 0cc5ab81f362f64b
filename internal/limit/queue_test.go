package limit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A crowd against a queue: as many as the windows inside the queue's time admit
// get through, in their order, the rest are told why, and nobody waits in vain.
func TestCrowd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 100, Per: second, Queue: 2500 * time.Millisecond})
		start := time.Now()
		var mu sync.Mutex
		var order []int
		var at []time.Time
		refusals := 0
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				g, err := table.Acquire(t.Context(), long, b)
				mu.Lock()
				defer mu.Unlock()
				var full *Full
				switch {
				case err == nil:
					g.Settle()
					order, at = append(order, i), append(at, time.Now())
				case errors.As(err, &full) && full.Left == 0 && full.Limits.Connects == 100 && full.Queued == 2500*time.Millisecond && full.RetryAfter > 0 && full.RetryAfter <= second:
					refusals++
				default:
					t.Errorf("got %v", err)
				}
			})
			synctest.Wait() // so that the order of arrival is known
		}
		all.Wait()
		if len(order) != 300 || refusals != 700 {
			t.Errorf("%d were admitted and %d refused, want 300 and 700", len(order), refusals)
		}
		for i := 0; i < len(order); i += 100 { // those of one moment may tell in any order
			slices.Sort(order[i:min(i+100, len(order))])
		}
		if !slices.IsSorted(order) {
			t.Errorf("not in the order of arrival: %v", order)
		}
		within(t, at, 100, second)
		if took := at[len(at)-1].Sub(start); took != 2*second+2 {
			t.Errorf("the last was admitted after %v", took)
		}
	})
}

// within fails the test when any closed window of that length holds more.
func within(t *testing.T, at []time.Time, most int, window time.Duration) {
	t.Helper()
	slices.SortFunc(at, time.Time.Compare)
	for i := most; i < len(at); i++ {
		if d := at[i].Sub(at[i-most]); d <= window {
			t.Fatalf("%d connections within %v", most+1, d)
		}
	}
}

// tale is what has happened, in order.
type tale struct {
	mu   sync.Mutex
	told []string
}

func (l *tale) is(want ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Equal(l.told, want)
}

// waits puts one into the queue and tells when it was admitted.
func (l *tale) waits(ctx context.Context, table *Table, b []*Budget, name string) {
	go func() {
		g, err := table.Acquire(ctx, long, b)
		if err != nil {
			name += " refused"
		}
		l.mu.Lock()
		l.told = append(l.told, name)
		l.mu.Unlock()
		g.Settle()
	}()
	synctest.Wait()
}

// One that leaves the queue costs nobody a place: not when it waits, and not when
// its places have just been given to it.
func TestCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 1, Per: second, Queue: long})
		must(t, table, b)
		var told tale
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 2)
		for range 2 {
			go func() { _, err := table.Acquire(ctx, long, b); gone <- err }()
			synctest.Wait()
		}
		told.waits(t.Context(), table, b, "third")
		cancel()
		for range 2 {
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		time.Sleep(second)
		synctest.Wait()
		if !told.is() {
			t.Fatal("too early")
		}
		time.Sleep(1)
		synctest.Wait()
		if !told.is("third") {
			t.Errorf("got %v", told.told)
		}
		if r := table.Rows()[0]; r.Queued != 0 || r.Open != 2 || r.Refused != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// Cancelled in the very moment in which room appears, over and over: no place is
// lost, whichever comes first.
func TestCancelRace(t *testing.T) {
	t.Parallel()
	table, b := one(Limits{MaxConnections: 1, Queue: long})
	for range 300 {
		g := must(t, table, b)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if g, err := table.Acquire(ctx, long, b); err == nil {
					g.Release()
				}
			})
		}
		all.Go(g.Release)
		all.Go(cancel)
		all.Wait()
		if r := table.Rows()[0]; r.Open != 0 || r.Queued != 0 || r.Remaining != 1 {
			t.Fatalf("%+v", r)
		}
	}
}

// Who waits for one budget does not hold up those that do not need it.
func TestQueuesAreApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(nil)
		exit, slow, quick := Key{Exit: "tokyo-1"}, Key{"binance", "http", "tokyo-1"}, Key{"kraken", "http", "tokyo-1"}
		table.Configure(map[Key]Limits{exit: {Connects: 100, Per: second}, slow: {Connects: 1, Per: second, Queue: long}, quick: {Connects: 100, Per: second}})
		b := func(k Key) []*Budget { return []*Budget{table.Budget(exit), table.Budget(k)} }
		var told tale
		must(t, table, b(slow))
		told.waits(t.Context(), table, b(slow), "binance")
		for range 50 {
			must(t, table, b(quick))
		}
		time.Sleep(second + 1)
		synctest.Wait()
		if !told.is("binance") {
			t.Errorf("got %v", told.told)
		}
	})
}

// The wait ends with the caller's time, the shortest queue, or its own most.
func TestPatience(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		queue           time.Duration
		most, ctx, want time.Duration
	}{
		{"no queue", 0, long, long, 0},
		{"the budget's queue", 3 * second, long, long, 3 * second},
		{"the caller's most", 3 * second, 2 * second, long, 2 * second},
		{"ask only", 3 * second, 0, long, 0},
		{"the end of ctx", 3 * second, long, second, second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				table, b := one(Limits{MaxConnections: 1, Queue: tt.queue})
				must(t, table, b)
				ctx, cancel := context.WithTimeout(t.Context(), tt.ctx)
				defer cancel()
				start := time.Now()
				_, err := table.Acquire(ctx, tt.most, b)
				var full *Full
				if took := time.Since(start); !errors.As(err, &full) || took != tt.want || full.Queued != tt.want {
					t.Errorf("after %v, want %v: %v", took, tt.want, err)
				}
			})
		})
	}
}

// Nobody waits for a window that has no room before the wait is over.
func TestNotInVain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 1, Per: 10 * second, Queue: 9 * second})
		must(t, table, b)
		start := time.Now()
		if f := refused(t, table, b); time.Since(start) != 0 || f.Queued != 0 || f.RetryAfter != 10*second+1 {
			t.Errorf("after %v: %+v", time.Since(start), f)
		}
		time.Sleep(second + 1)
		must(t, table, b)
	})
}

// Jitter spreads those that waited over its length, inside their time, and the
// windows stay exact.
func TestJitter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := Limits{Connects: 50, Per: second, Queue: 3 * second, Jitter: 400 * time.Millisecond}
		table, b := one(l)
		var mu sync.Mutex
		var at []time.Time
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				g, err := table.Acquire(t.Context(), long, b)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				at = append(at, time.Now())
				mu.Unlock()
				g.Settle()
			})
		}
		all.Wait()
		within(t, at, 50, second)
		first, last := at[50].Sub(at[0]), at[99].Sub(at[0])
		if first <= second || last > second+l.Jitter+1 || last-first < l.Jitter/2 {
			t.Errorf("those that waited went %v to %v after the others", first, last)
		}
	})
}

// With nobody waiting nothing runs and no timer stands; goleak and the bubble
// would tell of goroutines.
func TestQuiet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 1, Per: second, Queue: long})
		must(t, table, b)
		if table.timer != nil {
			t.Error("a timer, and nobody waits")
		}
		ctx, cancel := context.WithCancel(t.Context())
		var told tale
		told.waits(ctx, table, b, "x")
		if table.due == never {
			t.Error("no timer, and somebody waits")
		}
		cancel()
		synctest.Wait()
		if table.due != never || table.timer.Stop() {
			t.Error("a timer, and nobody waits any more")
		}
	})
}

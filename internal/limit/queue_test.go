package limit

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A crowd against a queue: as many as the windows inside the queue's time admit
// get through, in their order, the rest get an error that says why, and none
// waits in vain.
func TestCrowdIsServedInOrder(t *testing.T) {
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
		for i := 0; i < len(order); i += 100 { // those of one moment may report in any order
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

// grantLog records who was admitted, in order.
type grantLog struct {
	mu       sync.Mutex
	admitted []string
}

func (l *grantLog) is(want ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Equal(l.admitted, want)
}

// waits puts one into the queue and reports when it was admitted.
func (l *grantLog) waits(ctx context.Context, table *Table, b []*Budget, name string) {
	go func() {
		g, err := table.Acquire(ctx, long, b)
		if err != nil {
			name += " refused"
		}
		l.mu.Lock()
		l.admitted = append(l.admitted, name)
		l.mu.Unlock()
		g.Settle()
	}()
	synctest.Wait()
}

// One that leaves the queue costs no other its slot: not when it waits, and not
// when its slots have just been given to it.
func TestCancelledWaiterLeavesTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 1, Per: second, Queue: long})
		must(t, table, b)
		var log grantLog
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 2)
		for range 2 {
			go func() { _, err := table.Acquire(ctx, long, b); gone <- err }()
			synctest.Wait()
		}
		log.waits(t.Context(), table, b, "third")
		cancel()
		for range 2 {
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		time.Sleep(second)
		synctest.Wait()
		if !log.is() {
			t.Fatal("too early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !log.is("third") {
			t.Errorf("got %v", log.admitted)
		}
		if r := table.Rows()[0]; r.Queued != 0 || r.Open != 2 || r.Refused != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// Cancelled in the very moment in which it is given its slots: none is lost,
// whichever it hears of first.
func TestCancelAtTheMomentOfTheGrant(t *testing.T) {
	t.Parallel()
	table, b := one(Limits{MaxConnections: 1, Queue: long})
	for range 500 {
		g := must(t, table, b)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			g, err := table.Acquire(ctx, long, b)
			g.Release()
			done <- err
		}()
		for table.Rows()[0].Queued == 0 {
			runtime.Gosched()
		}
		cancel() // it hears of this in its own time, mostly after the release
		g.Release()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if r := table.Rows()[0]; r.Open != 0 || r.Queued != 0 || r.Remaining != 1 {
			t.Fatalf("%+v", r)
		}
	}
}

// Who comes in the moment in which there is room again comes after those who
// have waited for it, also when the timer is late.
func TestNoOvertaking(t *testing.T) {
	t.Parallel()
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			table, b := one(Limits{Connects: 1, Per: second, Queue: long})
			must(t, table, b)
			var log grantLog
			go func() {
				time.Sleep(second + 1) // as the timer does
				if _, err := table.Acquire(t.Context(), 0, b); err == nil {
					t.Error("one that had not waited was first")
				}
			}()
			log.waits(t.Context(), table, b, "waited")
			time.Sleep(second + 1)
			synctest.Wait()
			if !log.is("waited") {
				t.Error("none was admitted")
			}
		})
	}
}

// Whatever makes room is felt at once by those who wait.
func TestWhateverMakesRoomWakesWaiters(t *testing.T) {
	t.Parallel()
	key := Key{"binance", "websocket", "tokyo-1"}
	for name, event := range map[string]func(table *Table, g *Grant){
		"the end of a connection":           func(_ *Table, g *Grant) { g.Settle(); g.Release() },
		"the end of one that dials":         func(_ *Table, g *Grant) { g.Release() },
		"a slot that was not used":          func(_ *Table, g *Grant) { g.Unused() },
		"the end of one in another process": func(table *Table, _ *Grant) { table.SetRemoteOpen(map[Key]int{key: 1}) },
		"limits that hold less back":        func(table *Table, _ *Grant) { configure(table, map[Key]Limits{key: {MaxConnections: 4}}) },
		"no limits any more":                func(table *Table, _ *Grant) { configure(table, nil) },
		"limits that are only watched":      func(table *Table, _ *Grant) { configure(table, map[Key]Limits{key: {MaxConnections: 1, Watch: true}}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				table, b := one(Limits{MaxConnections: 3, Queue: long})
				table.SetRemoteOpen(map[Key]int{key: 2})
				g, err := table.Acquire(t.Context(), 0, b)
				if err != nil {
					t.Fatal(err)
				}
				var log grantLog
				log.waits(t.Context(), table, b, "waited")
				if !log.is() {
					t.Fatal("those of other processes are not counted")
				}
				event(table, &g)
				synctest.Wait()
				if !log.is("waited") {
					t.Error("it still waits")
				}
			})
		})
	}
}

// Who waits for one budget does not hold up those that do not need it.
func TestQueuesAreIndependent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(nil)
		exit, slow, quick := Key{Exit: "tokyo-1"}, Key{"binance", "http", "tokyo-1"}, Key{"kraken", "http", "tokyo-1"}
		configure(table, map[Key]Limits{exit: {Connects: 100, Per: second}, slow: {Connects: 1, Per: second, Queue: long}, quick: {Connects: 100, Per: second}})
		b := func(k Key) []*Budget { return []*Budget{table.Budget(exit), table.Budget(k)} }
		var log grantLog
		must(t, table, b(slow))
		log.waits(t.Context(), table, b(slow), "binance")
		for range 50 {
			must(t, table, b(quick))
		}
		time.Sleep(second + 1)
		synctest.Wait()
		if !log.is("binance") {
			t.Errorf("got %v", log.admitted)
		}
	})
}

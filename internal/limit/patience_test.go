package limit

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The wait ends with the caller's time, the shortest queue, or its own most.
func TestQueueTimeIsBounded(t *testing.T) {
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

// None waits for a window that has no room before the wait is over.
func TestNoWaitForRoomThatComesTooLate(t *testing.T) {
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

// However long the jitter, half of what is left of the wait is for the dial.
func TestJitterLeavesTime(t *testing.T) {
	t.Parallel()
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			table, b := one(Limits{Connects: 1, Per: second, Queue: 3*second + 1, Jitter: long})
			must(t, table, b)
			start := time.Now()
			must(t, table, b)
			if took := time.Since(start); took < second+1 || took > 2*second+1 {
				t.Fatalf("it went after %v, want 1 to 2 s", took)
			}
		})
	}
}

// Room that comes in the very last moment of the wait is taken.
func TestRoomInTheLastMomentIsTaken(t *testing.T) {
	t.Parallel()
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			table, b := one(Limits{Connects: 1, Per: second, Queue: second + 1})
			must(t, table, b)
			must(t, table, b)
		})
	}
}

// Without waiters nothing runs and no timer stands; goleak and the bubble
// would report goroutines.
func TestNoTimerWithoutWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 1, Per: second, Queue: long})
		must(t, table, b)
		if table.timer != nil {
			t.Error("a timer, and none waits")
		}
		ctx, cancel := context.WithCancel(t.Context())
		var log grantLog
		log.waits(ctx, table, b, "x")
		if table.due == noDeadline {
			t.Error("no timer, and one waits")
		}
		cancel()
		synctest.Wait()
		if table.due != noDeadline || table.timer.Stop() {
			t.Error("a timer, and none waits any more")
		}
	})
}

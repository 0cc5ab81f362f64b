package limit

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A table that is suspended grants nothing: neither to those who wait, nor to
// those who have waited and are a little late on purpose, nor to those who come.
func TestSuspendGrantsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := Limits{Connects: 2, Per: second, Queue: 5 * second, Jitter: second}
		table, b := one(l)
		must(t, table, b)
		must(t, table, b)
		var all sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			all.Go(func() { _, errs[i] = table.Acquire(t.Context(), long, b) })
		}
		time.Sleep(second + 2) // two have been granted, and put off a little
		table.Suspend()
		all.Wait()
		for i, err := range errs {
			if !errors.Is(err, ErrSuspended) {
				t.Errorf("request %d: %v", i, err)
			}
		}
		if _, err := table.Acquire(t.Context(), long, b); !errors.Is(err, ErrSuspended) {
			t.Errorf("one that comes: %v", err)
		}
		table.Resume()
		must(t, table, b)
		must(t, table, b)
	})
}

// Waiting goes on where nothing came of it.
func TestResumeServesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 1, Per: second, Queue: 5 * second})
		table.Suspend()
		table.Suspend()
		table.Resume()
		table.Resume()
		start := time.Now()
		must(t, table, b)
		must(t, table, b) // the timer stands again
		if took := time.Since(start); took > second+2 {
			t.Errorf("the second was granted after %v", took)
		}
	})
}

// What is only watched is granted as ever, and so is what no budget counts.
func TestSuspendLetsWatchedThrough(t *testing.T) {
	t.Parallel()
	table, b := one(Limits{Connects: 1, Per: second, Watch: true})
	table.Suspend()
	must(t, table, b)
	must(t, table, nil)
}

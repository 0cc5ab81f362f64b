package limit

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A reload changes limits; the history stays.
func TestConfigureKeepsHistory(t *testing.T) {
	t.Parallel()
	key := Key{"binance", "websocket", "tokyo-1"}
	for _, tt := range []struct {
		name          string
		before, after Limits
		used          int // before the reload
		left          int // after it
		in            time.Duration
	}{
		{"the same", Limits{Connects: 5, Per: second}, Limits{Connects: 5, Per: second}, 3, 2, 0},
		{"more", Limits{Connects: 5, Per: second}, Limits{Connects: 50, Per: second}, 5, 45, 0},
		{"fewer", Limits{Connects: 5, Per: second}, Limits{Connects: 2, Per: second}, 5, 0, second + 1 - 10},
		{"a longer window takes in what was outside", Limits{Connects: 5, Per: 1}, Limits{Connects: 5, Per: second}, 5, 0, second + 1 - 10},
		{"a shorter window lets go", Limits{Connects: 5, Per: second}, Limits{Connects: 5, Per: 5}, 5, 5, 0},
		{"of open ones", Limits{MaxConnections: 5}, Limits{MaxConnections: 4}, 3, 1, 0},
		{"of open ones, fewer than are open", Limits{MaxConnections: 5}, Limits{MaxConnections: 2}, 3, 0, 0},
		{"open ones where there was no such limit", Limits{Connects: 5, Per: second}, Limits{MaxConnections: 4}, 3, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				table, b := one(tt.before)
				for range tt.used {
					must(t, table, b)
				}
				time.Sleep(10 * time.Nanosecond)
				configure(table, map[Key]Limits{key: tt.after})
				if r := table.Rows()[0]; r.Remaining != tt.left || r.Limits != tt.after {
					t.Errorf("%+v", r)
				}
				if ok, in := table.Room(b); ok != (tt.left > 0) || in != tt.in {
					t.Errorf("room %v, in %v", ok, in)
				}
				for range tt.left {
					must(t, table, b)
				}
				refused(t, table, b)
			})
		})
	}
}

// Lowered and raised again within a window: the window is known in full.
func TestHistorySurvivesLoweredLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := Limits{Connects: 300, Per: time.Minute}
		table, b := one(l)
		for range 300 {
			must(t, table, b)
		}
		time.Sleep(30 * second)
		configure(table, map[Key]Limits{b[0].Key(): {Connects: 100, Per: time.Minute}})
		refused(t, table, b)
		configure(table, map[Key]Limits{b[0].Key(): l})
		refused(t, table, b)
		time.Sleep(30*second + time.Nanosecond)
		if r := table.Rows()[0]; r.Remaining != 300 {
			t.Errorf("%+v", r)
		}
	})
}

// Memory is bounded by the limit, also where nothing is held back.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	for _, l := range []Limits{{Connects: 100, Per: time.Nanosecond}, {Connects: 100, Per: long, Watch: true}, {MaxConnections: 100}} {
		synctest.Test(t, func(t *testing.T) {
			table, b := one(l)
			for range 10_000 {
				must(t, table, b).Release()
				time.Sleep(2 * time.Nanosecond)
			}
			if n := len(b[0].grants.at); n > 200 {
				t.Errorf("%+v: room for %d times", l, n)
			}
		})
	}
}

// Those who wait feel a reload at once.
func TestConfigureWakesWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 1, Per: long, Queue: long})
		g, err := table.Acquire(t.Context(), 0, b)
		if err != nil {
			t.Fatal(err)
		}
		var log grantLog
		log.waits(t.Context(), table, b, "raised")
		log.waits(t.Context(), table, b, "removed")
		configure(table, map[Key]Limits{b[0].Key(): {Connects: 2, Per: long, Queue: long}})
		synctest.Wait()
		if !log.is("raised") {
			t.Errorf("got %v", log.admitted)
		}
		configure(table, nil)
		synctest.Wait()
		if !log.is("raised", "removed") {
			t.Errorf("got %v", log.admitted)
		}
		g.Release()
	})
}

// What the configuration no longer has is kept in mind as long as it matters.
func TestRemovedBudgetIsKeptWhileItMatters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := Limits{Connects: 1, Per: time.Minute}
		table, b := one(l)
		key := b[0].Key()
		g := must(t, table, b)
		configure(table, nil)
		if rows := table.Rows(); len(rows) != 0 {
			t.Errorf("got %+v", rows)
		}
		must(t, table, b) // nothing holds it back
		configure(table, map[Key]Limits{key: l})
		refused(t, table, b) // and here it is again
		time.Sleep(2 * time.Minute)
		configure(table, nil)
		if len(table.budgets) != 1 {
			t.Error("two connections are open, and it is forgotten")
		}
		g.Release()
		b[0].open-- // the other
		configure(table, nil)
		if len(table.budgets) != 0 {
			t.Error("it is not forgotten")
		}
	})
}

// Another process goes on where this one stopped, through JSON and the wall
// clock, whether it knows its configuration before or after.
func TestHistoryGoesOnInAnotherProcess(t *testing.T) {
	t.Parallel()
	key := Key{"binance", "websocket", "tokyo-1"}
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := Limits{Connects: 10, Per: 10 * second, MaxConnections: 100}
			old, b := one(l)
			for range 3 {
				must(t, old, b)
				time.Sleep(second)
			}
			dialling, err := old.Acquire(t.Context(), 0, b)
			if err != nil {
				t.Fatal(err)
			}
			defer dialling.Release()
			text, err := json.Marshal(old.Export())
			if err != nil {
				t.Fatal(err)
			}
			var list []History
			if err := json.Unmarshal(text, &list); err != nil {
				t.Fatal(err)
			}
			time.Sleep(second) // start of the other
			table := NewTable(nil)
			if !late {
				configure(table, map[Key]Limits{key: l})
			}
			table.Import(list)
			if late {
				configure(table, map[Key]Limits{key: l})
			}
			b = []*Budget{table.Budget(key)}
			moved := table.Adopt(b)
			table.SetRemoteOpen(map[Key]int{key: list[0].Open - 1})
			want := []Row{{Budget: key, Limits: l, Left: 6, Remaining: 6, Open: 4}}
			if diff := cmp.Diff(want, table.Rows()); diff != "" {
				t.Fatalf("%s\n%s", text, diff)
			}
			for i, left := range []int{7, 8, 9, 10} { // the first was 4 s ago
				time.Sleep(map[bool]time.Duration{true: 6*second + 1000}[i == 0])
				if got := table.Rows()[0].Remaining; got != left {
					t.Errorf("after %d more: %d left, want %d", i, got, left)
				}
				time.Sleep(second)
			}
			moved.Release()
			table.SetRemoteOpen(nil)
			if r := table.Rows()[0]; r.Open != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Times are handed over in microseconds, and none becomes earlier by that.
func TestExportRoundsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		old, b := one(Limits{Connects: 1, Per: second})
		time.Sleep(1300 * time.Nanosecond)
		must(t, old, b)
		time.Sleep(1700 * time.Nanosecond) // a whole microsecond
		table, b := one(Limits{Connects: 1, Per: second})
		table.Import(old.Export())
		time.Sleep(second - 1700*time.Nanosecond)
		refused(t, table, b)
		time.Sleep(time.Microsecond)
		must(t, table, b)
	})
}

// What is imported adds to what is here, and times of a clock that was set back
// count as of now.
func TestImportMergesHistories(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 5, Per: 10 * second})
		must(t, table, b)
		now := time.Now()
		table.Import([]History{{Exchange: "binance", Kind: "websocket", Exit: "tokyo-1", Refused: 7, Times: []int64{
			0, now.Add(-20 * second).UnixMicro(), now.Add(-5 * second).UnixMicro(), now.Add(long).UnixMicro(),
		}}})
		if r := table.Rows()[0]; r.Remaining != 2 || r.Refused != 7 {
			t.Errorf("%+v", r)
		}
		time.Sleep(5*second + 1)
		if r := table.Rows()[0]; r.Remaining != 3 {
			t.Errorf("%+v", r)
		}
		time.Sleep(5 * second)
		if r := table.Rows()[0]; r.Remaining != 5 {
			t.Errorf("%+v", r)
		}
	})
}

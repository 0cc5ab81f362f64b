package limit

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A reload changes figures; what has happened has happened.
func TestConfigure(t *testing.T) {
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
		{"open ones where there was no such figure", Limits{Connects: 5, Per: second}, Limits{MaxConnections: 4}, 3, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				table, b := one(tt.before)
				for range tt.used {
					must(t, table, b)
				}
				time.Sleep(10)
				table.Configure(map[Key]Limits{key: tt.after})
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

// Those who wait feel a reload at once.
func TestConfigureWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, b := one(Limits{Connects: 1, Per: long, Queue: long})
		g, err := table.Acquire(t.Context(), 0, b)
		if err != nil {
			t.Fatal(err)
		}
		var told tale
		told.waits(t.Context(), table, b, "raised")
		told.waits(t.Context(), table, b, "removed")
		table.Configure(map[Key]Limits{b[0].Key(): {Connects: 2, Per: long, Queue: long}})
		synctest.Wait()
		if !told.is("raised") {
			t.Errorf("got %v", told.told)
		}
		table.Configure(nil)
		synctest.Wait()
		if !told.is("raised", "removed") {
			t.Errorf("got %v", told.told)
		}
		g.Release()
	})
}

// What the configuration no longer has is kept in mind as long as it matters.
func TestRemovedBudgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := Limits{Connects: 1, Per: time.Minute}
		table, b := one(l)
		key := b[0].Key()
		g := must(t, table, b)
		table.Configure(nil)
		if rows := table.Rows(); len(rows) != 0 {
			t.Errorf("got %+v", rows)
		}
		must(t, table, b) // nothing holds it back
		table.Configure(map[Key]Limits{key: l})
		refused(t, table, b) // and here it is again
		time.Sleep(2 * time.Minute)
		table.Configure(nil)
		if len(table.budgets) != 1 {
			t.Error("two connections are open, and it is forgotten")
		}
		g.Release()
		b[0].open-- // the other
		table.Configure(nil)
		if len(table.budgets) != 0 {
			t.Error("it is not forgotten")
		}
	})
}

// Another process goes on where this one stopped, by way of JSON and the wall
// clock, whether it knows its configuration before or after.
func TestHandOver(t *testing.T) {
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
				table.Configure(map[Key]Limits{key: l})
			}
			table.Import(list)
			if late {
				table.Configure(map[Key]Limits{key: l})
			}
			b = []*Budget{table.Budget(key)}
			moved := table.Adopt(b)
			table.Elsewhere(map[Key]int{key: list[0].Open - 1})
			want := []Row{{Budget: key, Limits: l, Remaining: 6, Open: 4}}
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
			table.Elsewhere(nil)
			if r := table.Rows()[0]; r.Open != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// What is imported adds to what is here, and times of a clock that was set back
// count as of now.
func TestImportMerges(t *testing.T) {
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

// Against an oracle that knows all that ever happened and counts it anew each
// time: one at a time, a place is given exactly when there is room for it.
func TestOracle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's chance
			l := Limits{Connects: 1 + r.IntN(9), Per: time.Duration(1 + r.IntN(50)), MaxConnections: r.IntN(2) * (1 + r.IntN(12))}
			table, b := one(l)
			type conn struct {
				g       Grant
				ended   bool // its dial has
				settled time.Time
			}
			var open []*conn
			var past []time.Time // when dials have ended
			for range 2000 {
				switch k := r.IntN(10); {
				case k < 4:
					now, used := time.Now(), 0
					for _, at := range past {
						if now.Sub(at) <= l.Per {
							used++
						}
					}
					for _, c := range open {
						if !c.ended {
							used++
						}
					}
					room := used < l.Connects && (l.MaxConnections == 0 || len(open) < l.MaxConnections)
					g, err := table.Acquire(t.Context(), 0, b)
					if (err == nil) != room {
						t.Fatalf("seed %d, %+v: %d used, %d open: %v", seed, l, used, len(open), err)
					}
					if err == nil {
						open = append(open, &conn{g: g})
					}
				case k < 8:
					time.Sleep(time.Duration(r.IntN(6)))
				case len(open) > 0:
					i := r.IntN(len(open))
					c := open[i]
					switch {
					case c.ended || r.IntN(3) == 0:
						if !c.ended {
							past = append(past, time.Now())
						}
						c.g.Release()
						open = slices.Delete(open, i, i+1)
					case r.IntN(3) == 0:
						c.g.Unused()
						open = slices.Delete(open, i, i+1)
					default:
						c.g.Settle()
						c.ended = true
						past = append(past, time.Now())
					}
				}
			}
		})
	}
}

// Many at once, with dials of all lengths, some lost and some given up, against
// what arrives at the other end: never more in any window than the budget, and
// the budget is used.
func TestArrivals(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			l := Limits{Connects: 20, Per: second, Queue: 20 * second, Jitter: 30 * time.Millisecond}
			table, b := one(l)
			var mu sync.Mutex
			var at []time.Time
			var all sync.WaitGroup
			for i := range 200 {
				all.Go(func() {
					r := rand.New(rand.NewPCG(seed, uint64(i))) //nolint:gosec // a test's chance
					time.Sleep(time.Duration(r.Int64N(int64(5 * second))))
					g, err := table.Acquire(t.Context(), long, b)
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Duration(r.Int64N(int64(100 * time.Millisecond))))
					if r.IntN(5) == 0 {
						g.Unused()
						return
					}
					mu.Lock()
					at = append(at, time.Now()) // it arrives
					mu.Unlock()
					time.Sleep(time.Duration(r.Int64N(int64(100 * time.Millisecond))))
					g.Settle()
					time.Sleep(time.Duration(r.Int64N(int64(second))))
					g.Release()
				})
			}
			start := time.Now()
			all.Wait()
			within(t, at, l.Connects, l.Per)
			if took := time.Since(start); took > 14*second {
				t.Errorf("it took %v", took)
			}
			if r := table.Rows()[0]; r.Open != 0 || r.Queued != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	table, list := one(Limits{Connects: 100_000, Per: time.Microsecond, MaxConnections: 500})
	exit := Key{Exit: "tokyo-1"}
	both := []*Budget{list[0], table.Budget(exit)}
	table.Configure(map[Key]Limits{list[0].Key(): list[0].limits, exit: {MaxConnections: 500}})
	ctx := b.Context()
	for _, bb := range []struct {
		name string
		list []*Budget
	}{{"one budget", list}, {"two budgets", both}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g, err := table.Acquire(ctx, 0, bb.list)
				if err != nil {
					b.Fatal(err)
				}
				g.Settle()
				g.Release()
			}
		})
	}
}

func BenchmarkRoom(b *testing.B) {
	table, list := one(Limits{Connects: 300, Per: time.Minute})
	b.ReportAllocs()
	for b.Loop() {
		table.Room(list)
	}
}

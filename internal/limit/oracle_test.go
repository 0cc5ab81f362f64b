package limit

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Against an oracle that knows all that ever happened and counts it anew each
// time: one at a time, a slot is given exactly when there is room for it.
func TestTableAgreesWithOracle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) { playOracle(t, rand.New(rand.NewPCG(seed, 1))) }) //nolint:gosec // a test's chance
	}
}

// conn is a connection that the oracle knows to be open.
type conn struct {
	grant Grant
	in    []int // which budgets
	ended bool  // its dial has
}

// expected is what an oracle knows of one budget.
type expected struct {
	limits  Limits
	settled []time.Time
	dialing int
	open    int
}

func (o *expected) room() bool {
	used := o.dialing
	for _, at := range o.settled {
		if time.Since(at) <= o.limits.Per {
			used++
		}
	}
	return used < o.limits.Connects && (o.limits.MaxConnections == 0 || o.open < o.limits.MaxConnections)
}

func playOracle(t *testing.T, r *rand.Rand) {
	table := NewTable(nil)
	keys := []Key{{Exit: "tokyo-1"}, {"binance", "http", "tokyo-1"}, {"kraken", "http", "tokyo-1"}}
	oracle := make([]expected, len(keys))
	configure := func(per bool) {
		all := map[Key]Limits{}
		for i, k := range keys {
			l := &oracle[i].limits
			l.Connects, l.MaxConnections = 1+r.IntN(9), r.IntN(2)*(1+r.IntN(12))
			if per || r.IntN(3) == 0 && l.Per > 1 { // only a shorter one: what was outside the window may be forgotten
				l.Per = time.Duration(1 + r.IntN(map[bool]int{true: 50, false: int(l.Per)}[per]))
			}
			all[k] = *l
		}
		configure(table, all)
	}
	configure(true)
	sets := [][]int{{0}, {0, 1}, {0, 2}, {1}, {1, 2}, {0, 1, 2}}
	var open []*conn
	settle := func(c *conn) {
		for _, i := range c.in {
			oracle[i].dialing--
			oracle[i].settled = append(oracle[i].settled, time.Now())
		}
		c.ended = true
	}
	end := func(i int) {
		for _, k := range open[i].in {
			oracle[k].open--
		}
		open = slices.Delete(open, i, i+1)
	}
	for range 2000 {
		k, n := r.IntN(100), 0
		if len(open) > 0 {
			n = r.IntN(len(open))
		}
		switch {
		case k < 40:
			in := sets[r.IntN(len(sets))]
			room, budgets := true, []*Budget(nil)
			for _, i := range in {
				room = room && oracle[i].room()
				budgets = append(budgets, table.Budget(keys[i]))
			}
			g, err := table.Acquire(t.Context(), 0, budgets)
			if (err == nil) != room {
				t.Fatalf("%v: %v, and the oracle says %v: %+v", in, err, room, oracle)
			}
			if err == nil {
				open = append(open, &conn{grant: g, in: in})
				for _, i := range in {
					oracle[i].dialing++
					oracle[i].open++
				}
			}
		case k < 78:
			time.Sleep(time.Duration(r.IntN(6)))
		case k < 80:
			configure(false)
		case len(open) == 0:
		case open[n].ended || k < 85:
			if !open[n].ended {
				settle(open[n])
			}
			open[n].grant.Release()
			end(n)
		case k < 90:
			open[n].grant.Unused()
			for _, i := range open[n].in {
				oracle[i].dialing--
			}
			end(n)
		default:
			open[n].grant.Settle()
			settle(open[n])
		}
	}
}

// Many at once, with dials of all lengths, some lost and some given up, against
// what arrives at the other end: never more in any window than the budget, and
// the budget is used.
func TestArrivalsNeverExceedTheBudget(t *testing.T) {
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
	configure(table, map[Key]Limits{list[0].Key(): list[0].limits, exit: {MaxConnections: 500}})
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

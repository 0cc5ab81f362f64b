//go:build !windows

package fleet

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/limit"
	"proxyd/internal/testkit"
)

// The model of docs/fleet.md, "Capacity". It measures and asserts nothing, so it runs
// only when it is asked for: make fleet-model.
var (
	modelHosts  = flag.String("model", "", "measure fleets of so many hosts, such as 10,30,100")
	modelRounds = flag.Int("rounds", 3, "of the model; the medians count")
	modelWindow = flag.Duration("window", 10*time.Second, "of 300 connections, in the model of a restart")
	modelTime   = flag.Duration("measure", 10*time.Second, "so long each fleet of the model")
)

// What each host of the model has.
const (
	modelExits     = 20
	modelExchanges = 5
	modelReconnect = time.Hour // one feed for each exit and exchange, connected again so often
	modelDial      = 50 * time.Millisecond
	modelStart     = 10 * time.Second // in which all feeds connect at first
	modelTo        = 1000             // hosts that the fit goes to
)

// measures is what a run has found: by name, in the unit that the name says.
type measures map[string]float64

var modelRows = []string{
	"script calls a second", "Redis' CPU, % of a core", "CPU of a call, µs", "of that the script, µs",
	"KB a second to Redis", "KB a second from Redis", "MB in Redis", "round trip, median, ms", "round trip, p99, ms",
	"a grant, median, ms", "a grant, p99, ms", "connections a second", "refused", "losses of Redis", "a host's CPU, % of a core",
}

func TestModelOfManyHosts(t *testing.T) {
	if *modelHosts == "" {
		t.Skip("it is measured with -model")
	}
	var sizes []int
	for _, s := range strings.Split(*modelHosts, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, n)
	}
	all := make([][]measures, len(sizes))
	for round := range *modelRounds {
		for i, n := range sizes { // interleaved: what else the machine does meets all of them
			t.Run(fmt.Sprintf("%d hosts, round %d", n, round+1), func(t *testing.T) { all[i] = append(all[i], measure(t, n)) })
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "medians of %d rounds; load of the machine %s on %d cores\n| |", *modelRounds, load(), runtime.NumCPU())
	for _, n := range sizes {
		fmt.Fprintf(&text, " %d hosts |", n)
	}
	fmt.Fprintf(&text, " %d, extrapolated |\n", modelTo)
	for _, name := range modelRows {
		fmt.Fprintf(&text, "| %s |", name)
		var x, y []float64
		for i, n := range sizes {
			var values []float64
			for _, m := range all[i] {
				values = append(values, m[name])
			}
			slices.Sort(values)
			x, y = append(x, float64(n)), append(y, values[len(values)/2])
			fmt.Fprintf(&text, " %.4g |", values[len(values)/2])
		}
		if a, b := fit(x, y); strings.Contains(name, "ms") || strings.Contains(name, "µs") || strings.Contains(name, "ref") || strings.Contains(name, "loss") || strings.HasPrefix(name, "a host") {
			text.WriteString(" – |\n") // no straight line
		} else {
			fmt.Fprintf(&text, " %.3g |\n", a+b*modelTo)
		}
	}
	t.Log(text.String())
}

// fit returns the straight line through points with the least squares of errors, each
// in proportion to its value.
func fit(x, y []float64) (a, b float64) {
	var s, sx, sy, sxx, sxy float64
	for i := range x {
		w := 1 / max(y[i]*y[i], 1e-9)
		s, sx, sy, sxx, sxy = s+w, sx+w*x[i], sy+w*y[i], sxx+w*x[i]*x[i], sxy+w*x[i]*y[i]
	}
	if d := s*sxx - sx*sx; d != 0 {
		b = (s*sxy - sx*sy) / d
	}
	return (sy - b*sx) / s, b
}

// modelHost is a host of the model.
type modelHost struct {
	*member
	feeds [][]*limit.Budget // the budgets of each
}

// tally is what all hosts of a model see.
type tally struct {
	mu      sync.Mutex
	calls   []time.Duration
	grants  []time.Duration
	refused int
	losses  atomic.Int64
}

func (a *tally) reset() (calls, grants []time.Duration, refused int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	calls, grants, refused = a.calls, a.grants, a.refused
	a.calls, a.grants, a.refused = nil, nil, 0
	return calls, grants, refused
}

func (a *tally) called(ok bool, took time.Duration) {
	if !ok {
		a.losses.Add(1)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, took)
}

// granted takes the result of an Acquire.
func (a *tally) granted(took time.Duration, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.refused++
		return
	}
	a.grants = append(a.grants, took)
}

// newModelHost starts host i of n, with a budget of each exchange at each exit.
func newModelHost(t *testing.T, url string, i, n, exits, exchanges int, per time.Duration, seen *tally) *modelHost {
	h := &modelHost{member: &member{table: limit.NewTable(nil)}}
	h.table.Configure(func(k limit.Key) limit.Limits {
		if k.Exchange == "" {
			return limit.Limits{MaxConnections: 10_000, Shared: true}
		}
		return limit.Limits{Connects: 300, Per: per, Queue: 2 * time.Second, Shared: true}
	})
	for x := range exits {
		exit := fmt.Sprintf("tokyo-%d", x)
		for e := range exchanges {
			h.feeds = append(h.feeds, []*limit.Budget{
				h.table.Budget(limit.Key{Exchange: fmt.Sprintf("exchange-%d", e), Kind: "websocket", Exit: exit}),
				h.table.Budget(limit.Key{Exit: exit}),
			})
		}
	}
	h.budgets = h.feeds[0]
	f, err := New(Options{
		URL: url, Name: "model", Host: fmt.Sprintf("host-%d", i), Hosts: n, Table: h.table, Called: seen.called,
		Row:   func() Host { return Host{PID: 1000 + i, Version: "1.2.3", Config: "0123456789abcdef"} },
		Board: Board{Own: func() []Verdict { return nil }, Others: func([]Verdict) {}, Hint: func(Verdict) {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.fleet = f
	h.stop = run(t, f)
	return h
}

// feed is connected at first, and again at random times, until ctx ends.
func (h *modelHost) feed(ctx context.Context, budgets []*limit.Budget, seen *tally) {
	var g limit.Grant
	defer func() { g.Release() }()
	for pause := rand.N(modelStart); wait(ctx, pause); pause = time.Duration(rand.ExpFloat64() * float64(modelReconnect)) { //nolint:gosec // spreads load
		g.Release()
		for {
			dial, cancel := context.WithTimeout(ctx, 10*time.Second)
			start := time.Now()
			var err error
			g, err = h.table.Acquire(dial, 10*time.Second, budgets)
			cancel()
			seen.granted(time.Since(start), err)
			if err == nil {
				break
			}
			if !wait(ctx, time.Second+rand.N(4*time.Second)) { //nolint:gosec // spreads load
				return
			}
		}
		wait(ctx, modelDial)
		g.Settle()
	}
}

// wait reports whether the time has passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// measure runs a fleet of n hosts.
func measure(t *testing.T, n int) measures {
	r, seen := testkit.StartRedis(t), &tally{}
	r.Settle("model")
	var hosts []*modelHost
	for i := range n {
		hosts = append(hosts, newModelHost(t, r.URL(), i, n, modelExits, modelExchanges, 5*time.Minute, seen))
	}
	for _, h := range hosts {
		h.awaitShared(t)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var feeds sync.WaitGroup
	for _, h := range hosts {
		for _, budgets := range h.feeds {
			feeds.Go(func() { h.feed(ctx, budgets, seen) })
		}
	}
	wait(ctx, modelStart+4*time.Second) // all are connected, and none counts as just connected
	for _, h := range hosts {
		h.awaitShared(t)
	}
	seen.reset()
	losses, before, own, start := seen.losses.Load(), info(r), ownCPU(), time.Now()
	wait(ctx, *modelTime)
	after, took := info(r), time.Since(start).Seconds()
	own = ownCPU() - own
	calls, grants, refused := seen.reset()
	m := measures{"refused": float64(refused), "losses of Redis": float64(seen.losses.Load() - losses), "connections a second": float64(len(grants)) / took}
	cancel()
	feeds.Wait()
	leaving := sync.WaitGroup{}
	for _, h := range hosts {
		leaving.Go(h.stop)
	}
	leaving.Wait()
	since := func(field string) float64 { return (after[field] - before[field]) / took }
	cpu, scripts := since("used_cpu_user")+since("used_cpu_sys"), since("evalsha calls")
	m["script calls a second"], m["Redis' CPU, % of a core"] = scripts, 100*cpu
	m["a host's CPU, % of a core"] = 100 * own / took / float64(n)
	m["CPU of a call, µs"], m["of that the script, µs"] = 1e6*cpu/scripts, since("evalsha usec")/scripts
	m["KB a second to Redis"], m["KB a second from Redis"] = since("total_net_input_bytes")/1e3, since("total_net_output_bytes")/1e3
	m["MB in Redis"] = after["used_memory_dataset"] / 1e6
	m["round trip, median, ms"], m["round trip, p99, ms"] = quantile(calls, 0.5), quantile(calls, 0.99)
	m["a grant, median, ms"], m["a grant, p99, ms"] = quantile(grants, 0.5), quantile(grants, 0.99)
	t.Logf("load %s: %.0f calls a second, %.1f %% CPU, %.1f µs a call, round trip %.2f and %.2f ms", load(), scripts, 100*cpu, 1e6*cpu/scripts, m["round trip, median, ms"], m["round trip, p99, ms"])
	return m
}

// All clients of an exchange at one exit connect again at once. They wait, and try
// again as clients do.
func TestModelOfARestart(t *testing.T) {
	if *modelHosts == "" {
		t.Skip("it is measured with -model")
	}
	for _, c := range []struct {
		hosts, clients, rounds int
		per                    time.Duration
	}{
		{100, 10, *modelRounds, *modelWindow},
		{modelTo, 1, 1, 3 * *modelWindow}, // more than two cores can run without delay
	} {
		for round := range c.rounds {
			t.Run(fmt.Sprintf("%d hosts with %d clients, round %d", c.hosts, c.clients, round+1), func(t *testing.T) { restart(t, c.hosts, c.clients, c.per) })
		}
	}
}

func restart(t *testing.T, n, each int, per time.Duration) {
	r, seen, arrived := testkit.StartRedis(t), &tally{}, &arrivals{}
	r.Settle("model")
	var hosts []*modelHost
	for i := range n {
		hosts = append(hosts, newModelHost(t, r.URL(), i, n, 1, 1, per, seen))
	}
	for _, h := range hosts {
		h.awaitShared(t)
	}
	wait(t.Context(), 2*time.Second)
	seen.reset()
	losses, before, start := seen.losses.Load(), info(r), time.Now()
	var clients sync.WaitGroup
	for i := range n * each {
		h := hosts[i%n]
		clients.Go(func() {
			for {
				dial, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				asked := time.Now()
				g, err := h.table.Acquire(dial, 10*time.Second, h.budgets)
				cancel()
				seen.granted(time.Since(asked), err)
				if err == nil {
					arrived.add()
					wait(t.Context(), modelDial)
					g.Settle()
					return
				}
				wait(t.Context(), time.Second+rand.N(4*time.Second)) //nolint:gosec // spreads load
			}
		})
	}
	clients.Wait()
	took, after := time.Since(start), info(r)
	calls, _, refused := seen.reset()
	least := time.Duration((n*each-1)/300) * per
	cpu := after["used_cpu_user"] + after["used_cpu_sys"] - before["used_cpu_user"] - before["used_cpu_sys"]
	t.Logf("load %s: %d clients of %d hosts are back after %.1f s, the least for 300 per %v is %v: %.3f of it; at most %d in a window, refused %d times, %d losses of Redis, its CPU %.1f %% of a core, %.0f script calls a second, round trip %.2f and %.2f ms",
		load(), n*each, n, took.Seconds(), per, least, took.Seconds()/least.Seconds(), arrived.most(per), refused, seen.losses.Load()-losses,
		100*cpu/took.Seconds(), (after["evalsha calls"]-before["evalsha calls"])/took.Seconds(), quantile(calls, 0.5), quantile(calls, 0.99))
	var leaving sync.WaitGroup
	for _, h := range hosts {
		leaving.Go(h.stop)
	}
	leaving.Wait()
}

// ownCPU returns the CPU time of this process: all hosts of the model.
func ownCPU() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // else it is 0
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// info returns numbers that Redis knows of itself.
func info(r *testkit.Redis) map[string]float64 {
	m := map[string]float64{}
	for _, section := range []string{"cpu", "stats", "memory", "commandstats"} {
		for line := range strings.Lines(r.Do("INFO", section)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if command, ok := strings.CutPrefix(name, "cmdstat_"); ok {
				for _, part := range strings.Split(value, ",") {
					k, v, _ := strings.Cut(part, "=")
					m[command+" "+k], _ = strconv.ParseFloat(v, 64)
				}
				continue
			}
			m[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return m
}

// quantile returns a quantile of times, in ms.
func quantile(list []time.Duration, q float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return float64(list[int(q*float64(len(list)-1))].Microseconds()) / 1e3
}

// load returns the load of the machine in the last minute, where Linux has it.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return cmp.Or(first, "not known")
}

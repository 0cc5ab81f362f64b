//go:build !windows

package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/limit"
	"proxyd/internal/testkit"
)

var key = limit.Key{Exchange: "binance", Kind: "websocket", Exit: "tokyo-1"}

// member is a process of a test: a table, and its part in the fleet.
type member struct {
	table   *limit.Table
	fleet   *Fleet
	budgets []*limit.Budget
	stop    func()
}

func newMember(t *testing.T, url string, l limit.Limits, change func(*Options)) *member {
	t.Helper()
	m := &member{table: limit.NewTable(nil)}
	l.Shared = true
	m.table.Configure(func(limit.Key) limit.Limits { return l })
	m.budgets = []*limit.Budget{m.table.Budget(key)}
	o := Options{URL: url, Name: "test", Host: "host", Table: m.table}
	if change != nil {
		change(&o)
	}
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	m.fleet = f
	m.stop = run(t, f)
	return m
}

// newMembers starts a fleet of so many, and waits until Redis decides.
func newMembers(t *testing.T, n int, url string, l limit.Limits) (list []*member) {
	t.Helper()
	for i := range n {
		list = append(list, newMember(t, url, l, func(o *Options) { o.Host, o.Hosts = fmt.Sprint("host", i), n }))
	}
	for _, m := range list {
		m.awaitShared(t)
	}
	return list
}

// awaitShared waits until Redis decides on the budget.
func (m *member) awaitShared(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, 20*time.Second, "Redis decides", func() bool { return !m.share().Alone })
}

func (m *member) share() limit.Share { return *m.table.RowsOf(m.budgets)[0].Share }

// take asks for a slot without waiting.
func (m *member) take(t *testing.T) (limit.Grant, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	return m.table.Acquire(ctx, 0, m.budgets)
}

// arrivals are what an exchange sees.
type arrivals struct {
	mu sync.Mutex
	at []time.Time
}

func (a *arrivals) add() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
}

// most returns the most arrivals in any window.
func (a *arrivals) most(per time.Duration) (most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.at, time.Time.Compare)
	first := 0
	for i := range a.at {
		for a.at[i].Sub(a.at[first]) > per {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// between returns the arrivals between two times.
func (a *arrivals) between(from, to time.Time) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.at {
		if !at.Before(from) && at.Before(to) {
			n++
		}
	}
	return n
}

// connect connects again and again until ctx ends: a connection that closes at once.
func (m *member) connect(ctx context.Context, a *arrivals) {
	for ctx.Err() == nil {
		dial, cancel := context.WithTimeout(ctx, 40*time.Second)
		g, err := m.table.Acquire(dial, 30*time.Second, m.budgets)
		cancel()
		if err == nil {
			a.add()
			g.Settle()
			g.Release()
			continue
		}
		if full := (*limit.Full)(nil); errors.As(err, &full) {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// withinBound checks that no window had more than docs/fleet.md says of a Redis that was
// lost: the limit, and what is granted in one second.
func (a *arrivals) withinBound(t *testing.T) {
	t.Helper()
	most := a.most(window.Per)
	t.Logf("at most %d in %s", most, window.Per)
	if bound := window.Connects + window.Connects/5; most > bound {
		t.Errorf("%d in %s, and the bound is %d", most, window.Per, bound)
	}
}

// crowd lets so many clients of each member connect, until stop is called.
func crowd(t *testing.T, members []*member, clients int) (seen *arrivals, stop func()) {
	seen = &arrivals{}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, m := range members {
		for range clients {
			all.Go(func() { m.connect(ctx, seen) })
		}
	}
	stop = func() { cancel(); all.Wait() }
	t.Cleanup(stop)
	return seen, stop
}

var window = limit.Limits{Connects: 300, Per: 5 * time.Second, Queue: time.Minute, Jitter: 6 * time.Second}

// slowest measures, until stop is called, how long one takes at most that does not wait.
func (m *member) slowest(t *testing.T) (stop func() time.Duration) {
	done, end := make(chan time.Duration), make(chan struct{})
	go func() { // ends with stop
		var most time.Duration
		for {
			select {
			case <-end:
				done <- most
				return
			case <-time.After(3 * time.Millisecond):
			}
			start := time.Now()
			g, err := m.take(t)
			most = max(most, time.Since(start))
			if err == nil {
				g.Unused()
			}
		}
	}()
	return func() time.Duration { close(end); return <-done }
}

// Promise (data path): hosts that share a budget use all of it and never more, also while Redis stands still; no connection then waits for it for more than 50 ms.
func TestAFrozenRedisDelaysNobody(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	r.Settle("test")
	members := newMembers(t, 8, r.URL(), window)
	seen, stop := crowd(t, members, 100)
	time.Sleep(window.Per) // the first window
	from := time.Now()
	time.Sleep(2 * window.Per)
	used := float64(seen.between(from, time.Now())) / (2 * float64(window.Connects))
	t.Logf("%.1f %% used before", 100*used)
	if used < 0.97 {
		t.Errorf("%.1f %% used", 100*used)
	}
	slowest, losses := members[3].slowest(t), watchLosses(t, members)
	defer losses()
	r.Signal(syscall.SIGSTOP)
	time.Sleep(3 * time.Second)
	for i, m := range members {
		if !m.share().Alone {
			t.Errorf("process %d has not noticed", i)
		}
	}
	r.Signal(syscall.SIGCONT)
	for _, m := range members {
		m.awaitShared(t)
	}
	longest := slowest()
	time.Sleep(2 * window.Per)
	stop()
	most := seen.most(window.Per)
	t.Logf("at most %d in %s, the longest wait was %v", most, window.Per, longest)
	if most > window.Connects {
		t.Errorf("%d in %s", most, window.Per)
	}
	if longest > 50*time.Millisecond+scheduling {
		t.Errorf("one waited for %v", longest)
	}
}

// watchLosses counts how often members lose Redis, until it is called.
func watchLosses(t *testing.T, members []*member) (losses func() int) {
	end, done := make(chan struct{}), make(chan int)
	go func() { // ends with losses
		used, n := make([]bool, len(members)), 0
		for {
			for i, m := range members {
				now := m.fleet.State().Used
				if used[i] && !now {
					n++
					t.Logf("process %d has lost Redis: %s", i, m.fleet.State().Why)
				}
				used[i] = now
			}
			select {
			case <-end:
				done <- n
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() int { close(end); return <-done }
}

// scheduling is what a loaded machine adds to a wait.
const scheduling = 30 * time.Millisecond

// A Redis that comes back without its data learns what was granted before it grants.
func TestAnEmptyRedisIsFed(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	r.Settle("test")
	members := newMembers(t, 4, r.URL(), window)
	seen, stop := crowd(t, members, 50)
	time.Sleep(window.Per + 2*time.Second)
	r.Kill()
	r.Start()
	time.Sleep(time.Second)
	for _, m := range members {
		m.awaitShared(t)
	}
	time.Sleep(window.Per)
	stop()
	seen.withinBound(t)
}

// After a failover the new master has not all that was granted: it is fed, too.
func TestAFailoverWithSentinel(t *testing.T) {
	t.Parallel()
	master := testkit.StartRedis(t)
	master.Settle("test")
	_, port, _ := net.SplitHostPort(master.Addr)
	replica := testkit.StartRedis(t, "--replicaof", "127.0.0.1", port)
	testkit.Eventually(t, testkit.Patience, "the replica follows", func() bool { return strings.Contains(replica.Do("INFO", "replication"), "master_link_status:up") })
	sentinel := testkit.StartSentinel(t, master, "main")
	members := newMembers(t, 4, "redis://"+sentinel+"?master_name=main", window)
	seen, stop := crowd(t, members, 50)
	time.Sleep(window.Per + 2*time.Second)
	master.Kill()
	testkit.Eventually(t, 10*time.Second, "the replica is master", func() bool { return strings.Contains(replica.Do("INFO", "replication"), "role:master") })
	for _, m := range members {
		testkit.Eventually(t, 20*time.Second, "the new master is used", func() bool { return m.fleet.State().Used && !m.share().Alone })
	}
	time.Sleep(window.Per)
	stop()
	seen.withinBound(t)
}

func TestWithoutRedisTheShareHolds(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	r.Settle("test")
	l := limit.Limits{Connects: 40, Per: 2 * time.Second, MaxConnections: 80}
	members := newMembers(t, 4, r.URL(), l)
	for range 20 { // of 40, all by one
		if _, err := members[0].take(t); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(1200 * time.Millisecond) // all hear of it
	r.Kill()
	for _, m := range members {
		testkit.Eventually(t, 5*time.Second, "it is alone", func() bool { return m.share().Alone })
	}
	// 20 are left, between 4: 5 each; the first one has had more than its share already.
	for i, want := range []int{0, 5, 5, 5} {
		got := 0
		for {
			if _, err := members[i].take(t); err != nil {
				if text := err.Error(); !strings.Contains(text, "fleet: Redis is not used; this host's share of 40 per 2 s between 4 hosts is 10") {
					t.Errorf("refusal %q", text)
				}
				break
			}
			got++
		}
		if got != want {
			t.Errorf("process %d has %d, want %d", i, got, want)
		}
	}
}

func TestAProcessThatNeverSawRedis(t *testing.T) {
	t.Parallel()
	url := "redis://" + testkit.FreeAddr(t)
	none := newMember(t, url, window, nil)
	if _, err := none.take(t); err == nil || !strings.Contains(err.Error(), "fleet.hosts would give this host a share") {
		t.Errorf("without hosts: %v", err)
	}
	m := newMember(t, url, window, func(o *Options) { o.Hosts = 100 })
	for i := range 4 {
		if _, err := m.take(t); (err == nil) != (i < 3) {
			t.Errorf("grant %d of a share of 3: %v", i+1, err)
		}
	}
	zero := newMember(t, url, window, func(o *Options) { o.Hosts = 400 })
	if _, err := zero.take(t); err == nil || !strings.Contains(err.Error(), "this host's share of 300 per 5 s between 400 hosts is 0") {
		t.Errorf("a share of 0: %v", err)
	}
}

// far passes on to a Redis, each answer after a while.
func far(t *testing.T, r *testkit.Redis, late time.Duration) (url string) {
	return "redis://" + testkit.NewTCP(t, func(c net.Conn) {
		to, err := net.Dial("tcp", r.Addr)
		if err != nil {
			return
		}
		defer to.Close()
		go func() { _, _ = io.Copy(to, c); _ = to.Close() }() // ends with c, and ends the loop
		buf := make([]byte, 1<<16)
		for {
			n, err := to.Read(buf)
			if err != nil {
				return
			}
			time.Sleep(late)
			if _, err = c.Write(buf[:n]); err != nil {
				return
			}
		}
	}).Addr
}

func TestARedisThatIsFarAwayIsNotUsed(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	r.Settle("test")
	m := newMember(t, far(t, r, 25*time.Millisecond), window, func(o *Options) { o.Hosts = 100 })
	if s := m.fleet.State(); s.Used || !s.Far || !strings.Contains(s.Why, "farther away than 20 ms") {
		t.Errorf("at the start: %+v", s)
	}
	for i := range 4 {
		if _, err := m.take(t); (err == nil) != (i < 3) {
			t.Errorf("grant %d of a share of 3: %v", i+1, err)
		}
	}
	time.Sleep(awayTime + time.Second)
	if s := m.fleet.State(); s.Used || !s.Far {
		t.Errorf("later: %+v", s)
	}
}

func TestOpenConnectionsAreCountedTogether(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	r.Settle("test")
	members := newMembers(t, 2, r.URL(), limit.Limits{MaxConnections: 3})
	var open []limit.Grant
	for i := range 3 {
		g, err := members[i%2].take(t)
		if err != nil {
			t.Fatal(err)
		}
		g.Settle()
		open = append(open, g)
	}
	for i, m := range members {
		if _, err := m.take(t); err == nil || !strings.Contains(err.Error(), "3 of 3 connections are open") {
			t.Errorf("process %d: %v", i, err)
		}
	}
	open[0].Release() // of process 0
	testkit.Eventually(t, 5*time.Second, "the other process has its slot", func() bool {
		g, err := members[1].take(t)
		if err == nil {
			g.Settle()
		}
		return err == nil
	})
	members[1].stop()
	testkit.Eventually(t, leaseTime+3*time.Second, "what a process that has left had open is free", func() bool {
		_, err := members[0].take(t)
		return err == nil
	})
}

func TestHostsWithDifferentLimits(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	r.Settle("test")
	a := newMember(t, r.URL(), limit.Limits{Connects: 10, Per: time.Minute}, func(o *Options) { o.Hosts = 2 })
	b := newMember(t, r.URL(), limit.Limits{Connects: 4, Per: time.Minute}, func(o *Options) { o.Hosts = 2 })
	a.awaitShared(t)
	b.awaitShared(t)
	testkit.Eventually(t, 5*time.Second, "both say so", func() bool { return len(a.fleet.Differences()) == 1 && len(b.fleet.Differences()) == 1 })
	if d := a.fleet.Differences()[0]; d.Budget != key || d.Here.Connects != 10 || d.Force.Connects != 4 {
		t.Errorf("%+v", d)
	}
	for i := range 5 {
		if _, err := a.take(t); (err == nil) != (i < 4) {
			t.Errorf("grant %d of 4: %v", i+1, err)
		}
	}
	if row := a.table.RowsOf(a.budgets)[0]; row.Remaining != 0 || row.Share.Connects != 4 {
		t.Errorf("row %+v", row)
	}
}

// The next process of a host goes on with what the one before was granted.
func TestAnUpgradeHandsSlotsOver(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	r.Settle("test")
	l := limit.Limits{Connects: 3, Per: time.Minute, MaxConnections: 5, Shared: true}
	before := newMembers(t, 1, r.URL(), l)[0]
	for range 2 {
		g, err := before.take(t)
		if err != nil {
			t.Fatal(err)
		}
		g.Settle()
	}
	before.table.Suspend()
	before.fleet.Retire(true)
	after := &member{table: limit.NewTable(nil)}
	after.table.Configure(func(limit.Key) limit.Limits { return l })
	after.budgets = []*limit.Budget{after.table.Budget(key)}
	after.table.Import(before.table.Export())
	f, err := New(Options{URL: r.URL(), Name: "test", Host: "host", Hosts: 1, Table: after.table})
	if err != nil {
		t.Fatal(err)
	}
	after.fleet = f
	f.Import(before.fleet.Export())
	after.stop = run(t, f)
	after.awaitShared(t)
	if g, err := after.take(t); err != nil {
		t.Errorf("the third of three: %v", err)
	} else {
		g.Settle()
	}
	if _, err := after.take(t); err == nil {
		t.Error("a fourth of three")
	}
	before.stop()
	r.Kill() // nothing is left of it: the next Redis has all from the process that is left
	r.Start()
	time.Sleep(time.Second)
	after.awaitShared(t)
	testkit.Eventually(t, 2*time.Second, "all three are known again", func() bool { return after.share().Used == 3 })
	if _, err := after.take(t); err == nil {
		t.Error("a fourth of three, after a restart of Redis")
	}
}

func TestTheRegistryShowsProcesses(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	for i := range 2 {
		newMember(t, r.URL(), window, func(o *Options) {
			o.Host = fmt.Sprint("host", i)
			o.Row = func() Host { return Host{Version: "v1", Config: "abc", Lost: []string{"okx websocket"}} }
		})
	}
	m := newMember(t, r.URL(), window, func(o *Options) { o.Host = "host2" })
	var hosts []Host
	testkit.Eventually(t, 5*time.Second, "three rows", func() bool {
		hosts, _, _ = m.fleet.Hosts(t.Context())
		return len(hosts) == 3
	})
	if h := hosts[1]; h.Host != "host1" || h.Version != "v1" || h.Config != "abc" || len(h.Lost) != 1 || time.Since(h.LastSeen) > 3*time.Second {
		t.Errorf("row %+v", h)
	}
	m.stop()
}

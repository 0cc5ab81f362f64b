//go:build !windows

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// fleetYAML is the configuration of a host of the fleet test. The exchange calm has
// budgets that are never used up, and an exit of its own.
func fleetYAML(redis *testkit.Redis, exit, calm string) string {
	return fmt.Sprintf(`listen: 127.0.0.1:0
admin: ""
fleet: {redis: %q, name: test, hosts: 8}
pools:
  asia: {proxies: [{name: tokyo-1, url: %q, exit: tokyo-1}]}
  calm: {proxies: [{name: calm-1, url: %q, exit: calm-1}]}
exchanges:
  venue: {hosts: {websocket: [feed.venue.example]}, websocket: {pool: asia, timeout_seconds: 60, limits: {connects: 300/5s, queue_seconds: 50, shared: true}}}
  other: {hosts: {websocket: [feed.calm.example]}, websocket: {pool: calm, limits: {connects: 100000/5s, shared: true}}}
`, redis.URL(), exit, calm)
}

// openOnce asks a proxy for a tunnel, and reports whether it has one after the first byte.
func openOnce(ctx context.Context, addr, target string) bool {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	_, _ = fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	line, err := bufio.NewReader(c).ReadString('\n')
	return err == nil && strings.Contains(line, " 200 ")
}

// again connects to a proxy again and again, with so many clients, until ctx ends.
func again(ctx context.Context, all *sync.WaitGroup, addr string, clients int) {
	for range clients {
		all.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				if !openOnce(ctx, addr, venueFeed) {
					select {
					case <-ctx.Done():
					case <-time.After(100 * time.Millisecond):
					}
				}
			}
		})
	}
}

func (a *arrivals) between(from, to time.Time) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.times {
		if !at.Before(from) && at.Before(to) {
			n++
		}
	}
	return n
}

// Promise (data path): eight hosts with 200 clients each use a shared budget to 97 % at least, and the exchange never sees more than the limit in any window, also when processes are killed and when Redis stands still.
//
// Not parallel: it works hard.
func TestEightProcessesShareABudget(t *testing.T) {
	const limit, per, clients = 300, 5 * time.Second, 200
	redis := testkit.StartRedis(t)
	redis.Settle("test")
	exchange := newArrivals(t)
	yaml := fleetYAML(redis, exchange.upstream(t), newArrivals(t).upstream(t))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	var hosts []*process
	begin := func() {
		p := launch(t, "", yaml)
		hosts = append(hosts, p)
		again(ctx, &all, p.Addr, clients)
	}
	for range 8 {
		begin()
	}
	time.Sleep(per + time.Second)
	used := func(windows int) float64 {
		from := time.Now()
		time.Sleep(time.Duration(windows) * per)
		return 100 * float64(exchange.between(from, time.Now())) / float64(windows*limit)
	}
	before := used(2)
	calm, stopCalm := slowestCalm(ctx, hosts[2:])
	for _, p := range hosts[:2] { // in the middle of dials
		_ = p.Cmd.Process.Kill()
	}
	begin()
	begin()
	from := time.Now()
	killed := used(3)
	var seconds []int
	for i := range 15 {
		at := from.Add(time.Duration(i) * time.Second)
		seconds = append(seconds, exchange.between(at, at.Add(time.Second)))
	}
	t.Logf("arrivals in each second after two were killed: %v", seconds)
	redis.Signal(syscall.SIGSTOP)
	time.Sleep(3 * time.Second)
	redis.Signal(syscall.SIGCONT)
	frozen := used(3)
	after := used(2)
	stopCalm()
	t.Logf("used: %.1f %% before, %.1f %% with two killed, %.1f %% after Redis stood still for 3 s, %.1f %% later; at most %d in %s; the longest of the others took %v",
		before, killed, frozen, after, exchange.most(per), per, <-calm)
	losses := 0
	for _, p := range hosts {
		losses += strings.Count(p.Log.String(), "Redis is not used")
	}
	t.Logf("%d times a process lost Redis", losses)
	if most := exchange.most(per); most > limit {
		t.Errorf("%d arrived in %s", most, per)
	}
	if min(before, killed, frozen, after) < 97 {
		t.Error("less than 97 % of the budget were used")
	}
}

// slowestCalm measures the longest time of a connection that need not wait for room.
func slowestCalm(ctx context.Context, hosts []*process) (longest <-chan time.Duration, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	result := make(chan time.Duration, 1)
	go func() { // ends with ctx
		var most time.Duration
		for i := 0; ctx.Err() == nil; i++ {
			start := time.Now()
			if openOnce(ctx, hosts[i%len(hosts)].Addr, "feed.calm.example:443") {
				most = max(most, time.Since(start))
			}
			time.Sleep(2 * time.Millisecond)
		}
		result <- most
	}()
	return result, cancel
}

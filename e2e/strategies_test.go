package e2e

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// Each strategy shares as it says, through a whole daemon.
func TestStrategies(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	for name, tc := range map[string]struct {
		pool string // with %s for the members
		n    int
		ok   func(a, b, c int) bool
	}{
		"round_robin": {"strategy: round_robin, proxies: [{name: a, url: %s, weight: 3}, {name: b, url: %s, weight: 2}, {name: c, url: %s}]", 60,
			func(a, b, c int) bool { return a == 30 && b == 20 && c == 10 }},
		"failover": {"strategy: failover, proxies: [{name: a, url: %s, tier: 2}, {name: b, url: %s}, {name: c, url: %s}]", 20,
			func(a, b, c int) bool { return a == 0 && b == 20 && c == 0 }},
		"random": {"strategy: random, proxies: [{name: a, url: %s, weight: 2}, {name: b, url: %s}, {name: c, url: %s}]", 200,
			func(a, b, c int) bool { return a+b+c == 200 && a > 70 && a < 130 && b > 25 && c > 25 }},
		"hash over the exchange": {"strategy: hash, proxies: [{name: a, url: %s}, {name: b, url: %s}, {name: c, url: %s}]", 20,
			func(a, b, c int) bool { return max(a, b, c) == 20 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ups [3]*testkit.Proxy
			var urls []any
			for i := range ups {
				ups[i] = testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": echo.Addr}})
				urls = append(urls, fmt.Sprintf("%q", ups[i].URL()))
			}
			p := start(t, "pools: {asia: {"+fmt.Sprintf(tc.pool, urls...)+"}}\nexchanges: {binance: asia}\ndefault: reject\n")
			hosts := []string{"api.binance.com:443", "stream.binance.com:9443"}
			for i := range tc.n {
				c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: hosts[i%2]})
				if !reply.OK {
					t.Fatal(reply)
				}
				_ = c.Close()
			}
			if a, b, c := len(ups[0].Asked()), len(ups[1].Asked()), len(ups[2].Asked()); !tc.ok(a, b, c) {
				t.Errorf("%d, %d, %d", a, b, c)
			}
		})
	}
}

// least_connections looks at what is open; lowest_latency at how fast ways open.
func TestStrategiesThatLook(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	to := map[string]string{"*": echo.Addr}
	t.Run("least_connections", func(t *testing.T) {
		t.Parallel()
		a, b := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: to}), testkit.NewProxy(t, testkit.ProxyOptions{Hosts: to})
		p := start(t, fmt.Sprintf("pools: {asia: {strategy: least_connections, proxies: [{url: %q, weight: 3}, {url: %q}]}}\nexchanges: {binance: asia}\ndefault: reject\n", a.URL(), b.URL()))
		for range 40 {
			if _, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: target}); !reply.OK {
				t.Fatal(reply)
			}
		}
		if x, y := len(a.Asked()), len(b.Asked()); x != 30 || y != 10 {
			t.Errorf("%d and %d, want 30 and 10", x, y)
		}
	})
	t.Run("lowest_latency", func(t *testing.T) {
		t.Parallel()
		var slow atomic.Int64
		fast := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: to})
		late := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: to})
		front := testkit.NewTCP(t, func(c net.Conn) {
			slow.Add(1)
			time.Sleep(100 * time.Millisecond)
			up, err := net.Dial("tcp", late.Addr)
			if err != nil {
				return
			}
			defer up.Close()
			var both sync.WaitGroup
			both.Go(func() { _, _ = io.Copy(up, c); _ = up.(*net.TCPConn).CloseWrite() })
			_, _ = io.Copy(c, up)
			_ = c.Close()
			both.Wait()
		})
		p := start(t, fmt.Sprintf("pools: {asia: {strategy: lowest_latency, proxies: [\"http://%s\", %q]}}\nexchanges: {binance: asia}\ndefault: reject\n", front.Addr, fast.URL()))
		for range 100 {
			c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: target})
			if !reply.OK {
				t.Fatal(reply)
			}
			_ = c.Close()
		}
		if n := slow.Load(); n > 15 {
			t.Errorf("the slow one was chosen %d times of 100", n)
		}
	})
}

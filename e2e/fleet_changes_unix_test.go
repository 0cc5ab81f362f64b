//go:build unix

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// sharedHost is the configuration of a host of a fleet, whose exit leads to this
// machine; without redis that of a host that is alone.
func sharedHost(redis *testkit.Redis, limits string) string {
	fleet := ""
	if redis != nil {
		fleet, limits = fmt.Sprintf("fleet: {redis: %q, name: test, hosts: 2}\n", redis.URL()), limits+", shared: true"
	}
	return fleet + "pools: {p: {proxies: [{url: direct, exit: here}]}}\n" +
		"exchanges: {venue: {hosts: {http: [localhost]}, http: {pool: p, limits: {" + limits + "}}}}\n"
}

// refusedWith opens a tunnel that must be refused with such a text.
func refusedWith(t *testing.T, addr, target, text string) {
	t.Helper()
	c, reply := testkit.Open(t, addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
	_ = c.Close()
	if reply.OK || !strings.Contains(reply.Header.Get("X-Proxyd-Error"), "class=budget") || !strings.Contains(reply.Body, text) {
		t.Errorf("%v\nwant a refusal with %q", reply, text)
	}
}

func opens(t *testing.T, addr, target string) *testkit.Conn {
	t.Helper()
	c, reply := testkit.Open(t, addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
	if !reply.OK {
		t.Fatal(reply)
	}
	return c
}

// A reload makes a host one of a fleet, with what it has been granted so far, and makes
// it alone again.
func TestAReloadAddsAndRemovesTheFleet(t *testing.T) {
	t.Parallel()
	redis := testkit.StartRedis(t)
	redis.Settle("test")
	echo := testkit.NewTCP(t, testkit.Echo)
	target := "localhost:" + testkit.Port(echo.Addr)
	const limits = "connects: 4/1h, max_connections: 3"
	p := start(t, loopback+sharedHost(nil, limits))
	first, second := opens(t, p.Addr, target), opens(t, p.Addr, target)
	p.apply(t, loopback+sharedHost(redis, limits))
	other := start(t, loopback+sharedHost(redis, limits))
	third := opens(t, other.Addr, target)
	refusedWith(t, p.Addr, target, "3 of 3 connections are open")
	refusedWith(t, other.Addr, target, "3 of 3 connections are open")
	_ = first.Close()
	testkit.Eventually(t, testkit.Patience, "room for the fourth, on the other host", func() bool {
		c, reply := testkit.Open(t, other.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
		if !reply.OK {
			_ = c.Close()
		}
		return reply.OK
	})
	_ = second.Close()
	testkit.Eventually(t, testkit.Patience, "the window is what is full", func() bool {
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
		_ = c.Close()
		return strings.Contains(reply.Body, "0 of 4 per 1 h")
	})
	works(third)
	p.apply(t, loopback+sharedHost(nil, limits)) // of its own four it has had two
	for range 2 {
		works(opens(t, p.Addr, target))
	}
	refusedWith(t, p.Addr, target, "0 of 4 per 1 h")
}

func TestSharedBudgetsSurviveAnUpgrade(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"tunnels move": {"--move"}, "tunnels stay": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := testkit.StartRedis(t)
			redis.Settle("test")
			echo := testkit.NewTCP(t, testkit.Echo)
			target := "localhost:" + testkit.Port(echo.Addr)
			yaml := sharedHost(redis, "connects: 6/1h, max_connections: 4")
			s := startService(t, yaml)
			other := start(t, loopback+yaml)
			first, second := s.tunnel(t, target), s.tunnel(t, target)
			for range 2 {
				s.upgrade(t, 0, args...)
			}
			third, fourth := s.tunnel(t, target), opens(t, other.Addr, target)
			for range 5 { // as long as the old process has some open, it says so
				time.Sleep(200 * time.Millisecond)
				refusedWith(t, s.Addr, target, "4 of 4 connections are open")
				refusedWith(t, other.Addr, target, "4 of 4 connections are open")
			}
			for _, c := range []*testkit.Conn{first, second, third, fourth} {
				works(c)
			}
			_ = first.Close()
			_ = second.Close()
			for range 2 {
				testkit.Eventually(t, testkit.Patience, "room for another", func() bool {
					_, reply := testkit.Open(t, other.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
					return reply.OK
				})
			}
			refusedWith(t, s.Addr, target, "venue via here")
		})
	}
}

func TestStatusSaysThatRedisIsAway(t *testing.T) {
	t.Parallel()
	redis := testkit.StartRedis(t)
	redis.Settle("test")
	p := start(t, loopback+sharedHost(redis, "connects: 5/1h"))
	echo := testkit.NewTCP(t, testkit.Echo)
	works(opens(t, p.Addr, "localhost:"+testkit.Port(echo.Addr)))
	redis.Kill()
	if l := p.waitLine(`"type":"fleet"`, "Redis is not used"); !strings.Contains(l, "share between 2") {
		t.Errorf("event %s", l)
	}
	refusedAfter := 0
	for range 4 { // of what was left, 4, this host's half
		if c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "localhost:" + testkit.Port(echo.Addr)}); reply.OK {
			refusedAfter++
		} else {
			_ = c.Close()
			if !strings.Contains(reply.Body, "fleet: Redis is not used; this host's share of 5 per 1 h between 2 hosts is 2") {
				t.Errorf("%v", reply)
			}
		}
	}
	if refusedAfter != 1 {
		t.Errorf("%d connections by itself; its share is 2, and it has had one", refusedAfter)
	}
	redis.Start()
	if p.waitLine(`"type":"fleet"`, "Redis is used again") == "" {
		t.Error("no event at the end")
	}
	if n := strings.Count(p.Log.String(), `"type":"fleet"`); n != 2 {
		t.Errorf("%d events, want one at each end", n)
	}
}

//go:build unix

package e2e

import (
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/handover"
	"proxyd/internal/testkit"
)

// diesAtGo is set for a process of this test binary that stands in for a new
// proxyd: it gets ready, and dies when it is to take over.
const diesAtGo = "E2E_DIES_AT_GO"

var _ = func() bool {
	if os.Getenv(diesAtGo) == "" {
		return false
	}
	if p, err := handover.Inherited(net.KeepAliveConfig{}); err == nil && p != nil {
		_, _ = p.Ready()
	}
	os.Exit(3)
	return true
}()

// Budgets are granted again where the new process dies as it takes over.
func TestBudgetsAfterFailedUpgrade(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	echo := testkit.NewTCP(t, testkit.Echo)
	s := startService(t, "exchanges: {venue: {hosts: {http: [localhost]}, http: {url: direct, limits: {connects: 3/1h}}}}\n", diesAtGo+"=1")
	target := "localhost:" + testkit.Port(echo.Addr)
	works(s.tunnel(t, target))
	s.install(t, self)
	if out := s.upgrade(t, 1); !strings.Contains(out, "is started") {
		t.Errorf("proxyd upgrade: %s", out)
	}
	for range 2 {
		works(s.tunnel(t, target))
	}
	if _, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target}); !strings.Contains(reply.Header.Get("X-Proxyd-Error"), "class=budget") {
		t.Errorf("beyond the budget: %v", reply)
	}
}

// The next process knows what this one has used, and what stays open there.
func TestBudgetsSurviveAnUpgrade(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"tunnels move": {"--move"}, "tunnels stay": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			echo := testkit.NewTCP(t, testkit.Echo)
			s := startService(t, "pools: {p: {proxies: [direct]}}\n"+
				"exchanges: {venue: {hosts: {http: [localhost]}, http: {pool: p, limits: {connects: 6/1h, max_connections: 3}}}}\n")
			target := "localhost:" + testkit.Port(echo.Addr)
			full := func(sentence string) {
				t.Helper()
				_, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
				if reply.Status != 503 || !strings.HasPrefix(reply.Body, sentence) {
					t.Errorf("%v\nwant %s", reply, sentence)
				}
			}
			first, second := s.tunnel(t, target), s.tunnel(t, target)
			_ = s.tunnel(t, target).Close() // counts, and is open no more
			testkit.Eventually(t, testkit.Patience, "its end is known", func() bool { return strings.Contains(s.Log.String(), `"msg":"tunnel",`) })
			for range 2 {
				s.upgrade(t, 0, args...)
			}
			third := s.tunnel(t, target)
			full("budget venue via direct: 3 of 3 connections are open (http)")
			for _, c := range []*testkit.Conn{first, second} {
				works(c)
				_ = c.Close()
			}
			testkit.Eventually(t, testkit.Patience, "room for another", func() bool {
				c, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
				_ = c.Close()
				return reply.OK
			})
			testkit.Eventually(t, testkit.Patience, "room for the last", func() bool {
				c, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
				_ = c.Close()
				return reply.OK
			})
			works(third)
			full("budget venue via direct: 0 of 6 per 1 h (http)")
		})
	}
}

// Promise (data path): an upgrade grants no budget twice: clients that wait for one
// then get `draining` with Retry-After, and wait in the new process.
func TestUpgradeWhileClientsWaitForBudget(t *testing.T) {
	t.Parallel()
	const most, per = 5, 3 * time.Second
	var mu sync.Mutex
	var came []time.Time
	exchange := testkit.NewTCP(t, func(c net.Conn) {
		mu.Lock()
		came = append(came, time.Now())
		mu.Unlock()
		testkit.Echo(c)
	})
	s := startService(t, "exchanges: {venue: {hosts: {http: [localhost]}, http: {url: direct, timeout_seconds: 20, limits: {connects: 5/3s, queue_seconds: 9}}}}\n")
	target := "localhost:" + testkit.Port(exchange.Addr)
	start := time.Now()
	for range most {
		s.tunnel(t, target)
	}
	var all sync.WaitGroup
	var drained int
	for range 2 * most {
		all.Go(func() {
			for {
				c, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
				if reply.OK {
					return
				}
				_ = c.Close()
				if reply.Status != 503 || reply.Header.Get("Retry-After") != "1" || !strings.Contains(reply.Header.Get("X-Proxyd-Error"), "class=draining") {
					t.Errorf("got %v", reply)
					return
				}
				mu.Lock()
				drained++
				mu.Unlock()
				time.Sleep(time.Second)
			}
		})
	}
	waiting := regexp.MustCompile(`"queued": ?[1-9]`)
	testkit.Eventually(t, testkit.Patience, "some wait", func() bool { return waiting.MatchString(s.admin(t, s.socket, "/api/v1/status")) })
	s.upgrade(t, 0)
	all.Wait()
	mu.Lock() // a connection may still come whose client was turned away
	defer mu.Unlock()
	if drained == 0 {
		t.Error("the old process has let all wait")
	}
	slices.SortFunc(came, time.Time.Compare)
	for i, at := range came { // one that comes late on a busy machine does not matter: it was granted earlier
		if d, want := at.Sub(start), time.Duration(i/most)*per-50*time.Millisecond; d < want { // the clocks of the three processes are not one
			t.Errorf("connection %d came after %v, want %v or later", i+1, d, want)
		}
	}
}

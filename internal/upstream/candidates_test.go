package upstream

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// With all ejected each is still tried, the one that failed longest ago first;
// and what one does then is remembered.
func TestAllEjectedAreTried(t *testing.T) {
	list := proxies(t, 3)
	s := load(t, poolOf(list, "failover"), nil)
	c, p := stopped(s), only(t, s)
	for _, name := range []string{"b", "c", "a"} {
		s.Upstream(name).recordUpstreamError(failure.UpstreamRefused, 1)
		c.pass(time.Millisecond)
	}
	if got := dials(t, p, 2); got != "bb" {
		t.Errorf("tried %s, want bb", got)
	}
	list[1].SetFault(testkit.On(testkit.AtRequest, func(c net.Conn) { testkit.Reset(c) }))
	if conn := open(t, p, venue); conn.Member.Name() != "c" || tries(conn.Tried) != "b upstream_protocol" {
		t.Errorf("tried %s and then %s", tries(conn.Tried), conn.Member.Name())
	}
	if got := dials(t, p, 1); got != "c" {
		t.Errorf("then %s, want c", got)
	}
	c.pass(time.Minute)
	if got := dials(t, p, 4); got != "cccc" || out(s) != "a b" { // two successes, and it is in use
		t.Errorf("then %s with %q out", got, out(s))
	}
}

// Who only waits for a place chooses when there is one, not before.
func TestPickWaitsForDialSlot(t *testing.T) {
	s := load(t, poolOf(proxies(t, 2), "failover"), nil)
	conn, err := only(t, s).DialIn(budget(t, testkit.Patience), venue, func(context.Context, time.Time) (leave func(), err error) {
		s.Upstream("a").recordUpstreamError(failure.UpstreamRefused, 1)
		return func() {}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	defer conn.Conn.Close()
	if conn.Member.Name() != "b" || len(conn.Tried) > 0 {
		t.Errorf("tried %q and then %s, want b alone", tries(conn.Tried), conn.Member.Name())
	}
}

// When the usable ones fail, the ejected are tried too; but no attempt is cut short for them.
func TestEjectedAreTriedLast(t *testing.T) {
	t.Parallel()
	list := proxies(t, 2)
	s := load(t, poolOf(list, "failover"), nil)
	s.Upstream("a").recordUpstreamError(failure.UpstreamRefused, 1)
	list[1].SetFault(testkit.On(testkit.AtAccept, testkit.SayAndHang("SSH-2.0-x\r\n")))
	if conn := open(t, only(t, s), venue); conn.Member.Name() != "a" || tries(conn.Tried) != "b upstream_protocol" {
		t.Errorf("tried %s and then %s", tries(conn.Tried), conn.Member.Name())
	}
	list[1].SetFault(testkit.On(testkit.AtAccept, testkit.Hang))
	_, e, took := timed(t, only(t, s), 1500*time.Millisecond)
	if e == nil || tries(e.Tried) != "b upstream_timeout" {
		t.Fatalf("got %+v", e)
	}
	between(t, took, 1500*time.Millisecond, 2500*time.Millisecond)
}

// One refuses, one is silent, one works: every request succeeds, and soon the bad
// ones are not tried any more.
func TestOneOfThreeWorks(t *testing.T) {
	t.Parallel()
	for _, strategy := range strategies {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			list := silent(proxies(t, 2), 1)
			text := poolOf(list, strategy) + fmt.Sprintf("      - {name: dead, url: \"socks5://%s\"}\n", testkit.ClosedPort(t))
			p := only(t, load(t, strings.Replace(text, "attempt_seconds: 0.3", "attempt_seconds: 1", 1), nil))
			failed, requests := 0, 40
			if strategy == "round_robin" {
				requests = 500
			}
			for i := range requests {
				conn, err := p.Dial(budget(t, testkit.Patience), venue)
				if err != nil {
					t.Fatalf("request %d: %v", i, err)
				}
				failed += len(conn.Tried)
				_ = conn.Conn.Close()
				conn.Release()
			}
			if failed > 4 {
				t.Errorf("%d attempts failed, want three with the silent one and one with the dead one", failed)
			}
		})
	}
}

// Behind a failure the usable ones come first, then the ejected, each once.
func TestFallbackOrder(t *testing.T) {
	s := load(t, poolOf(proxies(t, 4), "failover"), nil)
	s.Upstream("b").recordUpstreamError(failure.UpstreamRefused, 1)
	l := selection{shared: s.shared, target: &venue}
	if order, sound := only(t, s).fallbackOrder(0, &l); !slices.Equal(order, []int{2, 3, 1}) || sound != 2 {
		t.Errorf("behind the first follow %v, %d of them usable; want [2 3 1] and 2", order, sound)
	}
}

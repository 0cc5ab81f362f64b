package upstream

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// slowly is a SOCKS5 proxy's success after a while, and then silence.
func slowly(after time.Duration) *testkit.Fault {
	return testkit.On(testkit.AtRequest, func(c net.Conn) {
		time.Sleep(after)
		testkit.SayAndHang("\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")(c)
	})
}

// inTime opens a connection with so little time that no attempt is cut short.
func inTime(t testing.TB, p *Pool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	way, err := p.Dial(ctx, venue)
	if err != nil {
		t.Fatal(err)
	}
	way.Release()
	_ = way.Conn.Close()
	return way.Member.Name()
}

// Promise (data path): an upstream whose dials succeed, but slower than
// attempt_seconds, is ejected like one that fails, unless the others are as slow.
func TestSlowDialsEject(t *testing.T) {
	t.Parallel()
	list := proxies(t, 2)
	s := load(t, poolOf(list, "failover"), nil)
	stopped(s)
	list[0].SetFault(slowly(350 * time.Millisecond))
	got := ""
	for range 4 {
		got += inTime(t, only(t, s))
	}
	if got != "aaab" || out(s) != "a" {
		t.Errorf("dials through %s, %q is out", got, out(s))
	}
	u := s.Upstream("a")
	u.Observe(Result{Dial: 400 * time.Millisecond}) // a probe that is as slow brings nothing back
	if e := u.Status().Ejection; e == nil || e.Cause != failure.UpstreamTimeout {
		t.Errorf("ejection: %+v", e)
	}
}

// A target that is slow through every member is the fault of none.
func TestSlowTargetEjectsNone(t *testing.T) {
	t.Parallel()
	list := proxies(t, 2)
	s := load(t, poolOf(list, "round_robin"), nil)
	stopped(s)
	for _, p := range list {
		p.SetFault(slowly(350 * time.Millisecond))
	}
	for range 8 {
		inTime(t, only(t, s))
	}
	if out(s) != "" {
		t.Errorf("%q is out", out(s))
	}
	alone := load(t, poolOf(list[:1], "failover"), nil) // and a lone member has no one to be compared with
	for range 4 {
		inTime(t, only(t, alone))
	}
	if out(alone) != "" {
		t.Errorf("%q is out", out(alone))
	}
}

// Promise (routing): an upstream that takes four times its usual time is asked
// after the others of its tier until it is quick again, and is never ejected for it.
func TestDegradedMemberIsAskedLast(t *testing.T) {
	t.Parallel()
	list := proxies(t, 3)
	text := strings.Replace(poolOf(list, "failover", "", "", "tier: 2"), "attempt_seconds: 0.3", "attempt_seconds: 2", 1)
	s := load(t, text, nil)
	clock := stopped(s)
	p := only(t, s)
	standing := func() string { return p.Standings(venue).Members[0].Standing }
	through(t, p, venue, 3)
	pr := s.Upstream("a").known("", 0)
	pr.usual.Store(int64(10 * time.Millisecond)) // whatever this machine is busy with
	list[0].SetFault(slowly(slowLeast + 50*time.Millisecond))
	through(t, p, venue, 1)
	clock.at = time.Now() // dials are measured by the true one
	if standing() != "degraded" {
		t.Fatalf("after a slow dial: %s, usual %v", standing(), time.Duration(pr.usual.Load()))
	}
	if d := s.Upstream("a").Status().Pairs[0].Degraded; d == nil || d.TookMS < slowFactor*d.UsualMS {
		t.Errorf("status: %+v", d)
	}
	if got := through(t, p, venue, 3); got != "bbb" {
		t.Errorf("while a is degraded: %s", got)
	}
	list[0].SetFault(nil)
	list[1].SetFault(testkit.On(testkit.AtGreeting, testkit.Hang))
	p.set.attempt = 100 * time.Millisecond
	if way := open(t, p, venue); way.Member.Name() != "a" || tries(way.Tried) != "b upstream_timeout" {
		t.Errorf("not before the next tier: %s after %s", way.Member.Name(), tries(way.Tried))
	}
	if standing() != "usable" {
		t.Errorf("after a quick dial: %s", standing())
	}
	s.Upstream("a").observeDial("", 0, time.Second, s.shared.elapsed(clock.at))
	if standing() != "degraded" || out(s) != "" {
		t.Errorf("after another slow one: %s, %q is out", standing(), out(s))
	}
	clock.pass(degradedFor)
	if standing() != "usable" {
		t.Errorf("after %v: %s (until %v)", degradedFor, standing(), pr.degraded.Load())
	}
}

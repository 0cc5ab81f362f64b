package upstream

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// clock is the time of health and verdicts, as a test sets it.
type clock struct {
	mu sync.Mutex
	at time.Time
}

// stopped makes the set's clock stand still.
func stopped(s *Set) *clock {
	c := &clock{at: s.shared.start.Add(time.Hour)}
	s.shared.now = func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.at
	}
	return c
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	c.at = c.at.Add(d)
	c.mu.Unlock()
}

// out are the ejected upstreams of a set: "a c".
func out(s *Set) string {
	var names []string
	for _, u := range s.Upstreams() {
		if _, _, ejected := u.Ejected(); ejected {
			names = append(names, u.Name())
		}
	}
	return strings.Join(names, " ")
}

// rejoin observes successes of probes until u is back, and says how many it took.
func rejoin(t testing.TB, u *Upstream) (probes int) {
	t.Helper()
	for {
		if _, _, ejected := u.Ejected(); !ejected {
			return probes
		}
		if probes++; probes > 100 {
			t.Fatal("it never comes back")
		}
		u.Observe(Result{})
	}
}

// How many failures of each sort take a member out of use, if any do.
func TestFailuresThatEject(t *testing.T) {
	t.Parallel()
	at, request := testkit.AtAccept, testkit.AtRequest
	tests := []struct {
		name  string
		fault *testkit.Fault
		after int // requests; 0: never
	}{
		{"resets", testkit.On(request, func(c net.Conn) { testkit.Reset(c) }), 1},
		{"garbage", testkit.On(at, testkit.SayAndHang("SSH-2.0-x\r\n")), 3},
		{"wants a login", testkit.On(testkit.AtGreeting, testkit.SayAndHang("\x05\xff")), 3},
		{"silent before it has the request", testkit.On(at, testkit.Hang), 3},
		{"silent when it has the request", testkit.On(request, testkit.Hang), 3}, // the next one succeeds
		{"SOCKS 1: failure", testkit.On(request, testkit.SOCKS5Reply(1)), 3},     // the same
		{"SOCKS 2: not allowed", testkit.On(request, testkit.SOCKS5Reply(2)), 0},
		{"SOCKS 3: network", testkit.On(request, testkit.SOCKS5Reply(3)), 0},
		{"SOCKS 4: host", testkit.On(request, testkit.SOCKS5Reply(4)), 0},
		{"SOCKS 5: refused", testkit.On(request, testkit.SOCKS5Reply(5)), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list := proxies(t, 2)
			list[0].SetFault(tt.fault)
			s := load(t, strings.Replace(poolOf(list, "failover"), "attempt_seconds: 0.3", "attempt_seconds: 0.1", 1)+"retry_target_errors: true\n", nil)
			stopped(s)
			for i := 1; i <= 6; i++ {
				open(t, only(t, s), venue).Release()
				if want := tt.after > 0 && i >= tt.after; (out(s) == "a") != want {
					t.Fatalf("after %d requests %q is out", i, out(s))
				}
			}
			if n := list[0].Accepted(); tt.after > 0 && n != tt.after {
				t.Errorf("the ejected one was asked %d times", n)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		text := fmt.Sprintf("default: p\npools: {p: {strategy: failover, proxies: [{name: a, url: \"socks5://%s\"}, {name: b, url: %q}]}}\n", testkit.ClosedPort(t), proxies(t, 1)[0].URL())
		s := load(t, text, nil)
		if conn := open(t, only(t, s), venue); tries(conn.Tried) != "a upstream_refused" || out(s) != "a" {
			t.Errorf("tried %s, %q is out", tries(conn.Tried), out(s))
		}
		if conn := open(t, only(t, s), venue); tries(conn.Tried) != "" {
			t.Errorf("it was tried again: %s", tries(conn.Tried))
		}
	})
}

// Where the target may be to blame, no member is charged unless another
// succeeds.
func TestUnclearFailureIsNotCharged(t *testing.T) {
	list := proxies(t, 2)
	for _, p := range list {
		p.SetFault(testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(1)))
	}
	s := load(t, poolOf(list, "round_robin")+"    eject: {after: 1}\n", nil)
	for range 5 {
		denied(t, only(t, s), venue, testkit.Patience, failure.TargetUnreachable)
	}
	if out(s) != "" {
		t.Fatalf("%q is out though both say the same", out(s))
	}
	list[1].SetFault(nil)
	for range 2 {
		open(t, only(t, s), venue).Release()
	}
	if out(s) != "a" {
		t.Errorf("%q is out, want a", out(s))
	}
}

// A success in between begins the row anew.
func TestSuccessResetsStreak(t *testing.T) {
	s := load(t, poolOfMany(2, "failover"), nil)
	u := s.Upstream("m0")
	for range 5 {
		u.recordUpstreamError(failure.UpstreamTimeout, 3)
		u.recordUpstreamError(failure.UpstreamTimeout, 3)
		u.recordSuccess()
	}
	if out(s) != "" {
		t.Error("ejected though it never failed three times in a row")
	}
}

// An attempt that had hardly any time left says nothing of the member.
func TestShortAttemptIsNotCharged(t *testing.T) {
	t.Parallel()
	s := load(t, strings.Replace(poolOf(silent(proxies(t, 2), 0), "failover"), "attempt_seconds: 0.3", "attempt_seconds: 0.5", 1)+"    eject: {after: 1}\n", nil)
	denied(t, only(t, s), venue, 100*time.Millisecond, failure.UpstreamTimeout)
	if out(s) != "" {
		t.Errorf("%s is out after a tenth of a second", out(s))
	}
	denied(t, only(t, s), venue, 600*time.Millisecond, failure.UpstreamTimeout)
	if out(s) != "a" {
		t.Errorf("%q is out, want a", out(s))
	}
}

// It comes back by successes in a row, not before its time, and not only by time.
func TestEjectedReturnsAfterSuccesses(t *testing.T) {
	s := load(t, poolOfMany(2, "failover")+"    eject: {base_seconds: 10, max_seconds: 60}\n    health_check: {method: tcp, rise: 3}\n", nil)
	c, u := stopped(s), s.Upstream("m0")
	u.recordUpstreamError(failure.UpstreamRefused, 1)
	until, since, ejected := u.Ejected()
	if left := until.Sub(since); !ejected || left < 8*time.Second || left > 10*time.Second {
		t.Fatalf("ejected %v for %v", ejected, left)
	}
	for range 5 {
		u.Observe(Result{})
	}
	if out(s) != "m0" {
		t.Fatal("it came back before its time")
	}
	u.Observe(Result{Err: failure.New(failure.UpstreamTimeout, "was silent")}) // the row begins anew
	c.pass(11 * time.Second)
	if out(s) != "m0" || pick(only(t, s), venue) != 1 {
		t.Fatal("it came back by time alone")
	}
	if n := rejoin(t, u); n != 3 || pick(only(t, s), venue) != 0 {
		t.Errorf("it took %d probes, want 3", n)
	}
}

// A long ejection ends soon after clients that had no other choice got through.
func TestLongEjectionShrinksAfterSuccesses(t *testing.T) {
	s := load(t, poolOfMany(1, "failover")+"    eject: {base_seconds: 5, max_seconds: 300}\n", nil)
	c, u := stopped(s), s.Upstream("m0")
	for range 6 {
		u.recordUpstreamError(failure.UpstreamRefused, 1)
		until, _, _ := u.Ejected()
		c.pass(until.Sub(u.shared.now()))
	}
	u.recordUpstreamError(failure.UpstreamRefused, 1)
	if until, _, _ := u.Ejected(); until.Sub(u.shared.now()) < 100*time.Second {
		t.Fatalf("ejected for %v more, want a long time", until.Sub(u.shared.now()))
	}
	for range 10 { // all within a moment: each sets the same time
		u.recordSuccess()
	}
	if until, _, ejected := u.Ejected(); !ejected || until.Sub(u.shared.now()) > 5*time.Second {
		t.Errorf("ejected %v for %v more, want 5 s at most", ejected, until.Sub(u.shared.now()))
	}
	c.pass(5 * time.Second)
	u.recordSuccess() // of the probe that is due
	if _, _, ejected := u.Ejected(); ejected {
		t.Error("still ejected after a success when its time was over")
	}
}

// A probe that fails when the time is over prolongs the ejection; what blames the
// target shows that the upstream works, what may be either's proves nothing.
func TestProbesOfEjectedUpstream(t *testing.T) {
	tests := []struct {
		name string
		err  error
		back bool
		more bool
	}{
		{"success", nil, true, false},
		{"its own failure", failure.New(failure.UpstreamTimeout, "x"), false, true},
		{"the target refused", failure.New(failure.TargetRefused, "x"), true, false},
		{"it denied", failure.New(failure.UpstreamDenied, "x"), true, false},
		{"the target was silent", &failure.Error{Class: failure.TargetTimeout, Unsure: true}, false, true},
		{"this machine failed", failure.New(failure.Local, "x"), false, false},
		{"our own guard said no", failure.New(failure.Denied, "x"), false, false},
		{"the hop before it denied", &failure.Error{Class: failure.UpstreamDenied, Hop: true}, false, false},
		{"given up", fmt.Errorf("context canceled"), false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := load(t, poolOfMany(2, "failover"), nil)
			c, u := stopped(s), s.Upstream("m0")
			u.recordUpstreamError(failure.UpstreamRefused, 1)
			before, _, _ := u.Ejected()
			c.pass(6 * time.Second)
			u.Observe(Result{Err: tt.err})
			u.Observe(Result{Err: tt.err})
			after, _, ejected := u.Ejected()
			if ejected == tt.back || after.After(before) != tt.more {
				t.Errorf("ejected %v, prolonged %v", ejected, after.After(before))
			}
		})
	}
}

// A failure that either may be to blame for ejects a member only where others succeed.
func TestUnclearProbeFailures(t *testing.T) {
	for _, blamed := range []bool{false, true} {
		s := load(t, poolOfMany(2, "failover"), nil)
		u := s.Upstream("m0")
		for range 3 {
			u.Observe(Result{Err: &failure.Error{Class: failure.TargetTimeout, Unsure: true}, Blamed: blamed})
		}
		if _, _, ejected := u.Ejected(); ejected != blamed {
			t.Errorf("others do: %v, ejected: %v", blamed, ejected)
		}
	}
}

// Each ejection in a row is twice as long, up to the maximum; after a good time
// it begins anew.
func TestEjectionPeriodGrows(t *testing.T) {
	s := load(t, poolOfMany(2, "failover")+"    eject: {base_seconds: 5, max_seconds: 30}\n", nil)
	c, u := stopped(s), s.Upstream("m0")
	once := func() time.Duration {
		u.recordUpstreamError(failure.UpstreamRefused, 1)
		u.recordUpstreamError(failure.UpstreamRefused, 1) // those under conn fail too, which counts once
		until, since, _ := u.Ejected()
		c.pass(until.Sub(since))
		rejoin(t, u)
		c.pass(time.Second)
		return until.Sub(since)
	}
	for i, want := range []time.Duration{5, 10, 20, 30, 30} {
		if got := once(); got > want*time.Second || got < want*time.Second*8/10 {
			t.Errorf("ejection %d lasts %v, want %v s less a fifth", i, got, int(want))
		}
	}
	c.pass(31 * time.Second)
	if got := once(); got > 5*time.Second {
		t.Errorf("after a good time it lasts %v", got)
	}
}

// One that is well and ill by turns every second is out most of the time.
func TestFlapping(t *testing.T) {
	s := load(t, poolOfMany(2, "failover"), nil)
	c, u := stopped(s), s.Upstream("m0")
	ejections := 0
	for i := range 600 { // ten minutes
		c.pass(time.Second)
		until, _, before := u.Ejected()
		switch {
		case i%2 == 0 && before && c.at.After(until):
			u.Observe(Result{})
			u.Observe(Result{})
		case i%2 == 1 && before && c.at.After(until):
			u.Observe(Result{Err: failure.New(failure.UpstreamRefused, "x")})
		case i%2 == 1 && !before:
			u.recordUpstreamError(failure.UpstreamRefused, 1)
			ejections++
		}
	}
	if ejections < 2 || ejections > 8 { // 5, 10, 20 ... 300 s
		t.Errorf("it was ejected %d times in ten minutes", ejections)
	}
}

// No more than max_percent of any pool is out.
func TestMaxPercent(t *testing.T) {
	for percent, want := range map[int]int{0: 0, 19: 0, 20: 1, 50: 2, 60: 3, 99: 4, 100: 5} {
		s := load(t, poolOfMany(5, "round_robin")+fmt.Sprintf("    eject: {max_percent: %d}\n", percent), nil)
		for range 2 {
			for _, m := range only(t, s).Members() {
				m.recordUpstreamError(failure.UpstreamRefused, 1)
			}
		}
		if n := len(strings.Fields(out(s))); n != want {
			t.Errorf("%d percent: %d of 5 are out, want %d", percent, n, want)
		}
	}
}

// slowly is a SOCKS5 proxy's success after a while, and then silence.
func slowly(after time.Duration) *testkit.Fault {
	return testkit.On(testkit.AtRequest, func(c net.Conn) {
		time.Sleep(after)
		testkit.SayAndHang("\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")(c)
	})
}

// inTime opens a connection with all the time, on a busy machine, in which no attempt
// is cut short: attempt_seconds of poolOf, and nearly leastLeft.
func inTime(t testing.TB, p *Pool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond+leastLeft-50*time.Millisecond)
	defer cancel()
	conn, err := p.Dial(ctx, venue)
	if err != nil {
		t.Fatal(err)
	}
	conn.Release()
	_ = conn.Conn.Close()
	return conn.Member.Name()
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

// A target that is slow through every member ejects no member.
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

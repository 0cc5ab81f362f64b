package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// tries are the names and classes of attempts: "a upstream_denied, b ...".
func tries(list []failure.Attempt) string {
	var words []string
	for _, a := range list {
		words = append(words, a.Upstream+" "+string(a.Class))
	}
	return strings.Join(words, ", ")
}

// Which failures of the first member the second one is asked after.
func TestFailoverTriesNextMember(t *testing.T) {
	t.Parallel()
	request, accept := testkit.AtRequest, testkit.AtAccept
	tests := []struct {
		name  string
		fault *testkit.Fault
		want  failure.Class // of the first attempt
		next  bool
	}{
		{"closes", testkit.On(accept, testkit.Close), failure.UpstreamProtocol, true},
		{"resets", testkit.On(request, testkit.Reset), failure.UpstreamProtocol, true},
		{"garbage", testkit.On(accept, testkit.Say("SSH-2.0-x\r\n")), failure.UpstreamProtocol, true},
		{"wants a login", testkit.On(testkit.AtGreeting, testkit.Say("\x05\xff")), failure.UpstreamAuth, true},
		{"silent before it has the request", testkit.On(accept, testkit.Hang), failure.UpstreamTimeout, true},
		{"silent when it has the request", testkit.On(request, testkit.Hang), failure.TargetTimeout, true},
		{"SOCKS 1: failure", testkit.On(request, testkit.SOCKS5Reply(1)), failure.TargetUnreachable, true},
		{"SOCKS 2: not allowed", testkit.On(request, testkit.SOCKS5Reply(2)), failure.UpstreamDenied, true},
		{"SOCKS 3: network", testkit.On(request, testkit.SOCKS5Reply(3)), failure.TargetUnreachable, false},
		{"SOCKS 4: host", testkit.On(request, testkit.SOCKS5Reply(4)), failure.TargetUnreachable, false},
		{"SOCKS 5: refused", testkit.On(request, testkit.SOCKS5Reply(5)), failure.TargetRefused, false},
		{"SOCKS 6: TTL", testkit.On(request, testkit.SOCKS5Reply(6)), failure.TargetTimeout, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list := proxies(t, 2)
			list[0].SetFault(tt.fault)
			text := poolOf(list, "failover")
			p := only(t, load(t, text, nil))
			if !tt.next {
				e := denied(t, p, venue, testkit.Patience, tt.want)
				if e.Upstream != "a" || tries(e.Tried) != "a "+string(tt.want) || list[1].Accepted() != 0 {
					t.Errorf("got %q of %s, tried %s, the second was asked %d times", e, e.Upstream, tries(e.Tried), list[1].Accepted())
				}
				p = only(t, load(t, text+"retry_target_errors: true\n", nil)) // then they go on too
			}
			conn := open(t, p, venue)
			defer conn.Release()
			if conn.Member.Name() != "b" || tries(conn.Tried) != "a "+string(tt.want) {
				t.Errorf("a connection through %s, tried %s", conn.Member.Name(), tries(conn.Tried))
			}
		})
	}
}

// Members that cannot be connected to are passed over as well.
func TestFailoverAfterDeadMember(t *testing.T) {
	p := only(t, load(t, fmt.Sprintf(`
default: p
pools:
  p:
    strategy: failover
    proxies: [{name: a, url: "socks5://%s"}, {name: b, url: "http://nosuch.example:1"}, {name: c, url: "%s"}]
`, testkit.ClosedPort(t), proxies(t, 1)[0].URL()), nil))
	conn := open(t, p, venue)
	defer conn.Release()
	if got, want := tries(conn.Tried), "a upstream_refused, b upstream_dns"; got != want || conn.Member.Name() != "c" {
		t.Errorf("got %s and then %s, want %s and then c", got, conn.Member.Name(), want)
	}
}

// The order after the first: its own tier in turn, then the next tiers.
func TestOrderAfterFailure(t *testing.T) {
	tests := []struct {
		name, strategy string
		extra          []string
		want           []string // of one dial after the other
	}{
		{"failover", "failover", nil, []string{"a b c d", "a b c d"}},
		{"failover by tier", "failover", []string{"tier: 3", "tier: 2", "tier: 1", "tier: 2"}, []string{"c b d a"}},
		{"round robin", "round_robin", nil, []string{"a b c d", "b c d a", "c d a b", "d a b c"}},
		{"round robin by tier", "round_robin", []string{"tier: 2", "", "", "tier: 2"}, []string{"b c d a", "c b d a"}},
		{"not those that are off", "round_robin", []string{"", "enabled: false", "", "tier: 9, enabled: false"}, []string{"a c", "c a"}},
	}
	list := proxies(t, 4)
	for _, p := range list {
		p.SetFault(testkit.On(testkit.AtAccept, testkit.SayAndHang("SSH-2.0-x\r\n")))
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := only(t, load(t, poolOf(list, tt.strategy, tt.extra...)+"    eject: {after: 100}\n", nil))
			for i, want := range tt.want {
				e := denied(t, p, venue, testkit.Patience, failure.UpstreamProtocol)
				var got []string
				for _, a := range e.Tried {
					got = append(got, a.Upstream)
				}
				if strings.Join(got, " ") != want {
					t.Errorf("dial %d tried %v, want %s", i, got, want)
				}
			}
		})
	}
}

// A pool without a usable member is an immediate error, and nothing leaves otherwise.
func TestEmptyPoolIsAnError(t *testing.T) {
	list := proxies(t, 2)
	direct := testkit.NewTCP(t, testkit.Echo)
	s := load(t, poolOf(list, "round_robin", "enabled: false", "enabled: false")+"allow_private: [127.0.0.0/8]\n", nil)
	for _, strategy := range []string{"round_robin", "random", "least_connections", "failover"} {
		t.Run(strategy, func(t *testing.T) {
			p := only(t, load(t, poolOf(list, strategy, "enabled: false", "enabled: false")+"allow_private: [127.0.0.0/8]\n", nil))
			e := denied(t, p, at(direct.Addr), testkit.Patience, failure.NoUpstream)
			if e.RetryAfter <= 0 || !strings.Contains(e.Text, "pool p has no member that is enabled") {
				t.Errorf("got %+v", e)
			}
		})
	}
	if n := direct.Accepted() + list[0].Accepted() + list[1].Accepted(); n != 0 {
		t.Errorf("%d connections left all the same", n)
	}
	conn := open(t, s.Direct(), at(direct.Addr)) // the connection that was not taken does work
	conn.Release()
}

// With several attempts the text names each, with the last one's class.
func TestErrorListsAttempts(t *testing.T) {
	list := proxies(t, 3)
	list[0].SetFault(testkit.On(testkit.AtRequest, testkit.Close))
	list[1].SetFault(testkit.On(testkit.AtAccept, testkit.Say("SSH-2.0-x\r\n")))
	list[2].SetFault(testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(2)))
	e := denied(t, only(t, load(t, poolOf(list, "failover"), nil)), venue, testkit.Patience, failure.UpstreamDenied)
	want := "c does not allow connections to stream.venue.example:9443 (SOCKS reply 2)" +
		"; before that: a closed the connection at the SOCKS reply; b answered with garbage that looks like SSH; 3 tried"
	if e.Error() != want || e.Upstream != "c" {
		t.Errorf("got %q, want %q", e, want)
	}
}

// A caller who leaves ends the failover: no other member is asked.
func TestFailoverEndsWithContext(t *testing.T) {
	list := proxies(t, 2)
	asked := make(chan struct{})
	list[0].SetFault(testkit.On(testkit.AtRequest, testkit.Hang))
	patient := strings.Replace(poolOf(list, "failover"), "attempt_seconds: 0.3", "attempt_seconds: 10", 1)
	ctx, cancel := context.WithCancel(budget(t, testkit.Patience))
	go func() { // ends when the first proxy has been asked, or the test is over
		defer close(asked)
		for ctx.Err() == nil && len(list[0].Asked()) == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	conn, err := only(t, load(t, patient, nil)).Dial(ctx, venue)
	<-asked
	if !errors.Is(err, context.Canceled) || conn != nil || list[1].Accepted() != 0 {
		t.Errorf("got %v, %v; the second was asked %d times", conn, err, list[1].Accepted())
	}
}

// A connection carries bytes, those that came early first.
func TestConnectionCarriesEarlyBytes(t *testing.T) {
	echo := testkit.NewTCP(t, testkit.Echo)
	for _, o := range []testkit.ProxyOptions{{Scheme: "http"}, {Scheme: "socks4a"}, {Scheme: "socks5"}, {Scheme: "socks5", User: "u", Password: "p"}} {
		t.Run(o.Scheme+o.User, func(t *testing.T) {
			o.Hosts, o.Early, o.Split = map[string]string{"*": echo.Addr}, "hello", true
			conn := open(t, only(t, load(t, "default: "+testkit.NewProxy(t, o).URL(), nil)), venue)
			defer conn.Release()
			_, _ = io.WriteString(conn.Conn, ", world")
			got := append(make([]byte, 0, 12), conn.Early...)
			n, err := io.ReadFull(conn.Conn, got[len(got):cap(got)])
			if got = got[:len(got)+n]; string(got) != "hello, world" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// between fails the test when an elapsed time is out of bounds. The upper one
// leaves room for a busy machine.
func between(t testing.TB, took, least, most time.Duration) {
	t.Helper()
	if took < least || took > most {
		t.Errorf("it took %v, want between %v and %v", took, least, most)
	}
}

// timed dials within a budget and returns how long that took.
func timed(t testing.TB, p *Pool, d time.Duration) (conn *Conn, e *failure.Error, took time.Duration) {
	t.Helper()
	start := time.Now()
	conn, err := p.Dial(budget(t, d), venue)
	took = time.Since(start)
	if err == nil {
		t.Cleanup(func() { _ = conn.Conn.Close(); conn.Release() })
		return conn, nil, took
	}
	return nil, err.(*failure.Error), took //nolint:errorlint // Dial promises the very type
}

// silent makes all proxies but the last ones, as many as but says, accept connections and send nothing.
func silent(list []*testkit.Proxy, but int) []*testkit.Proxy {
	for _, p := range list[:len(list)-but] {
		p.SetFault(testkit.On(testkit.AtAccept, testkit.Hang))
	}
	return list
}

// A silent member costs attempt_seconds, not the budget.
func TestSilentMemberCostsAttemptSeconds(t *testing.T) {
	t.Parallel()
	p := only(t, load(t, poolOf(silent(proxies(t, 3), 1), "failover"), nil))
	conn, e, took := timed(t, p, 5*time.Second)
	if e != nil || tries(conn.Tried) != "a upstream_timeout, b upstream_timeout" {
		t.Fatalf("got %+v, %v", conn, e)
	}
	between(t, took, 600*time.Millisecond, 2*time.Second)
	if text := conn.Tried[0].Text; !strings.HasPrefix(text, "accepted TCP, then silent at the SOCKS greeting for 0.") {
		t.Errorf("the first attempt: %q", text)
	}
}

// The last member may take what is left of the budget.
func TestLastMemberHasRemainingTime(t *testing.T) {
	t.Parallel()
	list := silent(proxies(t, 2), 0)
	p := only(t, load(t, poolOf(list, "failover"), nil))
	_, e, took := timed(t, p, 1700*time.Millisecond)
	if e == nil || e.Class != failure.UpstreamTimeout || tries(e.Tried) != "a upstream_timeout, b upstream_timeout" {
		t.Fatalf("got %+v", e)
	}
	between(t, took, 1700*time.Millisecond, 2500*time.Millisecond)
	if e.Hint != "it may speak another protocol: check the scheme and the port in its URL; if it is only slow, raise timeout_seconds" {
		t.Errorf("the hint is %q", e.Hint)
	}
}

// One that has the pool to itself has the whole budget.
func TestOnlyMemberHasWholeTime(t *testing.T) {
	t.Parallel()
	p := only(t, load(t, poolOf(silent(proxies(t, 1), 0), "failover"), nil))
	_, e, took := timed(t, p, 700*time.Millisecond)
	if e == nil || e.Class != failure.UpstreamTimeout {
		t.Fatalf("got %+v", e)
	}
	between(t, took, 700*time.Millisecond, 1500*time.Millisecond)
}

// None but the first starts with less than a second left; so the one before has
// all of the rest.
func TestNoAttemptInLastSecond(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		budget time.Duration
		tried  string
		took   time.Duration
	}{
		{200 * time.Millisecond, "a", 200 * time.Millisecond},
		{1500 * time.Millisecond, "a", 1500 * time.Millisecond},
		{2000 * time.Millisecond, "a b", 2000 * time.Millisecond},
	} {
		t.Run(tt.budget.String(), func(t *testing.T) {
			t.Parallel()
			list := silent(proxies(t, 4), 1) // the last one would do
			text := strings.Replace(poolOf(list, "failover"), "attempt_seconds: 0.3", "attempt_seconds: 0.6", 1)
			_, e, took := timed(t, only(t, load(t, text, nil)), tt.budget)
			if e == nil || e.Class != failure.UpstreamTimeout {
				t.Fatalf("got %+v", e)
			}
			var got []string
			for _, a := range e.Tried {
				got = append(got, a.Upstream)
			}
			if strings.Join(got, " ") != tt.tried {
				t.Errorf("tried %v, want %s", got, tt.tried)
			}
			between(t, took, tt.took, tt.took+700*time.Millisecond)
			if list[3].Accepted() != 0 {
				t.Error("the last one was asked too late")
			}
		})
	}
}

// Wherever a member stands still, its time is up by the clock.
func TestFailoverAfterProcessStandstill(t *testing.T) {
	t.Parallel()
	type stop struct {
		name, scheme string
		fault        *testkit.Fault
		want         failure.Class
		text         string
	}
	tests := []stop{
		{"never accepts", "", nil, failure.UpstreamTimeout, "did not accept TCP within 0."},
		{"https at the TLS hello", "https", testkit.On(testkit.AtAccept, testkit.Hang), failure.UpstreamTimeout, "accepted TCP, then silent at the TLS handshake for 0."},
		{"http at the reply", "http", testkit.On(testkit.AtRequest, testkit.Hang), failure.TargetTimeout, "accepted TCP, then silent at the CONNECT reply for 0."},
		{"http drips", "http", testkit.On(testkit.AtRequest, testkit.Drip("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 500), 10*time.Millisecond)), failure.TargetTimeout, "sent only a part of the CONNECT reply in 0."},
		{"socks4a at the reply", "socks4a", testkit.On(testkit.AtRequest, testkit.SayAndHang("\x00")), failure.TargetTimeout, "sent only a part of the SOCKS4 reply in 0."},
		{"socks5 at the reply", "socks5", testkit.On(testkit.AtRequest, testkit.SayAndHang("\x05\x00\x00\x01")), failure.TargetTimeout, "sent only a part of the SOCKS reply in 0."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			good := proxies(t, 1)[0]
			url := "socks5://"
			if tt.scheme == "" {
				url += testkit.BlackHole(t)
			} else {
				url = testkit.NewProxy(t, testkit.ProxyOptions{Scheme: tt.scheme, Fault: tt.fault}).URL()
			}
			p := only(t, load(t, fmt.Sprintf("attempt_seconds: 0.3\ndefault: p\npools: {p: {strategy: failover, proxies: [{name: a, url: %q}, {name: b, url: %q}]}}\n", url, good.URL()), nil))
			conn, e, took := timed(t, p, 5*time.Second)
			if e != nil || len(conn.Tried) != 1 {
				t.Fatalf("got %+v, %v", conn, e)
			}
			if a := conn.Tried[0]; a.Class != tt.want || !strings.HasPrefix(a.Text, tt.text) {
				t.Errorf("got %s: %q\nwant %s: %q", a.Class, a.Text, tt.want, tt.text)
			}
			between(t, took, 300*time.Millisecond, 2*time.Second)
		})
	}
}

// An attempt is cut short only when another one can follow: not for a member
// that is out of use, and not when less than a second would be left for it.
func TestAttemptIsCutOnlyForUsableMember(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]bool{"the other is out of use": true, "too little would be left": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := silent(proxies(t, 2), 0)
			text := poolOf(list, "failover")
			if off {
				text = strings.Replace(text, "name: b,", "name: b, enabled: false,", 1)
			}
			_, e, took := timed(t, only(t, load(t, text, nil)), 900*time.Millisecond)
			if e == nil || tries(e.Tried) != "a upstream_timeout" {
				t.Fatalf("got %+v", e)
			}
			between(t, took, 900*time.Millisecond, 1700*time.Millisecond)
		})
	}
}

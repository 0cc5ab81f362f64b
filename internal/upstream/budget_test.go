package upstream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// between fails the test when an elapsed time is out of bounds. The upper one
// leaves room for a busy machine.
func between(t testing.TB, took, least, most time.Duration) {
	t.Helper()
	if took < least || took > most {
		t.Errorf("it took %v, want between %v and %v", took, least, most)
	}
}

// timed opens a way in a budget and says how long that took.
func timed(t testing.TB, p *Pool, d time.Duration) (way *Conn, e *failure.Error, took time.Duration) {
	t.Helper()
	start := time.Now()
	way, err := p.Dial(budget(t, d), venue)
	took = time.Since(start)
	if err == nil {
		t.Cleanup(func() { _ = way.Conn.Close(); way.Release() })
		return way, nil, took
	}
	return nil, err.(*failure.Error), took //nolint:errorlint // Dial promises the very type
}

// silent makes all but the last so many of the proxies take connections and say nothing.
func silent(list []*testkit.Proxy, but int) []*testkit.Proxy {
	for _, p := range list[:len(list)-but] {
		p.SetFault(testkit.On(testkit.AtAccept, testkit.Hang))
	}
	return list
}

// A silent member costs attempt_seconds, not the budget.
func TestAttemptSeconds(t *testing.T) {
	t.Parallel()
	p := only(t, load(t, poolOf(silent(proxies(t, 3), 1), "failover"), nil))
	way, e, took := timed(t, p, 5*time.Second)
	if e != nil || tries(way.Tried) != "a upstream_timeout, b upstream_timeout" {
		t.Fatalf("got %+v, %v", way, e)
	}
	between(t, took, 600*time.Millisecond, 2*time.Second)
	if text := way.Tried[0].Text; !strings.HasPrefix(text, "accepted TCP, then silent at the SOCKS greeting for 0.") {
		t.Errorf("the first attempt: %q", text)
	}
}

// The last member may take what is left of the budget.
func TestLastMemberHasTheRest(t *testing.T) {
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
func TestOnlyMemberHasTheBudget(t *testing.T) {
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
func TestNoAttemptInTheLastSecond(t *testing.T) {
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
func TestStandstill(t *testing.T) {
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
			way, e, took := timed(t, p, 5*time.Second)
			if e != nil || len(way.Tried) != 1 {
				t.Fatalf("got %+v, %v", way, e)
			}
			if a := way.Tried[0]; a.Class != tt.want || !strings.HasPrefix(a.Text, tt.text) {
				t.Errorf("got %s: %q\nwant %s: %q", a.Class, a.Text, tt.want, tt.text)
			}
			between(t, took, 300*time.Millisecond, 2*time.Second)
		})
	}
}

// An attempt is cut short only when another one can follow: not for a member
// that is out of use, and not when less than a second would be left for it.
func TestAttemptsAreCutForOthersAlone(t *testing.T) {
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

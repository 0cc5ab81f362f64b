package upstream

import (
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

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
	p.set.attempt = slowLeast
	if conn := open(t, p, venue); conn.Member.Name() != "a" || tries(conn.Tried) != "b upstream_timeout" {
		t.Errorf("not before the next tier: %s after %s", conn.Member.Name(), tries(conn.Tried))
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

// Websocket tunnels that end very soon are counted, and reported once for each row of
// them; one that lasted, or carried, ends the row.
func TestShortTunnelsInARow(t *testing.T) {
	u := load(t, poolOfMany(1, "failover"), nil).Upstream("m0")
	var told []int
	end := func(kind catalog.Kind, lived time.Duration, up, down int64) {
		told = append(told, u.Ended("binance", kind, lived, up, down))
	}
	for range 4 {
		end(feedKind, time.Second, 300, 9000) // 0 0 3 0: a TLS handshake and a refusal
	}
	end(feedKind, time.Minute, 300, 100) // silent, but not turned away
	for range 2 {
		end(feedKind, 4*time.Second, 1, 2047)
		end(catalog.KindHTTP, time.Second, 300, 100) // one request: as they are
		end(feedKind, time.Second, 0, 0)             // the client wanted nothing
	}
	end(feedKind, 6*time.Second, 1, 0)
	for range 3 {
		end(feedKind, time.Second, 1, 0)
	}
	want := []int{0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3}
	for i := range want {
		if told[i] != want[i] {
			t.Fatalf("told %v, want %v", told, want)
		}
	}
	for _, p := range u.Status().Pairs {
		if n := map[string]uint64{"websocket": 9, "http": 0}[p.Kind]; p.Short != n {
			t.Errorf("%s: %d short ones, want %d", p.Kind, p.Short, n)
		}
	}
}

// What shows that an exchange is content is a tunnel that lasted and carried, or
// an open websocket.
func TestLastSeen(t *testing.T) {
	s := load(t, poolOfMany(1, "failover"), nil)
	c, u := stopped(s), s.Upstream("m0")
	carried := func() time.Time { _, at := u.LastSeen("binance", feedKind); return at }
	u.Ended("binance", feedKind, time.Second, 300, 5000) // a handshake and a refusal
	u.Ended("binance", feedKind, time.Hour, 300, 500)
	if at := carried(); !at.IsZero() {
		t.Errorf("content at %v", at)
	}
	c.pass(time.Minute)
	u.Ended("binance", feedKind, time.Hour, 300, 1<<20)
	if at := carried(); !at.Equal(c.at) {
		t.Errorf("content at %v, want %v", at, c.at)
	}
	release := u.adopt("binance", feedKind)
	c.pass(time.Minute)
	if at := carried(); !at.Equal(c.at) {
		t.Errorf("content at %v while a websocket is open, want %v", at, c.at)
	}
	release()
	if at := carried(); !at.Equal(c.at.Add(-time.Minute)) {
		t.Errorf("content at %v after its end, want %v", at, c.at.Add(-time.Minute))
	}
}

// A verdict is as old as its word, however often it is confirmed.
func TestVerdictSince(t *testing.T) {
	s := load(t, poolOfMany(1, "failover"), nil)
	c, u := stopped(s), s.Upstream("m0")
	first := c.at
	since := func() time.Time { v, _ := u.Verdict("binance", feedKind); return v.Since }
	set := func(w Word) { u.SetVerdict("binance", feedKind, Verdict{Word: w, Until: c.at.Add(time.Hour)}) }
	set(WordGeoblocked)
	c.pass(time.Minute)
	set(WordGeoblocked)
	if !since().Equal(first) {
		t.Errorf("since %v, want %v", since(), first)
	}
	c.pass(2 * time.Hour) // it was over
	set(WordGeoblocked)
	if !since().Equal(c.at) {
		t.Errorf("since %v, want %v", since(), c.at)
	}
	set(WordBlocked)
	if !since().Equal(c.at) {
		t.Errorf("another: since %v, want %v", since(), c.at)
	}
	first = c.at
	c.pass(time.Hour + time.Minute) // it ended by itself, and the next check found it again
	set(WordBlocked)
	if !since().Equal(first) {
		t.Errorf("found again: since %v, want %v", since(), first)
	}
	to, began := Target{Exchange: "okx", Kind: feedKind}, c.at
	for range 5 { // each denial ends by itself before the next
		u.deny(&to, failure.New(failure.UpstreamDenied, "says no"))
		if v, _ := u.Verdict("okx", feedKind); !v.Since.Equal(began) || !v.Until.After(c.at) {
			t.Errorf("denied again: since %v until %v, want since %v", v.Since, v.Until, began)
		}
		c.pass(time.Hour)
	}
	u.allowed(&to)
	u.deny(&to, failure.New(failure.UpstreamDenied, "says no"))
	if v, _ := u.Verdict("okx", feedKind); !v.Since.Equal(c.at) {
		t.Errorf("denied after it was allowed: since %v, want %v", v.Since, c.at)
	}
}

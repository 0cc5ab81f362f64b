package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// counts are the open connections of all upstreams: "a 1, b 0".
func counts(s *Set) string {
	var words []string
	for _, u := range s.Upstreams() {
		words = append(words, fmt.Sprintf("%s %d", u.Name(), u.Live()))
	}
	return strings.Join(words, ", ")
}

// Every connection that was opened is counted until it is released, once.
func TestLiveCounts(t *testing.T) {
	list := proxies(t, 2)
	s := load(t, poolOf(list, "round_robin", "weight: 2", "weight: 1"), nil)
	var conns []*Conn
	for range 6 {
		conns = append(conns, open(t, only(t, s), venue))
	}
	if got := counts(s); got != "a 4, b 2, direct 0" {
		t.Errorf("with six open: %s", got)
	}
	for _, w := range conns {
		w.Release()
	}
	if got := counts(s); got != "a 0, b 0, direct 0" {
		t.Errorf("with none open: %s", got)
	}
}

// A direct connection counts as well.
func TestLiveCountsDirect(t *testing.T) {
	echo := testkit.NewTCP(t, testkit.Echo)
	s := load(t, "allow_private: [127.0.0.0/8]\n", nil)
	conn := open(t, s.Direct(), at(echo.Addr))
	if got := counts(s); got != "direct 1" {
		t.Errorf("with one open: %s", got)
	}
	conn.Release()
	if got := counts(s); got != "direct 0" {
		t.Errorf("with none open: %s", got)
	}
}

// Whatever fails leaves no count, no descriptor and no goroutine behind.
func TestFailuresLeaveNothing(t *testing.T) {
	list := proxies(t, 4)
	closed := testkit.ClosedPort(t)
	list[0].SetFault(testkit.On(testkit.AtAccept, testkit.Close))
	list[1].SetFault(testkit.On(testkit.AtAccept, testkit.Hang))
	list[2].SetFault(testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(2)))
	list[3].SetFault(testkit.On(testkit.AtRequest, testkit.Say("\x05\x00\x00\x09")))
	// The silent one is not the last, which would have the whole budget.
	text := strings.Replace(poolOf(list, "failover"), "attempt_seconds: 0.3", "attempt_seconds: 0.05", 1)
	text += fmt.Sprintf("      - {name: dead, url: \"http://%s\"}\n", closed)
	s := load(t, text, nil)
	dialAll := func(n int) {
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				if conn, err := only(t, s).Dial(budget(t, 2*time.Second), venue); err == nil {
					t.Errorf("a connection through %s", conn.Member.Name())
				}
			})
		}
		all.Wait()
	}
	quiet := func() bool {
		for _, p := range list {
			if p.Open() > 0 {
				return false
			}
		}
		return true
	}
	dialAll(5) // whatever is set up once
	testkit.Eventually(t, testkit.Patience, "the proxies see the ends", quiet)
	before := testkit.Count()
	dialAll(40)
	testkit.Eventually(t, testkit.Patience, "the proxies see the ends", quiet)
	before.WaitBack(t, 0)
	if got := counts(s); got != "a 0, b 0, c 0, d 0, dead 0, direct 0" {
		t.Errorf("counted: %s", got)
	}
}

// A reload keeps the counts of what did not change, and forgets the rest.
func TestReloadKeepsCounts(t *testing.T) {
	list := proxies(t, 2)
	old := load(t, patient(poolOf(list, "failover")), nil)
	conn := open(t, only(t, old), venue)
	same := reload(t, old, patient(poolOf(list, "failover", "weight: 7, tier: 2", "")), nil)
	if got := counts(same); got != "a 1, b 0, direct 0" {
		t.Errorf("after a reload: %s", got)
	}
	renewed := reload(t, same, strings.Replace(patient(poolOf(list, "failover")), "socks5://", "socks5://user@", 1), nil)
	if got := counts(renewed); got != "a 0, b 0, direct 0" {
		t.Errorf("with another user: %s", got)
	}
	conn.Release()
	if got := counts(same); got != "a 0, b 0, direct 0" {
		t.Errorf("after the release: %s", got)
	}
	if got := counts(renewed); got != "a 0, b 0, direct 0" {
		t.Errorf("after the release, with another user: %s", got)
	}
	if same.HopToken() != old.HopToken() {
		t.Error("the mark of this process changed")
	}
}

// A new password is used immediately and changes nothing else.
func TestReloadTakesANewPassword(t *testing.T) {
	echo := testkit.NewTCP(t, testkit.Echo)
	p := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", User: "u", Password: "new", Hosts: map[string]string{"*": echo.Addr}})
	old := load(t, "default: "+strings.Replace(p.URL(), "new", "old", 1), nil)
	denied(t, only(t, old), venue, testkit.Patience, failure.UpstreamAuth)
	s := reload(t, old, "default: "+p.URL(), nil)
	conn := open(t, only(t, s), venue)
	if only(t, old).Members()[0].Live() != 1 {
		t.Error("the two do not share a count")
	}
	conn.Release()
	denied(t, only(t, old), venue, testkit.Patience, failure.UpstreamAuth) // the old set is what it was
}

// A connection that lives on keeps nothing of the set that it was opened in.
func TestConnectionKeepsNoSet(t *testing.T) {
	exit := proxies(t, 1)[0]
	hop := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": exit.Addr}})
	gone := make(chan struct{})
	conn, st := func() (*Conn, *state) {
		s := load(t, chained(exit.URL(), fmt.Sprintf("{name: h, url: %q}", hop.URL())), nil)
		runtime.AddCleanup(s, func(c chan struct{}) { close(c) }, gone)
		conn := open(t, last(t, s), venue)
		return conn, conn.Member.state
	}()
	testkit.Eventually(t, testkit.Patience, "the set is freed", func() bool {
		runtime.GC()
		select {
		case <-gone:
			return true
		default:
			return false
		}
	})
	if conn.Member.Live() != 1 {
		t.Error("the connection does not count any more")
	}
	conn.Release()
	if st.live.Load() != 0 {
		t.Error("its end is not counted")
	}
}

// Status says what is known, and nothing secret.
func TestStatus(t *testing.T) {
	list := proxies(t, 2)
	s := load(t, strings.ReplaceAll(poolOf(list, "failover", "weight: 2", "enabled: false"), "socks5://", "socks5://someuser:somepassword@"), nil)
	c, a := stopped(s), s.Upstream("a")
	open(t, only(t, s), on("binance", feedKind))
	list[0].SetFault(testkit.On(testkit.AtAccept, testkit.SayAndHang("SSH-2.0-x\r\n")))
	denied(t, only(t, s), venue, testkit.Patience, failure.UpstreamProtocol)
	a.recordUpstreamError(failure.UpstreamRefused, 1)
	a.SetVerdict("binance", feedKind, Verdict{Word: WordGeoblocked, Text: "451"})
	a.SetDrained("kraken", true)
	got := a.Status()
	if e := got.Ejection; e == nil || e.Cause != failure.UpstreamRefused || !e.Since.Equal(c.at) || !e.Until.After(c.at) {
		t.Errorf("ejection %+v", e)
	}
	if p := got.Pairs[0]; p.LatencyMS <= 0 {
		t.Error("no latency")
	}
	got.Ejection, got.Pairs[0].LatencyMS = nil, 0
	want := Status{
		Name: "a", URL: got.URL, Live: 1, Connects: 1, Failures: map[failure.Class]uint64{failure.UpstreamProtocol: 1},
		Pairs: []PairStatus{
			{Exchange: "binance", Kind: "websocket", Live: 1, Verdict: &Verdict{Word: WordGeoblocked, At: c.at, Since: c.at, Text: "451"}},
			{Exchange: "kraken", Kind: "http", Drained: true},
			{Exchange: "kraken", Kind: "websocket", Drained: true},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want (-), got (+):\n%s", d)
	}
	text, err := json.Marshal(s.Upstream("b").Status())
	if err != nil || strings.Contains(string(text), "some") || strings.Contains(got.URL, "some") || !strings.HasSuffix(got.URL, "@"+list[0].Addr) {
		t.Errorf("%s, %v; URL %s", text, err, got.URL)
	}
}

// Who waited for a budget while its only member was drained, or was limited by
// the exchange, is drained: no new connection leaves.
func TestDrainedDuringBudgetWait(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		take func(u *Upstream)
	}{
		"the member": {func(u *Upstream) { u.SetDrained("", true) }},
		"the pair":   {func(u *Upstream) { u.SetDrained("binance", true) }},
		"rate limits": {func(u *Upstream) {
			u.SetVerdict("binance", feedKind, Verdict{Word: WordRateLimited, Until: time.Now().Add(time.Hour)})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := proxies(t, 1)
			s := load(t, poolOf(list, "failover", "limits: {max_connections: 1, queue_seconds: 8}"), nil)
			p := only(t, s)
			first, err := p.Dial(budget(t, testkit.Patience), on("kraken", feedKind)) // of another exchange: its feed says nothing
			if err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			ctx := budget(t, 2*testkit.Patience)
			go func() { // ends with ctx; waited for below
				conn, err := p.Dial(ctx, feed)
				if err == nil {
					_ = conn.Conn.Close()
					conn.Release()
				}
				failed <- err
			}()
			testkit.Eventually(t, testkit.Patience, "it waits", func() bool { return s.Budgets().Rows()[0].Queued == 1 })
			tt.take(s.Upstream("a"))
			_ = first.Conn.Close()
			first.Release()
			var e *failure.Error
			if err := <-failed; !errors.As(err, &e) || e.Class != failure.NoUpstream || e.RetryAfter == 0 {
				t.Errorf("%v", err)
			}
			if n := list[0].Accepted(); n != 1 {
				t.Errorf("%d connections came, want the one from before", n)
			}
			if r := s.Budgets().Rows()[0]; r.Open != 0 || r.Queued != 0 {
				t.Errorf("the budget is not whole again: %+v", r)
			}
		})
	}
}

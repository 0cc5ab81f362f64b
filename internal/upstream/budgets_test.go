package upstream

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/failure"
	"proxyd/internal/limit"
	"proxyd/internal/testkit"
)

// feed is a target of binance's websocket budget.
var feed = on("binance", feedKind)

// limited is poolOf with limits on binance.
func limited(list []*testkit.Proxy, strategy, limits string, extra ...string) string {
	return poolOf(list, strategy, extra...) + "exchanges: {binance: {websocket: {pool: p, limits: {" + limits + "}}}}\n"
}

// left is what is left for a member, in words.
func left(p *Pool, member string, t Target) (all []string) {
	for _, r := range p.BudgetRows(member, t) {
		all = append(all, r.String())
	}
	return all
}

// through opens so many ways and tells whose they are. They stay open.
func through(t testing.TB, p *Pool, to Target, n int) (names string) {
	t.Helper()
	for range n {
		names += open(t, p, to).Member.Name()
	}
	return names
}

// Which budgets a connection is counted in.
func TestWhichBudgets(t *testing.T) {
	list := proxies(t, 4)
	text := poolOf(list, "failover", "limits: {connects: 9/1m, max_connections: 4, queue_seconds: 3}", "exit: a, limits: {connects: 8/1m, max_connections: 5}", "exit: b-ip", "enabled: false, exit: b-ip, limits: {connects: 1/1h}") +
		"    limits: {max_connections: 7}\n" +
		"exchanges: {binance: {websocket: {pool: p, limits: {connects: 20/1m}}}, kraken: p, bybit: {websocket: {pool: p, limits: published}}}\n"
	s := load(t, text, nil)
	for name, tt := range map[string]struct {
		pool   *Pool
		member string
		to     Target
		want   []string
	}{
		"exchange, exit and pool": {only(t, s), "a", feed, []string{
			"binance via a (websocket): 20 of 20 per 1 m left", "a: 8 of 8 per 1 m left, 0 of 4 connections open", "pool p: 0 of 7 connections open",
		}},
		"the exit is another one's": {only(t, s), "b", on("", kindHTTP), []string{"a: 8 of 8 per 1 m left, 0 of 4 connections open", "pool p: 0 of 7 connections open"}},
		"the exchange's other kind": {only(t, s), "c", on("binance", kindHTTP), []string{"pool p: 0 of 7 connections open"}},
		"published, written": {only(t, s), "c", on("bybit", feedKind), []string{
			"bybit via b-ip (websocket): 500 of 500 per 5 m left, 0 of 1000 connections open", "pool p: 0 of 7 connections open",
		}},
		"published, not written": {s.Direct(), "direct", on("okx", feedKind), []string{"okx via direct (websocket): 3 of 3 per 1 s left, only watched"}},
		"written, direct":        {s.Direct(), "direct", feed, []string{"binance via direct (websocket): 20 of 20 per 1 m left"}},
		"no figure":              {s.Direct(), "direct", on("kraken", feedKind), nil},
		"no exchange":            {s.Direct(), "direct", venue, nil},
		"no such member":         {s.Direct(), "x", feed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, left(tt.pool, tt.member, tt.to)); d != "" {
				t.Errorf("want (-), got (+):\n%s", d)
			}
		})
	}
}

// A member that is over its budget is not asked; when all are, the answer says so,
// and when to come back.
func TestNextMemberWhenFull(t *testing.T) {
	list := proxies(t, 2)
	s := load(t, limited(list, "failover", "connects: 2/1h"), nil)
	p := only(t, s)
	if got := through(t, p, feed, 4); got != "aabb" {
		t.Errorf("went through %s", got)
	}
	e := denied(t, p, feed, testkit.Patience, failure.Budget)
	if want := "budget binance via a: 0 of 2 per 1 h (websocket); budget binance via b: 0 of 2 per 1 h (websocket)"; e.Error() != want {
		t.Errorf("got  %s\nwant %s", e, want)
	}
	if e.RetryAfter < 50*time.Minute || e.RetryAfter > time.Hour || tries(e.Tried) != "a budget, b budget" || e.Hint == "" {
		t.Errorf("%+v", e)
	}
	if got := through(t, p, on("binance", kindHTTP), 1) + through(t, p, on("kraken", feedKind), 1); got != "aa" {
		t.Errorf("other kinds and exchanges went through %s", got)
	}
	if list[0].Accepted() != 4 || list[1].Accepted() != 2 {
		t.Errorf("%d and %d connections came", list[0].Accepted(), list[1].Accepted())
	}
	if a := s.Upstream("a").Status(); len(a.Failures) > 0 || out(s) != "" {
		t.Errorf("a full budget is held against a member: %v, %q is out", a.Failures, out(s))
	}
	if got := p.Standings(feed).Members; got[0].Standing != "never" || p.Standings(venue).Members[0].Standing != "usable" {
		t.Errorf("standings: %v", got)
	}
}

// One that waits does so before the attempt's own time begins.
func TestQueueIsNoPartOfTheAttempt(t *testing.T) {
	t.Parallel()
	p := only(t, load(t, poolOf(proxies(t, 2), "failover", "limits: {connects: 1/1s, queue_seconds: 4}"), nil)) // attempt_seconds is 0.3
	open(t, p, venue)
	way, e, took := timed(t, p, testkit.Patience)
	if e != nil || len(way.Tried) > 0 || way.Member.Name() != "a" {
		t.Fatalf("%+v, %v", way, e)
	}
	between(t, took, time.Second, 3*time.Second)
	between(t, way.Queued, 900*time.Millisecond, took)
	between(t, way.Dial, 0, took-way.Queued)
}

// One that waits in vain goes on to a member that has room, and waits for no other.
func TestQueueInVain(t *testing.T) {
	t.Parallel()
	const own = "limits: {max_connections: 1, queue_seconds: 0.5}"
	s := load(t, poolOf(proxies(t, 3), "failover", own, own, ""), nil)
	p := only(t, s)
	if got := through(t, p, venue, 1); got != "a" {
		t.Fatal(got)
	}
	way, e, took := timed(t, p, testkit.Patience)
	if e != nil || tries(way.Tried) != "a budget" || way.Member.Name() != "b" {
		t.Fatalf("%+v, %v", way, e)
	}
	between(t, took, 500*time.Millisecond, 2*time.Second)
	between(t, way.Queued, 500*time.Millisecond, took)
	way, e, took = timed(t, p, testkit.Patience)
	if e != nil || tries(way.Tried) != "a budget, b budget" || way.Member.Name() != "c" {
		t.Fatalf("%+v, %v", way, e)
	}
	between(t, took, 500*time.Millisecond, 950*time.Millisecond)
	if text := way.Tried[0].Text; !strings.HasPrefix(text, "queued 0.") || !strings.HasSuffix(text, " s; budget a: 1 of 1 connections are open") {
		t.Error(text)
	}
}

// Waiting ends while there is time for a dial, and with the client.
func TestQueueIsInsideTheTimeBudget(t *testing.T) {
	t.Parallel()
	p := only(t, load(t, poolOf(proxies(t, 1), "failover", "limits: {max_connections: 1, queue_seconds: 60}"), nil))
	way := open(t, p, venue)
	_, e, took := timed(t, p, 1500*time.Millisecond)
	if e == nil || e.Class != failure.Budget || !strings.HasPrefix(e.Error(), "queued 0.") {
		t.Fatalf("%+v", e)
	}
	between(t, took, 700*time.Millisecond, 1400*time.Millisecond)
	gone, leave := context.WithCancel(budget(t, testkit.Patience))
	done := make(chan error)
	go func() { _, err := p.Dial(gone, venue); done <- err }()
	testkit.Eventually(t, testkit.Patience, "it waits", func() bool { return p.set.Budgets().Rows()[0].Queued == 1 })
	leave()
	if err := <-done; err == nil || err.Error() != "context canceled" {
		t.Errorf("a client that left: %v", err)
	}
	way.Release()
	if got := through(t, p, venue, 1); got != "a" {
		t.Error(got)
	}
}

// Members with one exit share its budget, whoever has written it.
func TestSharedExit(t *testing.T) {
	s := load(t, limited(proxies(t, 3), "failover", "connects: 2/1h", "exit: tokyo", "exit: tokyo", ""), nil)
	if got := through(t, only(t, s), feed, 4); got != "aacc" {
		t.Errorf("went through %s", got)
	}
	s = load(t, poolOf(proxies(t, 3), "failover", "exit: tokyo, limits: {max_connections: 3}", "exit: tokyo", ""), nil)
	if got := through(t, only(t, s), venue, 5); got != "aaacc" {
		t.Errorf("went through %s", got)
	}
}

// All budgets that apply must have room.
func TestPoolAndProxyLimits(t *testing.T) {
	text := poolOf(proxies(t, 2), "failover", "limits: {connects: 2/1h}", "limits: {connects: 2/1h}") + "    limits: {max_connections: 3}\n"
	p := only(t, load(t, text, nil))
	ways := []*Conn{open(t, p, venue), open(t, p, venue), open(t, p, venue)}
	if e := denied(t, p, venue, testkit.Patience, failure.Budget); e.Error() != "budget a: 0 of 2 per 1 h; budget pool p: 3 of 3 connections are open" {
		t.Error(e)
	}
	ways[0].Release()
	if got := through(t, p, venue, 1); got != "b" {
		t.Errorf("went through %s", got)
	}
	ways[1].Release()
	if e := denied(t, p, venue, testkit.Patience, failure.Budget); e.Error() != "budget a: 0 of 2 per 1 h; budget b: 0 of 2 per 1 h" {
		t.Error(e)
	}
}

// A hop on the way to an upstream counts in no budget.
func TestHopsDoNotCount(t *testing.T) {
	exit := proxies(t, 1)[0]
	hop := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": exit.Addr}})
	s := load(t, chained(exit.URL(), fmt.Sprintf("{name: h, url: %q, limits: {max_connections: 1}}", hop.URL())), nil)
	for range 3 {
		open(t, last(t, s), venue)
	}
	if rows := s.Budgets().Rows(); len(rows) > 0 {
		t.Errorf("%v", rows)
	}
}

// Who chooses by turns or by weight does so among those that have room.
func TestChoosingPastTheFull(t *testing.T) {
	for _, strategy := range []string{"round_robin", "random", "least_connections", "lowest_latency", "hash"} {
		t.Run(strategy, func(t *testing.T) {
			text := poolOf(proxies(t, 4), strategy, "limits: {max_connections: 1}", "", "", "tier: 2") + "    hash_over: host\n"
			p := only(t, load(t, text, nil))
			if _, err := p.set.shared.limits.Acquire(t.Context(), 0, p.set.needOf(&feed, "a", "p").budgets); err != nil {
				t.Fatal(err)
			}
			counts := map[string]int{}
			for i := range 60 {
				to := feed
				to.Host = fmt.Sprintf("h%d.example", i)
				l := selection{shared: p.set.shared, target: &to}
				at, _ := p.pick(&l)
				counts[p.members[at].name]++
			}
			if counts["a"] > 0 || counts["d"] > 0 || strategy == "round_robin" && counts["b"] != 30 {
				t.Error(counts)
			}
		})
	}
}

// Of an exit that several members write figures for, the smaller of each holds;
// and one that has waited for a window is late by a tenth of its time at most.
func TestFiguresOfAnExit(t *testing.T) {
	s := load(t, poolOf(proxies(t, 4), "failover",
		"exit: x, limits: {connects: 10/1m, max_connections: 4, queue_seconds: 2}",
		"exit: x, limits: {connects: 3/10s, max_connections: 5, queue_seconds: 5}",
		"exit: x, limits: {connects: 11/1m, max_connections: 3, queue_seconds: 9}",
		"exit: y, limits: {max_connections: 3, queue_seconds: 9}"), nil)
	want := map[string]limit.Limits{
		"x": {Connects: 10, Per: time.Minute, MaxConnections: 3, Queue: 2 * time.Second, Jitter: 200 * time.Millisecond},
		"y": {MaxConnections: 3, Queue: 9 * time.Second},
	}
	if d := cmp.Diff(want, s.figures.exits); d != "" {
		t.Errorf("want (-), got (+):\n%s", d)
	}
}

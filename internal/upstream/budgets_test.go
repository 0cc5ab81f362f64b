package upstream

import (
	"context"
	"encoding/json"
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

// through opens n connections and returns the names of their members. They stay open.
func through(t testing.TB, p *Pool, to Target, n int) (names string) {
	t.Helper()
	for range n {
		names += open(t, p, to).Member.Name()
	}
	return names
}

// Which budgets a connection is counted in.
func TestBudgetsOfConnection(t *testing.T) {
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
func TestFailoverWhenBudgetIsFull(t *testing.T) {
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
func TestQueueTimeIsNotAttemptTime(t *testing.T) {
	t.Parallel()
	p := only(t, load(t, poolOf(proxies(t, 2), "failover", "limits: {connects: 1/1s, queue_seconds: 4}"), nil)) // attempt_seconds is 0.3
	begin := time.Now()                                                                                         // the window begins with the first, which is back a little later
	open(t, p, venue)
	opened := time.Since(begin)
	conn, e, took := timed(t, p, testkit.Patience)
	if e != nil || len(conn.Tried) > 0 || conn.Member.Name() != "a" {
		t.Fatalf("%+v, %v", conn, e)
	}
	between(t, took, time.Second-opened, 3*time.Second)
	between(t, conn.Queued, 900*time.Millisecond-opened, took)
	between(t, conn.Dial, 0, took-conn.Queued)
}

// One that waits in vain goes on to a member that has room, and waits for no other.
func TestBudgetQueueTimeout(t *testing.T) {
	t.Parallel()
	const own = "limits: {max_connections: 1, queue_seconds: 0.9}"
	s := load(t, poolOf(proxies(t, 3), "failover", own, own, ""), nil)
	p := only(t, s)
	if got := through(t, p, venue, 1); got != "a" {
		t.Fatal(got)
	}
	conn, e, took := timed(t, p, testkit.Patience)
	if e != nil || tries(conn.Tried) != "a budget" || conn.Member.Name() != "b" {
		t.Fatalf("%+v, %v", conn, e)
	}
	between(t, took, 900*time.Millisecond, 3*time.Second)
	between(t, conn.Queued, 900*time.Millisecond, took)
	conn, e, took = timed(t, p, testkit.Patience)
	if e != nil || tries(conn.Tried) != "a budget, b budget" || conn.Member.Name() != "c" {
		t.Fatalf("%+v, %v", conn, e)
	}
	between(t, took, 900*time.Millisecond, 1750*time.Millisecond)
	if text := conn.Tried[0].Text; !(strings.HasPrefix(text, "queued 0.9") || strings.HasPrefix(text, "queued 1")) || !strings.HasSuffix(text, " s; budget a: 1 of 1 connections are open") {
		t.Error(text)
	}
}

// Waiting ends while there is time for a dial, and with the client.
func TestQueueStaysWithinDeadline(t *testing.T) {
	t.Parallel()
	p := only(t, load(t, poolOf(proxies(t, 1), "failover", "limits: {max_connections: 1, queue_seconds: 60}"), nil))
	conn := open(t, p, venue)
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
	conn.Release()
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
	conns := []*Conn{open(t, p, venue), open(t, p, venue), open(t, p, venue)}
	if e := denied(t, p, venue, testkit.Patience, failure.Budget); e.Error() != "budget a: 0 of 2 per 1 h; budget pool p: 3 of 3 connections are open" {
		t.Error(e)
	}
	conns[0].Release()
	if got := through(t, p, venue, 1); got != "b" {
		t.Errorf("went through %s", got)
	}
	conns[1].Release()
	if e := denied(t, p, venue, testkit.Patience, failure.Budget); e.Error() != "budget a: 0 of 2 per 1 h; budget b: 0 of 2 per 1 h" {
		t.Error(e)
	}
}

// A hop before an upstream counts in no budget.
func TestHopsCountInNoBudget(t *testing.T) {
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
func TestPickSkipsFullBudgets(t *testing.T) {
	for _, strategy := range []string{"round_robin", "random", "least_connections", "lowest_latency", "hash"} {
		t.Run(strategy, func(t *testing.T) {
			text := poolOf(proxies(t, 4), strategy, "limits: {max_connections: 1}", "", "", "tier: 2") + "    hash_over: host\n"
			p := only(t, load(t, text, nil))
			if _, err := p.set.shared.limits.Acquire(t.Context(), 0, p.set.requirementOf(&feed, "a", "p").budgets); err != nil {
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

// If several members write limits for one exit, the smaller of each holds;
// and one that has waited for a window is late by a tenth of its time at most.
func TestLimitsOfSharedExit(t *testing.T) {
	s := load(t, poolOf(proxies(t, 5), "failover",
		"exit: x, limits: {connects: 10/1m, max_connections: 4, queue_seconds: 2}",
		"exit: x, limits: {connects: 3/10s, max_connections: 5, queue_seconds: 5}",
		"exit: x, limits: {connects: 11/1m, max_connections: 3, queue_seconds: 9}",
		"exit: y, limits: {connects: 100/1m, max_connections: 100, share: 1/30, queue_seconds: 0}",
		"exit: y, limits: {max_connections: 2}"), nil)
	want := map[string]limit.Limits{
		"x": {Connects: 10, Per: time.Minute, MaxConnections: 3, Queue: 2 * time.Second, Jitter: 200 * time.Millisecond},
		"y": {Connects: 3, Per: time.Minute, MaxConnections: 2, Whole: limit.Whole{Connects: 100}},
	}
	if d := cmp.Diff(want, s.limits.exits); d != "" {
		t.Errorf("want (-), got (+):\n%s", d)
	}
}

// used is how many places of binance's websocket budget are taken, and how many
// connections it has open.
func used(t testing.TB, s *Set) (places, open int) {
	t.Helper()
	for _, r := range s.Budgets().Rows() {
		if r.Budget.Exchange == "binance" && r.Budget.Kind == "websocket" {
			places, open = places+r.Limits.Connects-r.Left, open+r.Open
		}
	}
	return places, open
}

// A failed dial counts where the exchange may have seen a connection.
func TestBudgetCountsFailedDials(t *testing.T) {
	t.Parallel()
	socks := func(f *testkit.Fault) string {
		return testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Fault: f}).URL()
	}
	http := func(f *testkit.Fault) string { return testkit.NewProxy(t, testkit.ProxyOptions{Fault: f}).URL() }
	reply := func(code byte) string { return socks(testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(code))) }
	answer := func(status string) string { return http(testkit.On(testkit.AtRequest, testkit.Answer(status, ""))) }
	for name, tt := range map[string]struct {
		url   string
		class failure.Class
		count int
	}{
		"refused":                    {"socks5://" + testkit.ClosedPort(t), failure.UpstreamRefused, 0},
		"no such name":               {"socks5://px.nowhere.example:1080", failure.UpstreamDNS, 0},
		"no TLS":                     {"https://" + testkit.SilentListener(t), failure.UpstreamTimeout, 0},
		"silent at the greeting":     {socks(testkit.On(testkit.AtAccept, testkit.Hang)), failure.UpstreamTimeout, 0},
		"garbage at the greeting":    {socks(testkit.On(testkit.AtAccept, testkit.Say("SSH-2.0-x\r\n"))), failure.UpstreamProtocol, 0},
		"a password is wanted":       {answer("407 Who"), failure.UpstreamAuth, 0},
		"denied":                     {answer("403 No"), failure.UpstreamDenied, 0},
		"denied by SOCKS":            {reply(2), failure.UpstreamDenied, 0},
		"the target refuses":         {reply(5), failure.TargetRefused, 1},
		"the target is unreachable":  {reply(3), failure.TargetUnreachable, 1},
		"the upstream cannot tell":   {answer("502 Bad Gateway"), failure.TargetUnreachable, 1},
		"silent, with the request":   {socks(testkit.On(testkit.AtRequest, testkit.Hang)), failure.TargetTimeout, 1},
		"closed, with the request":   {http(testkit.On(testkit.AtRequest, testkit.Close)), failure.UpstreamProtocol, 1},
		"direct, refused":            {"direct", failure.TargetRefused, 1},
		"direct, there is no target": {"direct", failure.TargetDNS, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := load(t, "allow_private: [127.0.0.0/8]\npools: {p: {proxies: [{name: a, url: \""+tt.url+"\"}]}}\n"+
				"exchanges: {binance: {websocket: {pool: p, limits: {connects: 5/1h, max_connections: 5}}}}\n", nil)
			to := feed
			if tt.class == failure.TargetRefused && tt.url == "direct" {
				to = at(testkit.ClosedPort(t))
				to.Exchange, to.Kind = feed.Exchange, feed.Kind
			}
			denied(t, only(t, s), to, 500*time.Millisecond, tt.class)
			if places, open := used(t, s); places != tt.count || open != 0 {
				t.Errorf("%d places and %d connections are counted, want %d and none", places, open, tt.count)
			}
		})
	}
}

// Probes count as the exchange counts them, and never wait.
func TestBudgetCountsProbes(t *testing.T) {
	s := load(t, limited(proxies(t, 1), "failover", "connects: 2/1h, queue_seconds: 9"), nil)
	a := s.Upstream("a")
	var conns []*Conn
	for range 2 {
		conn, err := s.DialMember(budget(t, testkit.Patience), a, feed)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Conn.Close()
		conns = append(conns, conn)
	}
	if places, open := used(t, s); places != 2 || open != 2 {
		t.Errorf("%d places, %d open", places, open)
	}
	start := time.Now()
	_, err := s.DialMember(budget(t, testkit.Patience), a, feed)
	if e, ok := err.(*failure.Error); !ok || e.Class != failure.Budget || !e.Unsure || e.Error() != "budget binance via a: 0 of 2 per 1 h (websocket)" { //nolint:errorlint // DialOne promises the very type
		t.Fatalf("%v", err)
	}
	between(t, time.Since(start), 0, time.Second)
	a.Observe(Result{Err: err, Exchange: "binance", Kind: feedKind})
	if out(s) != "" {
		t.Error("a probe that was held back ejects")
	}
	for _, w := range conns {
		w.Release()
	}
	if places, open := used(t, s); places != 2 || open != 0 {
		t.Errorf("at the end: %d places, %d open", places, open)
	}
}

// Requests over one connection count once, and as long as it is there.
func TestBudgetCountsPlainConnectionOnce(t *testing.T) {
	for _, scheme := range []string{"socks5", "http"} {
		t.Run(scheme, func(t *testing.T) {
			server := answering(t)
			proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: scheme, Hosts: map[string]string{"*": server.Addr}})
			s := load(t, fmt.Sprintf("pools: {p: {proxies: [{name: a, url: %q, limits: {connects: 2/1h, max_connections: 2}}]}}\ndefault: p\n", proxy.URL()), nil)
			p := only(t, s)
			row := func() limit.Row { return s.Budgets().Rows()[0] }
			for range 5 {
				get(t, p, 1)
			}
			if r := row(); r.Left != 1 || r.Open != 1 {
				t.Errorf("after five requests of one client: %v", r)
			}
			get(t, p, 2)
			if r := row(); r.Left != 0 || r.Open != 2 {
				t.Errorf("after one of another: %v", r)
			}
			get(t, p, 2)
			s.Close()
			testkit.Eventually(t, testkit.Patience, "they end", func() bool { return row().Open == 0 })
			if r := row(); r.Left != 0 {
				t.Errorf("at the end: %v", r)
			}
		})
	}
}

// A new configuration takes effect when it is put in force, not when it is built,
// and the history stays.
func TestReloadKeepsBudgetHistory(t *testing.T) {
	list := proxies(t, 1)
	text := limited(list, "failover", "connects: 3/1h")
	old := load(t, text, nil)
	through(t, only(t, old), feed, 2)
	more := reload(t, old, strings.Replace(text, "3/1h", "5/1h", 1), nil)
	if r := old.Budgets().Rows(); len(r) != 1 || r[0].Left != 1 {
		t.Errorf("a configuration that is only built has an effect: %v", r)
	}
	more.Activate()
	if got := through(t, only(t, more), feed, 3); got != "aaa" {
		t.Error(got)
	}
	denied(t, only(t, more), feed, testkit.Patience, failure.Budget)
	less := reload(t, more, text, nil)
	less.Activate()
	if e := denied(t, only(t, less), feed, testkit.Patience, failure.Budget); e.Error() != "budget binance via a: 0 of 3 per 1 h (websocket)" {
		t.Error(e)
	}
	none := reload(t, less, poolOf(list, "failover"), nil)
	none.Activate()
	if got := through(t, only(t, none), feed, 2); got != "aa" {
		t.Error(got)
	}
	again := reload(t, none, text, nil)
	again.Activate()
	denied(t, only(t, again), feed, testkit.Patience, failure.Budget)
}

// The next process knows what this one has used, and counts what moves to it.
func TestBudgetsTakenOverByNextProcess(t *testing.T) {
	list := proxies(t, 2)
	text := limited(list, "failover", "connects: 3/1h, max_connections: 9", "exit: tokyo", "")
	old := load(t, text, nil)
	through(t, only(t, old), feed, 3)
	data, err := json.Marshal(old.Budgets().Export())
	if err != nil {
		t.Fatal(err)
	}
	var past []limit.History
	if err := json.Unmarshal(data, &past); err != nil {
		t.Fatal(err)
	}
	s := load(t, text, nil)
	s.Budgets().Import(past)
	s.Budgets().SetRemoteOpen(old.Budgets().Open())
	p := only(t, s)
	if got := left(p, "a", feed); len(got) != 1 || got[0] != "binance via tokyo (websocket): 0 of 3 per 1 h left, 3 of 9 connections open" {
		t.Fatalf("%s: %v", data, got)
	}
	if got := through(t, p, feed, 1); got != "b" {
		t.Error(got)
	}
	u, release := s.Adopt("p", "a", "binance", feedKind)
	if u != s.Upstream("a") || u.Live() != 1 {
		t.Errorf("%v", u)
	}
	if got := left(p, "a", feed); !strings.HasSuffix(got[0], "3 of 9 connections open") { // it was one of those elsewhere
		t.Error(got)
	}
	release()
	if got := left(p, "a", feed); !strings.HasSuffix(got[0], "2 of 9 connections open") || u.Live() != 0 {
		t.Error(got)
	}
	if u, release := s.Adopt("p", "gone", "binance", feedKind); u != nil || release != nil {
		t.Error("an upstream that there is not is found")
	}
}

// What an exchange publishes delays no connection. At 80 % it is reported, once.
func TestPublishedLimitsAreWatched(t *testing.T) {
	list := proxies(t, 1)
	s := load(t, poolOf(list, "failover"), nil)
	var told []string
	s.OnBudgetNearlyUsed(func(r limit.Row) { told = append(told, r.String()) })
	s = reload(t, s, poolOf(list, "failover"), nil)
	s.Activate()
	p := only(t, s)
	to := on("bitfinex", feedKind) // 20 in a minute
	for i := range 25 {
		conn := open(t, p, to)
		conn.Release()
		if (len(told) > 0) != (i >= 15) {
			t.Fatalf("after %d: %q", i+1, told)
		}
	}
	if len(told) != 1 || told[0] != "bitfinex via a (websocket): 4 of 20 per 1 m left, only watched" {
		t.Errorf("%q", told)
	}
}

// One that was taken out of use while a connection waited for it is not asked.
func TestEjectedDuringBudgetWaitIsNotAsked(t *testing.T) {
	t.Parallel()
	p := only(t, load(t, poolOf(proxies(t, 2), "failover", "limits: {max_connections: 1, queue_seconds: 9}"), nil))
	conn := open(t, p, venue)
	done := make(chan *Conn, 1)
	go func() {
		conn, err := p.Dial(budget(t, testkit.Patience), venue)
		if err != nil {
			t.Error(err)
		}
		done <- conn
	}()
	testkit.Eventually(t, testkit.Patience, "it waits", func() bool { return p.set.Budgets().Rows()[0].Queued == 1 })
	p.members[0].recordUpstreamError(failure.UpstreamRefused, 1)
	conn.Release()
	if conn = <-done; conn == nil {
		return
	}
	defer conn.Conn.Close()
	if conn.Member.Name() != "b" || tries(conn.Tried) != "a no_upstream" {
		t.Errorf("through %s; %v", conn.Member.Name(), conn.Tried)
	}
	if r := p.set.Budgets().Rows()[0]; r.Open != 0 {
		t.Errorf("%v", r)
	}
}

package upstream

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/limit"
	"proxyd/internal/testkit"
)

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
func TestWhichFailuresCount(t *testing.T) {
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
func TestProbesCount(t *testing.T) {
	s := load(t, limited(proxies(t, 1), "failover", "connects: 2/1h, queue_seconds: 9"), nil)
	a := s.Upstream("a")
	var ways []*Conn
	for range 2 {
		way, err := s.DialMember(budget(t, testkit.Patience), a, feed)
		if err != nil {
			t.Fatal(err)
		}
		defer way.Conn.Close()
		ways = append(ways, way)
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
	for _, w := range ways {
		w.Release()
	}
	if places, open := used(t, s); places != 2 || open != 0 {
		t.Errorf("at the end: %d places, %d open", places, open)
	}
}

// Requests over one connection count once, and as long as it is there.
func TestPlainRequestsCountOnce(t *testing.T) {
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
func TestReloadKeepsHistory(t *testing.T) {
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
func TestBudgetsInTheNextProcess(t *testing.T) {
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

// What an exchange publishes holds nobody back. At 80 % it is told, once.
func TestPublishedFiguresAreWatched(t *testing.T) {
	list := proxies(t, 1)
	s := load(t, poolOf(list, "failover"), nil)
	var told []string
	s.OnBudgetNearlyUsed(func(r limit.Row) { told = append(told, r.String()) })
	s = reload(t, s, poolOf(list, "failover"), nil)
	s.Activate()
	p := only(t, s)
	to := on("bitfinex", feedKind) // 20 in a minute
	for i := range 25 {
		way := open(t, p, to)
		way.Release()
		if (len(told) > 0) != (i >= 15) {
			t.Fatalf("after %d: %q", i+1, told)
		}
	}
	if len(told) != 1 || told[0] != "bitfinex via a (websocket): 4 of 20 per 1 m left, only watched" {
		t.Errorf("%q", told)
	}
}

// One that was taken out of use while somebody waited for it is not asked.
func TestEjectedWhileWaiting(t *testing.T) {
	t.Parallel()
	p := only(t, load(t, poolOf(proxies(t, 2), "failover", "limits: {max_connections: 1, queue_seconds: 9}"), nil))
	way := open(t, p, venue)
	done := make(chan *Conn, 1)
	go func() {
		way, err := p.Dial(budget(t, testkit.Patience), venue)
		if err != nil {
			t.Error(err)
		}
		done <- way
	}()
	testkit.Eventually(t, testkit.Patience, "it waits", func() bool { return p.set.Budgets().Rows()[0].Queued == 1 })
	p.members[0].recordUpstreamError(failure.UpstreamRefused, 1)
	way.Release()
	if way = <-done; way == nil {
		return
	}
	defer way.Conn.Close()
	if way.Member.Name() != "b" || tries(way.Tried) != "a no_upstream" {
		t.Errorf("through %s; %v", way.Member.Name(), way.Tried)
	}
	if r := p.set.Budgets().Rows()[0]; r.Open != 0 {
		t.Errorf("%v", r)
	}
}

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// grid is a daemon with two members, of which the first is preferred, beside
// exchanges that may answer differently through each. The second has a tier of its
// own: in the same one it would be asked first when a busy machine has delayed a dial
// through the first, which then is degraded.
type grid struct {
	*process
	socket        string
	first, second *testkit.Proxy
}

// newGrid has binance's REST probe through the first member lead to rest, its
// websocket probe to feed. All tunnels lead to an echo. Probes go every second.
func newGrid(t *testing.T, rest, feed string) *grid {
	t.Helper()
	echo, venue := testkit.NewTCP(t, testkit.Echo), testkit.NewExchange(t)
	member := func(rest, feed string) *testkit.Proxy {
		return testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{
			"*": echo.Addr, "api.binance.com:80": rest, "stream.binance.com:80": feed, "api.kraken.com:80": venue.HTTP,
		}})
	}
	if feed == "" {
		feed = venue.HTTP
	}
	g := &grid{socket: t.TempDir() + "/admin", first: member(rest, feed), second: member(venue.HTTP, venue.HTTP)}
	g.process = launch(t, "", fmt.Sprintf("admin: unix:%s\n", g.socket)+
		"pools: {asia: {strategy: failover, health_check: {method: exchange, interval_seconds: 1}, proxies: ["+named("first", g.first)+", "+"{name: second, tier: 2, url: \""+g.second.URL()+"\"}]}}\n"+
		`exchanges:
  binance: {http: asia, websocket: asia, probe: {http: "http://api.binance.com/api/v3/ping", websocket: "ws://stream.binance.com:80/echo"}}
  kraken: {http: asia, probe: {http: "http://api.kraken.com/0/public/Time"}}
default: reject
`)
	return g
}

// leaves wants a new tunnel to a host to leave through a member.
func (g *grid) leaves(t *testing.T, host, want string) {
	t.Helper()
	clients := func() (n int) { // probes go to port 80
		for _, a := range g.first.Asked() {
			if a.Port == "443" {
				n++
			}
		}
		return n
	}
	before := clients()
	_ = g.tunnel(t, host+":443").Close()
	got := "second"
	if clients() > before {
		got = "first"
	}
	if got != want {
		t.Errorf("%s leaves through %s, want %s", host, got, want)
	}
}

// inOneLine returns text without its line breaks and indents: status wraps its
// lines, and where depends on what it lists before, and for how long.
func inOneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// says wants words in what a command prints.
func (g *grid) says(t *testing.T, want string, args ...string) {
	t.Helper()
	out, code := g.command(t, args...)
	if code != 0 || !strings.Contains(inOneLine(out), strings.TrimSpace(want)) {
		t.Errorf("proxyd %v: %d, no %q in\n%s", args, code, want, out)
	}
}

// since is when the first member's verdict for binance's REST is said to have come.
func (g *grid) since(t *testing.T) time.Time {
	t.Helper()
	var s struct {
		Upstreams []struct {
			Name     string
			Verdicts []struct {
				Exchange, Kind string
				Since          time.Time
			}
		}
	}
	if err := json.Unmarshal([]byte(g.admin(t, g.socket, "/api/v1/status")), &s); err != nil {
		t.Fatal(err)
	}
	for _, u := range s.Upstreams {
		for _, v := range u.Verdicts {
			if u.Name == "first" && v.Exchange == "binance" && v.Kind == "http" {
				return v.Since
			}
		}
	}
	t.Error("status tells of no verdict")
	return time.Time{}
}

// What an exchange says of one exit is known within an interval, everywhere. It
// counts for new connections of that exchange and kind and for nothing else: no
// living tunnel is touched. It ends when the exchange says otherwise.
func TestAVerdictIsAboutOneExchange(t *testing.T) {
	t.Parallel()
	for verdict, status := range map[string]int{"geoblocked": 451, "blocked": 403} {
		t.Run(verdict, func(t *testing.T) {
			t.Parallel()
			rest := newEdge(t)
			g := newGrid(t, rest.Addr, "")
			testkit.Eventually(t, testkit.Patience, "a first probe", func() bool { return len(rest.visits()) > 0 })
			feeds := []*feeds{
				startFeeds(t, g.Addr, "api.binance.com:443", 3, 50*time.Millisecond, asking...),
				startFeeds(t, g.Addr, "stream.binance.com:443", 3, 50*time.Millisecond, asking...),
				startFeeds(t, g.Addr, "api.kraken.com:443", 3, 50*time.Millisecond, asking...),
			}
			g.leaves(t, "api.binance.com", "first")
			changed := time.Now()
			if status == http.StatusForbidden {
				rest.page("error code: 1006") // of the exit, and not of the probe: it counts though feeds live
			}
			rest.answer(status, "")
			testkit.Eventually(t, testkit.Patience, "the verdict", func() bool {
				return len(lines(g.Log.String(), `"type":"verdict"`, `"upstream":"first"`, `"exchange":"binance"`, `"kind":"http"`, `first: `+verdict+`, before: ok`)) == 1
			})
			if took := rest.firstBad().Sub(changed); took > soon {
				t.Errorf("it was asked only after %v, the interval is 1 s", took)
			}
			since := g.since(t)
			g.leaves(t, "api.binance.com", "second")
			g.leaves(t, "stream.binance.com", "first")
			g.leaves(t, "api.kraken.com", "first")
			g.says(t, "binance http: "+verdict+" (for ", "status")
			g.says(t, "  "+verdict, "route", "--live", "api.binance.com")
			for _, host := range []string{"stream.binance.com", "api.kraken.com"} {
				if out, _ := g.command(t, "route", "--live", host); strings.Contains(out, verdict) {
					t.Errorf("%s is said to be %s:\n%s", host, verdict, out)
				}
			}
			row := `proxyd_upstream_verdict{exchange="binance",kind="http",upstream="first",verdict="` + verdict + `"} 1`
			if m := g.admin(t, g.socket, "/metrics"); !strings.Contains(m, row) || strings.Count(m, `verdict="`+verdict+`"`) != 1 {
				t.Errorf("no %s in the metrics", row)
			}
			g.says(t, "no new connections", "drain", "second")
			g.leaves(t, "api.binance.com", "first") // where it is the last one left, it is tried
			g.says(t, "no longer drained", "resume", "second")
			asked := len(rest.visits())
			testkit.Eventually(t, testkit.Patience, "two probes more", func() bool { return len(rest.visits()) > asked+1 })
			if got := g.since(t); !got.Equal(since) { // that it is confirmed makes it no younger
				t.Errorf("it is said to hold since %v, was %v", got, since)
			}
			rest.answer(http.StatusOK, "")
			testkit.Eventually(t, testkit.Patience, "the end of it", func() bool {
				return len(lines(g.Log.String(), `"type":"verdict"`, `"upstream":"first"`, `first: ok, before: `+verdict)) == 1
			})
			g.leaves(t, "api.binance.com", "first")
			if n := len(lines(g.Log.String(), `"type":"verdict"`)); n != 2 { // not again with each probe
				t.Errorf("%d verdicts are told", n)
			}
			for _, f := range feeds {
				f.end(t)
			}
		})
	}
}

// An exit that an exchange limits is neither probed nor used before the
// exchange's Retry-After, be there no other; then it is both.
func TestARateLimitedExitIsLeftAlone(t *testing.T) {
	t.Parallel()
	const pause = 12 * time.Second
	rest := newEdge(t)
	g := newGrid(t, rest.Addr, "")
	testkit.Eventually(t, testkit.Patience, "a first probe", func() bool { return len(rest.visits()) > 0 })
	f := startFeeds(t, g.Addr, "api.binance.com:443", 4, 50*time.Millisecond, asking...)
	rest.answer(http.StatusTooManyRequests, fmt.Sprintf("Retry-After: %d\r\n", pause/time.Second))
	testkit.Eventually(t, testkit.Patience, "the verdict", func() bool {
		return len(lines(g.Log.String(), `"type":"verdict"`, `"upstream":"first"`, `"kind":"http"`, `first: rate_limited`)) == 1
	})
	rest.answer(http.StatusOK, "") // as it would say, were it asked
	g.leaves(t, "api.binance.com", "second")
	g.leaves(t, "stream.binance.com", "first")
	g.leaves(t, "api.kraken.com", "first")
	g.says(t, "rate_limited (", "route", "--live", "api.binance.com")
	g.says(t, "no new connections", "drain", "second", "binance")
	for _, protocol := range []testkit.Protocol{testkit.CONNECT11, testkit.SOCKS5} {
		c, reply := testkit.Open(t, g.Addr, testkit.Ask{Protocol: protocol, Target: "api.binance.com:443"})
		_ = c.Close()
		holds(t, protocol, reply, noUpstream)
		if reply.Took > soon {
			t.Errorf("%s: answered after %v", protocol, reply.Took)
		}
		if protocol != testkit.CONNECT11 {
			continue
		}
		if n, err := strconv.Atoi(reply.Header.Get("Retry-After")); err != nil || n < 1 || time.Duration(n)*time.Second > pause {
			t.Errorf("Retry-After: %q", reply.Header.Get("Retry-After"))
		}
		if !strings.Contains(reply.Body, "first is rate limited by binance") || !strings.Contains(reply.Body, "second is drained for binance") {
			t.Errorf("the body is %q", reply.Body)
		}
	}
	g.leaves(t, "stream.binance.com", "first")
	g.says(t, "no longer drained", "resume", "second", "binance")
	g.leaves(t, "api.binance.com", "second")
	limited := rest.firstBad()
	testkit.Eventually(t, testkit.Patience, "it is asked again", func() bool { return rest.visits()[len(rest.visits())-1].After(limited.Add(pause / 2)) })
	var after time.Time
	for _, at := range slices.Backward(rest.visits()) {
		if at.After(limited) {
			after = at
		}
	}
	if gap := after.Sub(limited); gap < pause-500*time.Millisecond {
		t.Errorf("it was asked %v after it had said: not before %v", gap, pause)
	}
	g.leaves(t, "api.binance.com", "first")
	f.end(t)
}

// While a feed lives, no verdict comes or holds against its pair; when it has
// ended, one does.
func TestALivingFeedSpeaksForItsExit(t *testing.T) {
	t.Parallel()
	feed := newEdge(t)
	g := newGrid(t, newEdge(t).Addr, feed.Addr)
	live := startFeeds(t, g.Addr, "stream.binance.com:443", 1, 50*time.Millisecond, testkit.SOCKS5)
	asked := 0
	testkit.Eventually(t, testkit.Patience, "what was under way has ended", func() bool {
		before := asked
		asked = len(feed.visits())
		time.Sleep(2 * time.Second) // a probe that began before the feed did may come late
		return asked == before
	})
	feed.answer(http.StatusForbidden, "")
	time.Sleep(2 * time.Second) // two intervals in which nothing must come of it
	g.leaves(t, "stream.binance.com", "first")
	if l := lines(g.Log.String(), `"type":"verdict"`); len(l) > 0 {
		t.Errorf("a verdict against a living feed: %s", l)
	}
	live.end(t)
	testkit.Eventually(t, testkit.Patience, "the verdict", func() bool {
		return len(lines(g.Log.String(), `"type":"verdict"`, `"upstream":"first"`, `"kind":"websocket"`, `first: blocked`)) == 1
	})
	g.leaves(t, "stream.binance.com", "second")
	g.leaves(t, "api.binance.com", "first")
	g.says(t, "no new connections", "drain", "second")
	live = startFeeds(t, g.Addr, "stream.binance.com:443", 1, 50*time.Millisecond, testkit.SOCKS5) // as the last one left
	g.says(t, "no longer drained", "resume", "second")
	g.leaves(t, "stream.binance.com", "first")
	const holds = "binance websocket: blocked (for "
	if out, _ := g.command(t, "status"); strings.Contains(inOneLine(out), holds) {
		t.Errorf("a verdict holds against a living feed:\n%s", out)
	}
	testkit.Eventually(t, testkit.Patience, "the feed is back", func() bool { // until then status says why it was lost
		out, _ := g.command(t, "status")
		return !strings.Contains(out, "blocked")
	})
	live.end(t)
	testkit.Eventually(t, testkit.Patience, "it holds again", func() bool {
		out, _ := g.command(t, "status")
		return strings.Contains(inOneLine(out), holds)
	})
	g.leaves(t, "stream.binance.com", "second")
}

// A firewall that minds the probe alone is no verdict while a feed of the
// exchange lives through the same exit.
func TestProbeThatIsRefusedSaysNothingWhileAFeedLives(t *testing.T) {
	t.Parallel()
	rest, feed := newEdge(t), newEdge(t)
	g := newGrid(t, rest.Addr, feed.Addr)
	live := startFeeds(t, g.Addr, "stream.binance.com:443", 1, 50*time.Millisecond, testkit.SOCKS5)
	rest.answer(http.StatusForbidden, "")
	refused := func() (n int) { return len(rest.visits()) }
	before := refused()
	testkit.Eventually(t, testkit.Patience, "it is asked again", func() bool { return refused() >= before+2 })
	g.leaves(t, "api.binance.com", "first")
	if l := lines(g.Log.String(), `"type":"verdict"`, `"kind":"http"`); len(l) > 0 {
		t.Errorf("a verdict although a feed lives: %s", l)
	}
	live.end(t)
	testkit.Eventually(t, testkit.Patience, "the verdict", func() bool {
		return len(lines(g.Log.String(), `"type":"verdict"`, `"upstream":"first"`, `"kind":"http"`, `first: blocked`)) == 1
	})
}

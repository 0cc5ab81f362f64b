//go:build !windows

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// fleetHost is a daemon of a fleet with two exits, of which the first is preferred.
type fleetHost struct {
	*grid
}

// newFleetHost has binance's REST address lead to rest through both exits. check is the
// pool's health_check, "" for none.
func newFleetHost(t *testing.T, redis *testkit.Redis, first, second *testkit.Proxy, check string) *fleetHost {
	t.Helper()
	g := &grid{socket: t.TempDir() + "/admin", first: first, second: second}
	if check != "" {
		check = "health_check: {method: " + check + ", interval_seconds: 1}, "
	}
	g.process = launch(t, "", fmt.Sprintf("admin: unix:%s\nfleet: {redis: %q}\n", g.socket, redis.URL())+
		"pools: {asia: {strategy: failover, "+check+"proxies: [{name: first, exit: tokyo-ip, url: \""+first.URL()+"\"}, {name: second, exit: osaka-ip, tier: 2, url: \""+second.URL()+"\"}]}}\n"+
		`exchanges:
  binance: {http: asia, websocket: asia, probe: {http: "http://api.binance.com/api/v3/ping"}}
  kraken: {http: asia}
default: reject
`)
	return &fleetHost{g}
}

// get asks the exchange through the daemon in plain HTTP.
func (h *fleetHost) get(t *testing.T) int {
	t.Helper()
	c := &http.Client{Timeout: testkit.Patience, Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: h.Addr})}}
	r, err := c.Get("http://api.binance.com/api/v3/time")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	_, _ = io.Copy(io.Discard, r.Body)
	return r.StatusCode
}

// newFleetExits returns two exits, and the exchange's address behind the first one.
func newFleetExits(t *testing.T) (rest *edge, first, second *testkit.Proxy) {
	t.Helper()
	echo, venue, rest := testkit.NewTCP(t, testkit.Echo), testkit.NewExchange(t), newEdge(t)
	member := func(rest string) *testkit.Proxy {
		return testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": echo.Addr, "api.binance.com:80": rest}})
	}
	return rest, member(rest.Addr), member(venue.HTTP)
}

// asked returns how often clients asked for a tunnel through a proxy.
func asked(p *testkit.Proxy) (n int) {
	for _, a := range p.Asked() {
		if a.Port == "443" {
			n++
		}
	}
	return n
}

// keepsOff wants a daemon to dial an exchange through the second exit within a second
// after an answer, and to stay there.
func (h *fleetHost) keepsOff(t *testing.T, since time.Time) {
	t.Helper()
	for {
		before := asked(h.first)
		start := time.Now()
		_ = h.tunnel(t, "api.binance.com:443").Close()
		if asked(h.first) == before {
			break
		}
		if start.Sub(since) > time.Second {
			t.Fatalf("it dials the exit %v after the answer\n%s", start.Sub(since), h.Log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for range 5 {
		h.leaves(t, "api.binance.com", "second")
	}
}

// Promise (routing): A 451 to a plain request of one host keeps the other hosts from
// dialling that exit for that exchange within a second.
func TestPlainAnswerOfOneHostHoldsForAll(t *testing.T) {
	t.Parallel()
	redis := testkit.StartRedis(t)
	rest, first, second := newFleetExits(t)
	a, b := newFleetHost(t, redis, first, second, ""), newFleetHost(t, redis, first, second, "")
	a.leaves(t, "api.binance.com", "first")
	b.leaves(t, "api.binance.com", "first")
	rest.answer(http.StatusUnavailableForLegalReasons, "")
	if got := a.get(t); got != http.StatusUnavailableForLegalReasons {
		t.Fatalf("the client got %d", got)
	}
	since := time.Now()
	a.leaves(t, "api.binance.com", "second")
	b.keepsOff(t, since)
	b.leaves(t, "api.kraken.com", "first")
	b.says(t, "binance http: geoblocked (for ", "status")
	b.says(t, "; found by host ", "status")
	testkit.Eventually(t, testkit.Patience, "the event", func() bool {
		return len(lines(b.Log.String(), `"type":"verdict"`, `"upstream":"first"`, "first: geoblocked, before: ok; HTTP 451 to a plain request; found by host ")) == 1
	})
	if m := b.admin(t, b.socket, "/metrics"); !strings.Contains(m, `proxyd_upstream_verdict{exchange="binance",kind="http",upstream="first",verdict="geoblocked"} 1`) {
		t.Error("it is not in the metrics")
	}
	board := "proxyd:proxyd:{fleet}:verdicts"
	now := time.Now()
	for _, pair := range []string{"tokyo-ip|nowhere|http", "moon-ip|kraken|http", "tokyo-ip|BINANCE|websocket", "tokyo-ip|kraken|http"} {
		redis.Do("ZADD", board+":end", fmt.Sprint(now.Add(time.Minute).UnixMicro()), "'"+pair+"'")
		redis.Do("HSET", board, "'"+pair+"'", `'ff blocked {"host":"forger","text":"x"}'`)
		redis.Do("ZADD", board+":changed", fmt.Sprint(now.UnixMicro()), "'"+pair+"'")
	}
	testkit.Eventually(t, testkit.Patience, "a verdict that no proxyd has written", func() bool {
		return strings.Contains(b.admin(t, b.socket, "/metrics"), `exchange="kraken",kind="http",upstream="first",verdict="blocked"`)
	})
	if m := b.admin(t, b.socket, "/metrics"); strings.Count(m, "proxyd_upstream_verdict{") != 2 || strings.Contains(m, "nowhere") || strings.Contains(m, "forger") {
		t.Error("names that the configuration does not know are in the metrics")
	}
	text, err := os.ReadFile(b.File)
	if err != nil {
		t.Fatal(err)
	}
	saving(regexp.MustCompile("(?m)^fleet: .*$").ReplaceAllString(string(text), ""))(t, b.File)
	b.signal(t, syscall.SIGHUP, reloaded)
	testkit.Eventually(t, testkit.Patience, "without a fleet nothing of others holds", func() bool {
		return !strings.Contains(b.admin(t, b.socket, "/metrics"), "proxyd_upstream_verdict{")
	})
	b.leaves(t, "api.binance.com", "first")
	if strings.Contains(a.Log.String(), "through first: geoblocked, before: ok; HTTP 451 to a plain request; found by") {
		t.Errorf("it came back to its own host:\n%s", a.Log)
	}
}

// Promise (routing): What a health_check finds on one host holds for all until its time,
// or until a check finds that the exchange serves the exit again.
func TestCheckOfOneHostHoldsForAll(t *testing.T) {
	t.Parallel()
	redis := testkit.StartRedis(t)
	rest, first, second := newFleetExits(t)
	a, b := newFleetHost(t, redis, first, second, "exchange"), newFleetHost(t, redis, first, second, "")
	live := b.tunnel(t, "api.binance.com:443")
	rest.answer(http.StatusUnavailableForLegalReasons, "")
	testkit.Eventually(t, testkit.Patience, "a probe is answered", func() bool { return !rest.firstBad().IsZero() })
	b.keepsOff(t, rest.firstBad())
	live.Send("still here") // no living tunnel is touched
	live.Expect("still here")
	rest.answer(http.StatusOK, "")
	testkit.Eventually(t, testkit.Patience, "a good probe of the other host ends it", func() bool {
		before := asked(first)
		_ = b.tunnel(t, "api.binance.com:443").Close()
		return asked(first) > before
	})
	rest.answer(http.StatusTooManyRequests, "Retry-After: 3600\r\n")
	testkit.Eventually(t, testkit.Patience, "the rate limit is here", func() bool {
		return strings.Contains(b.admin(t, b.socket, "/api/v1/status"), `"verdict": "rate_limited"`)
	})
	b.leaves(t, "api.binance.com", "second")
	b.says(t, "59 min", "status")
	redis.Kill()
	time.Sleep(2 * time.Second)
	b.leaves(t, "api.binance.com", "second") // what was heard goes on without Redis
	_ = a
}

// An ejection on one host is a hint for another, which asks by itself.
func TestEjectionBringsProbesOfOtherHostsForward(t *testing.T) {
	t.Parallel()
	redis := testkit.StartRedis(t)
	_, first, second := newFleetExits(t)
	dead := testkit.FreeAddr(t)
	a := newFleetHost(t, redis, first, second, "")
	b := launch(t, "", fmt.Sprintf(`fleet: {redis: %q}
pools: {asia: {strategy: failover, proxies: [{name: first, exit: tokyo-ip, url: "http://%s"}, {name: second, tier: 2, url: %q}]}}
exchanges: {binance: {http: asia}}
default: reject
`, redis.URL(), dead, second.URL()))
	c := newFleetHost(t, redis, first, second, "connect")
	// c's probes are not due while its traffic shows that the exit works.
	_ = b.tunnel(t, "api.binance.com:443").Close()
	testkit.Eventually(t, testkit.Patience, "the hint", func() bool {
		return len(lines(c.Log.String(), "probes are brought forward", "upstream_refused", `"first"`)) == 1
	})
	for _, h := range []*fleetHost{a, c} {
		h.leaves(t, "api.binance.com", "first") // it is not ejected there
		if strings.Contains(h.Log.String(), "ejected for at least") {
			t.Error("another host's ejection counts")
		}
	}
}

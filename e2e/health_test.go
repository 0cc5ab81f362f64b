package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// saying answers every request, however often, with one status.
func saying(status int, header string) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			if req.Header.Get("Upgrade") != "" || status == 0 {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
				continue
			}
			_, _ = fmt.Fprintf(c, "HTTP/1.1 %d X\r\n%sContent-Length: 2\r\n\r\n{}", status, header)
		}
	}
}

// What an exchange says of one exit counts for that exchange and that kind, and
// for no other.
func TestAVerdictIsAboutOneExchange(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status  int
		header  string
		verdict string
	}{
		"geoblocked":   {451, "", "geoblocked"},
		"blocked":      {403, "", "blocked"},
		"rate limited": {429, "Retry-After: 60\r\n", "rate_limited"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, good := testkit.NewTCP(t, saying(tc.status, tc.header)), testkit.NewTCP(t, saying(200, ""))
			first := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "http", Hosts: map[string]string{"*": good.Addr, "api.binance.com": bad.Addr}})
			second := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "http", Hosts: map[string]string{"*": good.Addr}})
			p := start(t, fmt.Sprintf(`admin: 127.0.0.1:0
pools:
  asia:
    strategy: failover
    proxies: [{name: first, url: %q}, {name: second, url: %q}]
    health_check: {method: exchange, interval_seconds: 1}
exchanges:
  binance: {http: asia, websocket: asia, probe: {http: "http://api.binance.com/api/v3/ping", websocket: "ws://stream.binance.com:80/ws"}}
  kraken: {http: asia, probe: {http: "http://api.kraken.com/0/public/Time"}}
default: reject
`, first.URL(), second.URL()))
			started := time.Now()
			if p.waitLine(`"msg":"verdict"`, `"upstream":"first"`, `"exchange":"binance"`, `"kind":"http"`, `"verdict":"`+tc.verdict+`"`) == "" {
				t.Fatalf("no verdict\n%s", p.Log)
			}
			t.Logf("seen after %v", time.Since(started))
			member := func(host string) string {
				t.Helper()
				before := [2]int{len(first.Asked()), len(second.Asked())}
				c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: host + ":443"})
				if !reply.OK {
					t.Fatalf("%s: %v", host, reply)
				}
				_ = c.Close()
				for _, a := range first.Asked()[before[0]:] {
					if a.Host == host && a.Port == "443" {
						return "first"
					}
				}
				return "second"
			}
			for host, want := range map[string]string{"api.binance.com": "second", "stream.binance.com": "first", "api.kraken.com": "first"} {
				if got := member(host); got != want {
					t.Errorf("%s left through %s, want %s", host, got, want)
				}
			}
			if tc.verdict == "rate_limited" { // asking would lengthen it
				before := bad.Accepted()
				time.Sleep(2500 * time.Millisecond)
				if n := bad.Accepted() - before; n > 0 {
					t.Errorf("it was asked %d times more before Retry-After", n)
				}
			}
		})
	}
}

// No new connections, no end for those that are open; and back.
func TestDrainAndResume(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	to := map[string]string{"*": echo.Addr}
	a, b := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: to}), testkit.NewProxy(t, testkit.ProxyOptions{Hosts: to})
	socket := t.TempDir() + "/admin"
	p := launch(t, "", fmt.Sprintf("admin: unix:%s\npools: {asia: {strategy: failover, proxies: [{name: a, url: %q}, {name: b, url: %q}]}}\nexchanges: {binance: asia, kraken: asia}\ndefault: reject\n", socket, a.URL(), b.URL()))
	live := p.tunnel(t, "api.binance.com:443")
	leaves := func(host, want string) {
		t.Helper()
		before := len(a.Asked())
		c := p.tunnel(t, host)
		_ = c.Close()
		got := "b"
		if len(a.Asked()) > before {
			got = "a"
		}
		if got != want {
			t.Errorf("%s leaves through %s, want %s", host, got, want)
		}
	}
	call := func(code int, want string, args ...string) {
		t.Helper()
		if out, got := p.command(t, args...); got != code || !strings.Contains(out, want) {
			t.Errorf("proxyd %v: %d, %s", args, got, out)
		}
	}
	leaves("api.binance.com:443", "a")
	call(0, "no new connections", "drain", "a", "binance")
	leaves("api.binance.com:443", "b")
	leaves("api.kraken.com:443", "a")
	call(0, "a", "drain", "a")
	leaves("api.kraken.com:443", "b")
	call(0, "drained", "status")
	call(0, "drained", "route", "--live", "api.kraken.com")
	works(live)
	call(0, "", "drain", "b")
	c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "api.kraken.com:443"})
	if reply.Status != 503 || !strings.Contains(reply.String(), "no_upstream") {
		t.Errorf("with both drained: %v", reply)
	}
	_ = c.Close()
	call(0, "", "resume", "b")
	call(0, "", "resume", "a")
	leaves("api.kraken.com:443", "a")
	call(0, "", "resume", "a", "binance")
	leaves("api.binance.com:443", "a")
	call(1, "there are: a, b", "drain", "c")
	call(1, "no exchange", "drain", "a", "nowhere")
}

// Websocket tunnels that end at once are how a block looks from here.
func TestTunnelsThatEndAtOnceAreTold(t *testing.T) {
	t.Parallel()
	closes := testkit.NewTCP(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 100)) })
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": closes.Addr}})
	socket := t.TempDir() + "/admin"
	p := launch(t, "", fmt.Sprintf("admin: unix:%s\nexchanges: {binance: {url: %q}}\ndefault: reject\n", socket, up.URL()))
	for range 5 {
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "stream.binance.com:443", Early: "GET / HTTP/1.1\r\n\r\n"})
		if !reply.OK {
			t.Fatal(reply)
		}
		c.ExpectEOF()
		_ = c.Close()
	}
	testkit.Eventually(t, testkit.Patience, "the metric", func() bool {
		return strings.Contains(p.admin(t, socket, "/metrics"), `proxyd_tunnels_short_total{exchange="binance",kind="websocket",upstream="`+up.Addr+`"} 5`)
	})
	if n := strings.Count(p.Log.String(), "run: proxyd probe binance"); n != 1 {
		t.Errorf("the warning stands there %d times:\n%s", n, p.Log)
	}
}

package e2e

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// No new connections, no end for those that are open; and back.
func TestDrainAndResume(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	to := map[string]string{"*": echo.Addr}
	a, b := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: to}), testkit.NewProxy(t, testkit.ProxyOptions{Hosts: to})
	socket := t.TempDir() + "/admin"
	p := launch(t, "", fmt.Sprintf("admin: unix:%s\npools: {asia: {strategy: failover, proxies: [{name: a, url: %q}, {name: b, tier: 2, url: %q}]}}\nexchanges: {binance: asia, kraken: asia}\ndefault: reject\n", socket, a.URL(), b.URL()))
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
	call(0, "ok\n", "status")
	call(0, "", "drain", "a", "binance")
	call(0, "ok\n", "status")
	call(0, "", "drain", "b", "binance")
	call(0, "BAD: binance websocket (unused): 0 tunnels, since ", "status")
	call(0, ": no upstream can be used: a, b are drained for binance\nDEGRADED: binance http: no upstream can be used for new connections: a, b are drained for binance; to end the drain: proxyd resume a binance\n", "status")
	call(1, "no exchange", "drain", "a", "nowhere")
}

// Websocket tunnels that end at once are how a block looks from here.
func TestTunnelsThatEndAtOnceAreTold(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	conf := ca.Server(t, "stream.binance.com")
	file, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(file)
	for range 10 { // a chain as public authorities have it, of some KiB
		conf.Certificates[0].Certificate = append(conf.Certificates[0].Certificate, block.Bytes)
	}
	const request = "GET /ws HTTP/1.1\r\nHost: stream.binance.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	t.Run("in clear", func(t *testing.T) {
		t.Parallel()
		tunnelsThatEndAtOnce(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 100)) }, func(c *testkit.Conn) { c.Send(request) })
	})
	t.Run("451 over TLS with a chain", func(t *testing.T) {
		t.Parallel()
		tunnelsThatEndAtOnce(t, func(c net.Conn) {
			s := tls.Server(c, conf)
			if _, err := http.ReadRequest(bufio.NewReader(s)); err == nil {
				_, _ = io.WriteString(s, "HTTP/1.1 451 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			}
			_ = s.Close()
		}, func(c *testkit.Conn) {
			s := tls.Client(c, &tls.Config{RootCAs: ca.Pool, ServerName: "stream.binance.com"})
			if _, err := io.WriteString(s, request); err != nil {
				t.Error(err)
			}
			if r, err := http.ReadResponse(bufio.NewReader(s), nil); err != nil || r.StatusCode != http.StatusUnavailableForLegalReasons {
				t.Errorf("got %v, %v", r, err)
			}
		})
	})
}

func tunnelsThatEndAtOnce(t *testing.T, serve func(net.Conn), client func(*testkit.Conn)) {
	t.Helper()
	closes := testkit.NewTCP(t, serve)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": closes.Addr}})
	socket := t.TempDir() + "/admin"
	p := launch(t, "", fmt.Sprintf("admin: unix:%s\nexchanges: {binance: {url: %q}}\ndefault: reject\n", socket, up.URL()))
	for range 5 {
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "stream.binance.com:443"})
		if !reply.OK {
			t.Fatal(reply)
		}
		client(c)
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
	testkit.Eventually(t, testkit.Patience, "the metric", func() bool {
		return strings.Contains(p.admin(t, socket, "/metrics"), `proxyd_tunnels_short_total{exchange="binance",kind="websocket",upstream="`+up.Addr+`"} 5`)
	})
	warnings := func() int {
		return len(lines(p.Log.String(), `"type":"exchange_lost"`, `"exchange":"binance"`, "run: proxyd probe binance"))
	}
	testkit.Eventually(t, testkit.Patience, "the event", func() bool { return warnings() > 0 })
	if n := warnings(); n != 1 {
		t.Errorf("the warning stands there %d times:\n%s", n, p.Log)
	}
}

// edge is an exchange as one exit sees it: it answers every request with a
// status, which a test can change.
type edge struct {
	*testkit.TCP
	mu     sync.Mutex
	status int
	header string
	body   string
	bad    time.Time   // when it first said other than 200
	asked  []time.Time // when it was asked
}

func newEdge(t *testing.T) *edge {
	t.Helper()
	e := &edge{status: http.StatusOK}
	e.TCP = testkit.NewTCP(t, e.serve)
	return e
}

// serve takes an upgrade for any other request: it grants none.
func (e *edge) serve(c net.Conn) {
	for r := bufio.NewReader(c); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		e.mu.Lock()
		e.asked = append(e.asked, time.Now())
		if e.status != http.StatusOK && e.bad.IsZero() {
			e.bad = time.Now()
		}
		body := cmp.Or(e.body, "{}")
		text := fmt.Sprintf("HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s", e.status, e.header, len(body), body)
		e.mu.Unlock()
		_, _ = io.WriteString(c, text)
	}
}

func (e *edge) answer(status int, header string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status, e.header = status, header
}

// page has it show a text with every answer.
func (e *edge) page(body string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.body = body
}

func (e *edge) visits() []time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked)
}

func (e *edge) firstBad() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bad
}

// An operator writes names as the file does, in whatever case.
func TestDrainTakesNamesAsTheFileHasThem(t *testing.T) {
	t.Parallel()
	socket := t.TempDir() + "/admin"
	p := launch(t, "", fmt.Sprintf("admin: unix:%s\npools: {Asia: {proxies: [{name: Tokyo-1, url: \"http://%s\"}]}}\nexchanges: {MyVenue: {hosts: [feed.venue.example], pool: ASIA}}\ndefault: reject\n", socket, testkit.ClosedPort(t)))
	for _, args := range []string{"drain Tokyo-1", "resume TOKYO-1", "drain tokyo-1 MyVenue", "resume Tokyo-1 MYVENUE", "drain tokyo-1 Binance"} {
		if out, code := p.command(t, strings.Fields(args)...); code != 0 {
			t.Errorf("proxyd %s: %d, %s", args, code, out)
		}
	}
	if out, _ := p.command(t, "status"); !strings.Contains(inOneLine(out), "drained for binance") || strings.Contains(inOneLine(out), "for myvenue") {
		t.Errorf("status: %s", out)
	}
}

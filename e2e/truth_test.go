package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"proxyd/internal/testkit"
)

// deed is what a client of TestCountsAgreeWithWhatThePeersSaw does.
type deed struct {
	share    int // of 50
	exchange string
	kind     string
	host     string
	end      byte
	gone     bool // leaves before it is answered
	plain    bool // a plain request
	outcome  string
}

// deeds are the mix: 50 of 50.
var deeds = []deed{
	{share: 8, exchange: "binance", kind: "websocket", host: "stream.binance.com", end: clientEnds, outcome: "ok"},
	{share: 5, exchange: "okx", kind: "websocket", host: "ws.okx.com", end: clientEnds, outcome: "ok"},
	{share: 1, exchange: "okx", kind: "websocket", host: "ws.okx.com", end: heldOpen, outcome: "ok"},
	{share: 5, exchange: "binance", kind: "websocket", host: "stream.binance.com", end: exchangeEnds, outcome: "ok"},
	{share: 5, exchange: "okx", kind: "websocket", host: "ws.okx.com", end: exchangeEnds, outcome: "ok"},
	{share: 6, exchange: "kraken", kind: "http", host: "api.kraken.com", plain: true, outcome: "ok"},
	{share: 5, exchange: "binance_futures", kind: "websocket", host: "fstream.binance.com", outcome: "upstream_denied"},
	{share: 5, exchange: "bybit", kind: "websocket", host: "stream.bybit.com", outcome: "target_refused"},
	{share: 4, exchange: "deribit", kind: "websocket", host: "streams.deribit.com", gone: true, outcome: "client_gone"},
	{share: 2, exchange: "coinbase", kind: "websocket", host: "advanced-trade-ws.coinbase.com", end: heldOpen, outcome: "ok"},
	{share: 1, exchange: "bitmex", kind: "websocket", host: "ws.bitmex.com", end: heldOpen, outcome: "ok"},
	{share: 3, exchange: "kraken", kind: "websocket", host: "ws.kraken.com", end: heldOpen, outcome: "ok"},
}

const (
	truthRounds  = 100 // of 50 deeds each
	truthWorkers = 64
	truthUp      = 700 // bytes, and up to 15 times as many
	truthDown    = 3_000
)

// truth is the test's state.
type truth struct {
	*process
	m      *market
	socket string
	plain  *testkit.Exchange
	deny   *testkit.Proxy

	mu   sync.Mutex
	held map[string][]*testkit.Conn // by exchange
}

// What proxyd counts is what the exchanges and upstreams have seen, exactly: over
// 5,000 tunnels and requests that end in every manner.
//
// Promise (data path): tunnels, bytes, outcomes and events are counted exactly as exchanges, upstreams and clients see them.
func TestCountsAgreeWithWhatThePeersSaw(t *testing.T) {
	tr := newTruth(t)
	tr.run(t)
	tr.live(t)
	tr.m.gates["die-1"].drop()
	testkit.Eventually(t, testkit.Patience, "the upstream's tunnels to end", func() bool { return tr.m.sum("", "die-1").open == 0 })
	closed := want("kraken", "websocket", "ok")
	if out, code := tr.command(t, "close", "--upstream", "stop-1"); code != 0 || !strings.Contains(out, fmt.Sprint(closed)) {
		t.Errorf("proxyd close: %d, %s; %d tunnels are open", code, out, closed)
	}
	for _, c := range tr.held["okx"] {
		_ = c.Close()
	}
	testkit.Eventually(t, testkit.Patience, "every tunnel to end", func() bool {
		return strings.Contains(tr.admin(t, tr.socket, "/api/v1/status"), `"active": 0,`)
	})
	testkit.Eventually(t, testkit.Patience, "their records", func() bool { // they come up to 350 ms behind the end
		return !openTunnels.MatchString(tr.admin(t, tr.socket, "/metrics"))
	})
	tr.counters(t)
	tr.feeds(t)
	tr.events(t)
}

// openTunnels finds a feed that has open tunnels, in the metrics.
var openTunnels = regexp.MustCompile(`(?m)^proxyd_tunnels_active\{.*\} [1-9]`)

func newTruth(t *testing.T) *truth {
	m := newMarket(t)
	tr := &truth{m: m, socket: filepath.Join(t.TempDir(), "admin"), plain: testkit.NewExchange(t), held: map[string][]*testkit.Conn{}}
	both := []string{"stream.binance.com", "ws.okx.com"}
	m.upstream("line-1", "http", nil, both...)
	m.upstream("line-2", "socks5", nil, both...)
	tr.deny = m.upstream("deny-1", "http", testkit.On(testkit.AtRequest, testkit.Answer("403 Forbidden", "no")))
	m.upstream("hang-1", "http", testkit.On(testkit.AtRequest, testkit.Hang))
	m.upstream("die-1", "http", nil, "advanced-trade-ws.coinbase.com", "ws.bitmex.com")
	m.upstream("stop-1", "socks5", nil, "ws.kraken.com")
	plain := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": tr.plain.HTTP}})
	miss := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": ownHost() + ":443"}}) // where nothing listens
	m.urls["plain-1"], m.urls["miss-1"] = plain.URL(), miss.URL()
	patient := func(name string) string { return strings.TrimSuffix(m.member(name), "}") + ", timeout_seconds: 40}" }
	tr.process = launch(t, "", fmt.Sprintf(`admin: unix:%s
attempt_seconds: 20 # a busy machine: each tunnel that an exchange sees is one that its client gets
pools: {line: {proxies: [%s, %s]}}
exchanges:
  binance: {websocket: {pool: line, timeout_seconds: 40}}
  okx: {websocket: {pool: line, timeout_seconds: 40}}
  binance_futures: {websocket: %s}
  bybit: {websocket: %s}
  deribit: {websocket: %s}
  coinbase: {websocket: %s}
  bitmex: {websocket: %s}
  kraken: {http: %s, websocket: %s}
default: reject
`, tr.socket, m.member("line-1"), m.member("line-2"), patient("deny-1"), patient("miss-1"), patient("hang-1"), patient("die-1"), patient("die-1"), patient("plain-1"), patient("stop-1")))
	return tr
}

// run has the workers do all of it.
func (tr *truth) run(t *testing.T) {
	work := make(chan int)
	var all sync.WaitGroup // ends with work
	for range truthWorkers {
		all.Go(func() {
			for i := range work {
				tr.one(t, i, deedOf(i))
			}
		})
	}
	for _, held := range []bool{true, false} { // first those that show that an upstream lives
		for i := range truthRounds * 50 {
			if (deedOf(i).end == heldOpen) == held {
				work <- i
			}
		}
	}
	close(work)
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// deedOf returns the deed of a client, in an order that mixes them.
func deedOf(i int) deed {
	n := i * 7 % 50
	for _, d := range deeds {
		if n -= d.share; n < 0 {
			return d
		}
	}
	panic("the shares are not 50")
}

var truthProtocols = []testkit.Protocol{testkit.CONNECT11, testkit.SOCKS5, testkit.SOCKS4A}

func (tr *truth) one(t *testing.T, i int, d deed) {
	switch {
	case d.plain:
		tr.get(t, i)
		return
	case d.gone:
		c := testkit.Dial(t, tr.Addr)
		c.Send("CONNECT " + d.host + ":443 HTTP/1.1\r\nHost: " + d.host + ":443\r\n\r\n")
		_ = c.Close()
		return
	}
	c, reply := testkit.Open(t, tr.Addr, testkit.Ask{Protocol: truthProtocols[i%3], Target: d.host + ":443"})
	if reply.OK != (d.outcome == "ok") {
		t.Errorf("%s: %v", d.exchange, reply)
	}
	if !reply.OK {
		_ = c.Close()
		return
	}
	up, down := uint32(truthUp*(1+i%16)), uint32(truthDown*(i%11)) //nolint:gosec // small
	c.Send(string(session(up, down, d.end)))
	if _, err := io.CopyN(io.Discard, c, int64(down)); err != nil {
		t.Errorf("%s: %v", d.exchange, err)
	}
	switch d.end {
	case heldOpen:
		tr.mu.Lock()
		tr.held[d.exchange] = append(tr.held[d.exchange], c)
		tr.mu.Unlock()
		return
	case exchangeEnds:
		c.ExpectEOF()
	}
	c.CloseWrite()
	_, _ = io.Copy(io.Discard, c)
	_ = c.Close()
}

// get is one plain request.
func (tr *truth) get(t *testing.T, i int) {
	c := testkit.Dial(t, tr.Addr)
	c.Send(fmt.Sprintf("GET http://api.kraken.com/large?bytes=%d HTTP/1.1\r\nHost: api.kraken.com\r\nConnection: close\r\n\r\n", 100+i))
	if r := c.ReadHTTP("GET"); r.Status != 200 || len(r.Body) != 100+i {
		t.Errorf("the plain request: %d, %d bytes", r.Status, len(r.Body))
	}
	_ = c.Close()
}

// want is how many clients do what leads to an outcome.
func want(exchange, kind, outcome string) (n int64) {
	for _, d := range deeds {
		if (exchange == "" || d.exchange == exchange) && (kind == "" || d.kind == kind) && (outcome == "" || d.outcome == outcome) {
			n += int64(d.share * truthRounds)
		}
	}
	return n
}

func exchangeOf(host string) string {
	for _, d := range deeds {
		if d.host == host {
			return d.exchange
		}
	}
	return ""
}

// live compares what is open now.
func (tr *truth) live(t *testing.T) {
	t.Helper()
	var s struct{ Active int64 }
	var open int64
	for _, d := range deeds {
		if d.end == heldOpen {
			open += int64(d.share * truthRounds)
		}
	}
	testkit.Eventually(t, testkit.Patience, "only the held tunnels to be open", func() bool {
		if err := json.Unmarshal([]byte(tr.admin(t, tr.socket, "/api/v1/status")), &s); err != nil {
			t.Fatal(err)
		}
		return s.Active == open
	})
}

// counters compares /metrics.
func (tr *truth) counters(t *testing.T) {
	t.Helper()
	m := scrape(t, tr.admin(t, tr.socket, "/metrics"))
	equal := func(what string, got, want int64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: proxyd counts %d, it was %d", what, got, want)
		}
	}
	equal("requests", sumOf(m, "proxyd_requests_total"), truthRounds*50)
	for _, d := range deeds {
		equal(d.exchange+" "+d.kind+" "+d.outcome, sumOf(m, "proxyd_requests_total", "exchange", d.exchange, "kind", d.kind, "outcome", d.outcome), want(d.exchange, d.kind, d.outcome))
		if d.plain || d.outcome != "ok" {
			continue
		}
		seen := tr.m.sum(d.host, "")
		equal(d.exchange+": tunnels", want(d.exchange, d.kind, "ok"), int64(seen.accepted))
		equal(d.exchange+": bytes up", sumOf(m, "proxyd_tunnel_bytes_total", "exchange", d.exchange, "kind", d.kind, "direction", "up"), seen.received)
		equal(d.exchange+": bytes down", sumOf(m, "proxyd_tunnel_bytes_total", "exchange", d.exchange, "kind", d.kind, "direction", "down"), seen.sent)
		equal(d.exchange+": ends", sumOf(m, "proxyd_tunnel_closed_total", "exchange", d.exchange, "kind", d.kind), int64(seen.accepted))
	}
	for l := range tr.m.seen {
		seen, lane := tr.m.sum(l.host, l.upstream), []string{"exchange", exchangeOf(l.host), "kind", "websocket", "upstream", l.upstream}
		sum := func(name string, more ...string) int64 { return sumOf(m, name, append(lane, more...)...) }
		name := l.host + " through " + l.upstream
		equal(name+": tunnels", sum("proxyd_requests_total", "outcome", "ok"), int64(seen.accepted))
		equal(name+": bytes up", sum("proxyd_tunnel_bytes_total", "direction", "up"), seen.received)
		equal(name+": bytes down", sum("proxyd_tunnel_bytes_total", "direction", "down"), seen.sent)
		ended := map[string]int64{"client": int64(seen.closedByThePeer), "exchange": int64(seen.closedHere), "upstream": 0, "proxyd": 0}
		switch l.upstream {
		case "die-1":
			ended = map[string]int64{"upstream": int64(seen.accepted)}
		case "stop-1":
			ended = map[string]int64{"proxyd": int64(seen.accepted)}
		}
		for by, n := range ended {
			equal(name+": closed by "+by, sum("proxyd_tunnel_closed_total", "closed_by", by), n)
		}
		equal(name+": open", sum("proxyd_tunnels_active"), int64(seen.open))
	}
	equal("requests that deny-1 has refused", want("binance_futures", "", ""), int64(len(tr.deny.Asked())))
	equal("plain requests", want("kraken", "http", ""), int64(len(tr.plain.Requests())))
}

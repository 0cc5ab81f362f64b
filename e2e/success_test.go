package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

const target = "api.binance.com:443"

// front is one way for a client to ask.
type front struct {
	name string
	testkit.Ask
}

// fronts are all of them. SOCKS4 proper has no names: its target is an address.
var fronts = []front{
	{"CONNECT 1.1", testkit.Ask{Protocol: testkit.CONNECT11}},
	{"CONNECT 1.0", testkit.Ask{Protocol: testkit.CONNECT10}},
	{"CONNECT with a label", testkit.Ask{Protocol: testkit.CONNECT11, User: "bot-1", Password: "x"}},
	{"SOCKS5", testkit.Ask{Protocol: testkit.SOCKS5}},
	{"SOCKS5 with a label", testkit.Ask{Protocol: testkit.SOCKS5, User: "bot-1", Password: "x"}},
	{"SOCKS4", testkit.Ask{Protocol: testkit.SOCKS4}},
	{"SOCKS4a", testkit.Ask{Protocol: testkit.SOCKS4A}},
}

// granted is each protocol's success, to the byte.
var granted = map[testkit.Protocol]string{
	testkit.CONNECT11: "HTTP/1.1 200 Connection established\r\n\r\n",
	testkit.CONNECT10: "HTTP/1.1 200 Connection established\r\n\r\n",
	testkit.SOCKS5:    "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00",
	testkit.SOCKS4:    "\x00\x5a\x00\x00\x00\x00\x00\x00",
	testkit.SOCKS4A:   "\x00\x5a\x00\x00\x00\x00\x00\x00",
}

// way is a configured way out, and the fake that stands at its end.
type way struct {
	scheme string
	proxy  *testkit.Proxy // nil for direct
	yaml   string         // the way, as the configuration writes it
}

// ways starts a fake of every scheme, with credentials where the scheme has
// any. Each leads every name to exchange.
func ways(t *testing.T, exchange string, early string) []way {
	t.Helper()
	ca := testkit.NewCA(t)
	list := []way{{scheme: "direct", yaml: "direct"}}
	for _, scheme := range []string{"http", "https", "socks4", "socks4a", "socks5", "socks5h"} {
		o := testkit.ProxyOptions{
			Scheme: strings.TrimSuffix(scheme, "h"), User: "us%er", Password: "p@:/ss",
			Hosts: map[string]string{"*": exchange}, Early: early,
		}
		if scheme == "https" {
			o.TLS = ca.Server(t, "127.0.0.1")
		}
		p := testkit.NewProxy(t, o)
		url := p.URL()
		if scheme == "socks5h" {
			url = strings.Replace(url, "socks5", "socks5h", 1)
		}
		if scheme == "https" {
			url = fmt.Sprintf("{url: %q, tls: {ca_file: %q}}", url, ca.File)
		}
		if scheme == "socks4" || scheme == "socks4a" {
			url = strings.Replace(url, ":p%40%3A%2Fss", "", 1)
		}
		if !strings.HasPrefix(url, "{") {
			url = fmt.Sprintf("%q", url)
		}
		list = append(list, way{scheme, p, url})
	}
	return list
}

// targetOf is what a front asks a way for: a name wherever both can carry one
// that nobody here resolves.
func targetOf(f front, w way, exchange string) string {
	switch {
	case f.Protocol == testkit.SOCKS4:
		return exchange
	case w.scheme == "direct" || w.scheme == "socks4": // these have to resolve it
		return "localhost:" + testkit.Port(exchange)
	}
	return target
}

// Promise (data path): every client protocol carries through every kind of
// upstream, and success is reported only after the connection to the target is
// open.
func TestEveryClientProtocolThroughEveryScheme(t *testing.T) {
	echo := testkit.NewTCP(t, testkit.Echo)
	for _, w := range ways(t, echo.Addr, "") {
		p := start(t, loopback+"exchanges: {binance: "+w.yaml+", here: {hosts: [localhost], http: "+w.yaml+"}}\n"+
			"routes: [{hosts: [127.0.0.0/8], use: "+w.yaml+"}]\n")
		for _, f := range fronts {
			t.Run(w.scheme+", "+f.name, func(t *testing.T) {
				ask := f.Ask
				ask.Target = targetOf(f, w, echo.Addr)
				ask.Early = "early bytes"
				c := testkit.Dial(t, p.Addr)
				reply := c.Ask(ask)
				if !reply.OK {
					t.Fatalf("%v\n%s", reply, p.Log)
				}
				if raw := reply.Head + string(reply.Raw); raw != granted[f.Protocol] {
					t.Errorf("the success is %q, want %q", raw, granted[f.Protocol])
				}
				c.Expect("early bytes")
				echoes(t, c, 300_000)
				if w.proxy != nil {
					arrivedWhole(t, w, f, ask.Target)
				}
			})
		}
	}
}

// echoes sends n bytes and a FIN, and wants them all back, and a FIN.
func echoes(t *testing.T, c *testkit.Conn, n int) {
	t.Helper()
	sent := testkit.Pattern(n)
	go func() { // ends when all is sent, or c closed
		_, _ = c.Write(sent)
		c.CloseWrite()
	}()
	got, err := c.ReadAll()
	if err != nil || got != string(sent) {
		t.Errorf("got %d bytes back and %v, want the %d that were sent", len(got), err, n)
	}
}

// arrivedWhole holds that the upstream was asked for the target as the client
// named it, in the scheme's own terms and with the right credentials.
func arrivedWhole(t *testing.T, w way, f front, target string) {
	t.Helper()
	asked := w.proxy.Asked()
	a := asked[len(asked)-1]
	host, port, _ := net.SplitHostPort(target)
	if w.scheme == "socks4" {
		host = "127.0.0.1"
	}
	if a.Host != host || a.Port != port {
		t.Errorf("the upstream was asked for %s:%s, want %s:%s", a.Host, a.Port, host, port)
	}
	isName := net.ParseIP(host) == nil
	if a.Protocol == "socks5" && isName != (a.ATYP == 3) {
		t.Errorf("ATYP %d for %s", a.ATYP, host)
	}
	if w.scheme == "socks4a" && isName && a.Protocol != "socks4a" {
		t.Errorf("asked by %s for the name %s", a.Protocol, host)
	}
	if a.User != "us%er" {
		t.Errorf("user %q", a.User)
	}
	if strings.Contains(a.Head, "bot-1") || a.User == f.User {
		t.Errorf("the client's label reached the upstream: %q", a.Head)
	}
	if a.Protocol == "connect" && !strings.HasPrefix(a.Head, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n") {
		t.Errorf("the head is %q", a.Head)
	}
	if w.scheme == "https" && a.TLS.NegotiatedProtocol == "h2" {
		t.Error("h2 was negotiated")
	}
}

// Some servers speak first, and so may the first bytes of a tunnel come in one
// segment with the upstream's reply.
//
// Promise (data path): no byte that an upstream sends right behind its reply is
// lost.
func TestEarlyBytesOfTheUpstreamAreKept(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	for _, w := range ways(t, echo.Addr, "the server speaks first") {
		if w.proxy == nil {
			continue
		}
		p := start(t, "routes: [{hosts: [127.0.0.0/8], use: "+w.yaml+"}]\n")
		for _, f := range fronts {
			ask := f.Ask
			ask.Target, ask.Early = echo.Addr, "early"
			c, reply := testkit.Open(t, p.Addr, ask)
			if !reply.OK {
				t.Fatalf("%s, %s: %v", w.scheme, f.name, reply)
			}
			c.Expect("the server speaks firstearly")
			_ = c.Close()
		}
	}
}

func TestRepliesThatComeByteByByte(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	for _, scheme := range []string{"http", "socks4a", "socks5"} {
		up := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: scheme, User: "u", Password: "p", Split: true, Early: "hi", Hosts: map[string]string{"*": echo.Addr}})
		url := up.URL()
		if scheme == "socks4a" {
			url = strings.Replace(url, ":p@", "@", 1)
		}
		p := start(t, "default: "+url+"\n")
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
		if !reply.OK {
			t.Fatalf("%s: %v", scheme, reply)
		}
		c.Expect("hi")
		echoes(t, c, 1000)
	}
}

// A half-close is passed on as one, in both directions, and the other direction
// stays open.
//
// Promise (data path): an end of one side reaches the other as a half-close,
// and what has already been sent still arrives.
func TestHalfCloseBothWays(t *testing.T) {
	bye := &testkit.HalfCloser{Greeting: []byte("the server is done")}
	server := testkit.NewTCP(t, bye.Handle)
	ended := 0
	for _, w := range ways(t, server.Addr, "") {
		p := start(t, loopback+"routes: [{hosts: [127.0.0.0/8], use: "+w.yaml+"}]\n")
		for _, f := range fronts {
			ask := f.Ask
			ask.Target = server.Addr
			c, reply := testkit.Open(t, p.Addr, ask)
			if !reply.OK {
				t.Fatalf("%s, %s: %v", w.scheme, f.name, reply)
			}
			c.Expect("the server is done")
			c.ExpectEOF()
			c.Send("the client is not: ")
			c.Send(w.scheme + f.name)
			c.CloseWrite()
			ended++
			testkit.Eventually(t, testkit.Patience, "the server sees the end", func() bool { return len(bye.Ended()) == ended })
			if got := bye.Received()[ended-1]; got != "the client is not: "+w.scheme+f.name {
				t.Errorf("%s, %s: the server got %q", w.scheme, f.name, got)
			}
			if err := bye.Ended()[ended-1]; err != nil {
				t.Errorf("%s, %s: the server saw %v, want a FIN", w.scheme, f.name, err)
			}
		}
	}
}

func TestAResetIsPassedOnAsAReset(t *testing.T) {
	t.Parallel()
	server := testkit.NewTCP(t, testkit.ResetAfter(1))
	rec := &testkit.Recorder{Answer: []byte("hi")}
	recorder := testkit.NewTCP(t, rec.Handle)
	p := start(t, loopback+"default: direct\n")
	c, _ := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: server.Addr})
	c.Send("x")
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the client saw a FIN after the server's reset")
	}
	c, _ = testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: recorder.Addr})
	c.Send("x")
	c.Expect("hi")
	c.Reset()
	testkit.Eventually(t, testkit.Patience, "the server sees the end", func() bool { return len(rec.Ended()) == 1 })
	if rec.Ended()[0] == nil {
		t.Error("the server saw a FIN after the client's reset")
	}
}

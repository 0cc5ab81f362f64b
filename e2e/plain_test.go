package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

const plainURL = "http://api.binance.com/"

func plainGet(path string) string {
	return "GET " + plainURL + path + " HTTP/1.1\r\nHost: api.binance.com\r\nProxy-Connection: keep-alive\r\n\r\n"
}

// Through an HTTP upstream a plain request goes in absolute form, with our
// credentials and without what the client said to us; one connection to it
// carries all of a client's requests to one target.
func TestPlainRequestsAreForwarded(t *testing.T) {
	t.Parallel()
	x := testkit.NewExchange(t)
	ca := testkit.NewCA(t)
	for scheme, o := range map[string]testkit.ProxyOptions{
		"http": {}, "https": {Scheme: "https", TLS: ca.Server(t, "127.0.0.1")},
	} {
		t.Run(scheme, func(t *testing.T) {
			o.User, o.Password, o.Hosts = "lane 1", "p@ss", map[string]string{"*": x.HTTP}
			up := testkit.NewProxy(t, o)
			secured := ""
			if scheme == "https" {
				secured = fmt.Sprintf(", tls: {ca_file: %q}", ca.File)
			}
			p := start(t, fmt.Sprintf("default: {url: %q%s}\n", up.URL(), secured))
			c := testkit.Dial(t, p.Addr)
			for i := range 3 {
				c.Send(plainGet(fmt.Sprintf("status/%d", 400+i)))
				if r := c.ReadHTTP("GET"); r.Status != 400+i {
					t.Fatalf("request %d: %v", i, r)
				}
			}
			c.Send("GET http://api.kraken.com/ HTTP/1.1\r\nHost: api.kraken.com\r\n\r\n")
			if r := c.ReadHTTP("GET"); r.Status != 200 {
				t.Fatal(r)
			}
			if n := up.Accepted(); n != 2 {
				t.Errorf("the upstream saw %d connections, want one for each target", n)
			}
			a := up.Asked()[0]
			if !strings.HasPrefix(a.Head, "GET "+plainURL+"status/400 HTTP/1.1\r\n") || a.User != "lane 1" || a.Password != "p@ss" || a.Header.Get("Proxy-Connection") != "" {
				t.Errorf("the upstream was asked %q", a.Head)
			}
			for _, seen := range x.Requests() {
				if strings.Contains(seen.Head, "Proxy-") {
					t.Errorf("the exchange saw %q", seen.Head)
				}
			}
		})
	}
}

// What must not be sent twice gets a connection that nobody else has used; what
// may be is sent again when a kept connection turns out to have ended.
func TestKeptConnections(t *testing.T) {
	t.Parallel()
	x := testkit.NewExchange(t)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": x.HTTP}})
	p := start(t, "default: "+up.URL()+"\n")
	c := testkit.Dial(t, p.Addr)
	post := "POST " + plainURL + "echo HTTP/1.1\r\nHost: api.binance.com\r\nContent-Length: 5\r\n\r\norder"
	for i, send := range []string{plainGet(""), post, post, plainGet("")} {
		c.Send(send)
		if r := c.ReadHTTP("GET"); r.Status != 200 {
			t.Fatalf("%d: %v", i, r)
		}
	}
	if n := up.Accepted(); n != 3 {
		t.Errorf("the upstream saw %d connections, want 3: two requests were not to be repeated", n)
	}
	p.reload <- struct{}{}
	if p.waitLine(`"type":"reload"`) == "" {
		t.Fatalf("no reload:\n%s", p.Log)
	}
	c.Send(plainGet(""))
	if r := c.ReadHTTP("GET"); r.Status != 200 || up.Accepted() != 3 {
		t.Errorf("after a reload without a change: %v, over %d connections", r, up.Accepted())
	}
	p.apply(t, "default: direct\n")
	testkit.Eventually(t, testkit.Patience, "what the upstream was kept for ends when it is gone", func() bool { return up.Open() == 0 })
}

func TestAKeptConnectionThatEndedIsNoFailure(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	origin := testkit.NewTCP(t, func(c net.Conn) { // ends in the moment of the second request
		b := make([]byte, 4096)
		if _, err := c.Read(b); err == nil {
			_, _ = io.WriteString(c, ok)
			_, _ = c.Read(b)
		}
	})
	p := start(t, loopback+"default: direct\n")
	c := testkit.Dial(t, p.Addr)
	for i := range 10 {
		c.Send("GET http://" + origin.Addr + "/ HTTP/1.1\r\nHost: a\r\n\r\n")
		if r := c.ReadHTTP("GET"); r.Status != 200 {
			t.Fatalf("%d: %v", i, r)
		}
	}
	c.Send("POST http://" + origin.Addr + "/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	if r := c.ReadHTTP("POST"); r.Status != 200 {
		t.Error(r)
	}
}

// An upstream's 407 is for us: the next member serves, or the client is told
// whose fault it is.
func TestAnUpstreams407IsNeverPassedOn(t *testing.T) {
	t.Parallel()
	x := testkit.NewExchange(t)
	bad := testkit.NewProxy(t, testkit.ProxyOptions{User: "other", Password: "x"})
	good := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": x.HTTP}})
	p := start(t, "pools: {asia: {strategy: failover, proxies: [\"http://u:p@"+bad.Addr+"\", "+good.URL()+"]}}\ndefault: asia\n")
	c := testkit.Dial(t, p.Addr)
	c.Send(plainGet(""))
	if r := c.ReadHTTP("GET"); r.Status != 200 {
		t.Errorf("%v", r)
	}
	c.Send("POST " + plainURL + "echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
	r := c.ReadHTTP("POST")
	holds(t, "POST", r, badAuth) // it has been sent once
	if !strings.Contains(r.Body, "407") {
		t.Errorf("the body is %q", r.Body)
	}
}

// A websocket in clear goes by CONNECT; where that is denied, as squid does for
// port 80, in absolute form.
func TestPlainWebsocketThroughAnHTTPUpstream(t *testing.T) {
	t.Parallel()
	x := testkit.NewExchange(t)
	forwarder := testkit.NewProxy(t, testkit.ProxyOptions{User: "u", Password: "p", Hosts: map[string]string{"*": x.HTTP}})
	denier := testkit.NewTCP(t, func(c net.Conn) {
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		if strings.HasPrefix(string(b[:n]), http.MethodConnect) {
			testkit.Answer("403 Forbidden", "only 443")(c)
			return
		}
		f, err := net.Dial("tcp", forwarder.Addr)
		if err != nil {
			return
		}
		defer f.Close()
		_, _ = f.Write(b[:n])
		go func() { _, _ = io.Copy(f, c); testkit.CloseWrite(f) }() // ends with c, which is closed after this
		_, _ = io.Copy(c, f)
	})
	for name, addr := range map[string]string{"CONNECT": forwarder.Addr, "absolute form": denier.Addr} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "default: \"http://u:p@"+addr+"\"\n")
			c := testkit.Dial(t, p.Addr)
			c.Send("GET http://stream.binance.com/echo HTTP/1.1\r\nHost: stream.binance.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
			r := c.ReadHTTP("GET")
			if r.Status != http.StatusSwitchingProtocols || r.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
				t.Fatal(r)
			}
			c.Send("\x81\x85\x00\x00\x00\x00hello") // masked with zeros
			c.Expect("\x81\x05hello")
			asked := forwarder.Asked()
			if want := map[string]string{"CONNECT": "connect", "absolute form": "http"}[name]; asked[len(asked)-1].Protocol != want {
				t.Errorf("asked by %s", asked[len(asked)-1].Protocol)
			}
		})
	}
}

// Connections are kept for one client connection alone: a server that loses
// count of its answers mixes up those of one client.
func TestKeptConnectionsAreNotShared(t *testing.T) {
	t.Parallel()
	x := testkit.NewExchange(t)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": x.HTTP}})
	p := start(t, "default: "+up.URL()+"\n")
	for range 3 {
		c := testkit.Dial(t, p.Addr)
		for range 2 {
			c.Send(plainGet(""))
			if r := c.ReadHTTP("GET"); r.Status != 200 {
				t.Fatal(r)
			}
		}
	}
	if n := up.Accepted(); n != 3 {
		t.Errorf("three clients had %d connections", n)
	}
}

// A pool that is silent leaves places to dial to the others, and plain requests
// count against max_tunnels as tunnels do.
func TestASilentPoolAndTheOthers(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	p := start(t, loopback+"max_tunnels: 300\nexchanges: {binance: {url: \"http://"+testkit.SilentListener(t)+"\", timeout_seconds: 30}}\nroutes: [{hosts: [127.0.0.1], use: direct}]\n")
	for i := range 299 {
		c := testkit.Dial(t, p.Addr)
		if i%2 == 0 {
			c.Send("CONNECT " + target + " HTTP/1.1\r\n\r\n")
		} else {
			c.Send(plainGet(""))
		}
	}
	from := time.Now()
	testkit.Eventually(t, testkit.Patience, "the others are served", func() bool {
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: echo.Addr})
		if !reply.OK {
			_ = c.Close()
			return false
		}
		return true
	})
	if took := time.Since(from); took > 8*time.Second { // far below the silent ones' 30 s
		t.Errorf("after %v", took)
	}
	testkit.Eventually(t, testkit.Patience, "max_tunnels are there", func() bool { // one that is not answered is one of them
		c := testkit.Dial(t, p.Addr)
		c.Send(plainGet(""))
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		b := make([]byte, len("HTTP/1.1 503"))
		_, _ = io.ReadFull(c, b)
		return string(b) == "HTTP/1.1 503"
	})
	full := testkit.Dial(t, p.Addr)
	full.Send(plainGet(""))
	holds(t, "GET", full.ReadHTTP("GET"), overload)
}

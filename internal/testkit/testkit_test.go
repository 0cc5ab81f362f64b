package testkit

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// protocolOf is what a fake of this scheme is asked in.
var protocolOf = map[string]Protocol{"http": CONNECT11, "socks4": SOCKS4, "socks4a": SOCKS4A, "socks5": SOCKS5}

func TestProxiesCarryByNameWithEarlyBytesBothWays(t *testing.T) {
	echo := NewTCP(t, Echo)
	for scheme, protocol := range protocolOf {
		for _, split := range []bool{false, true} {
			p := NewProxy(t, ProxyOptions{
				Scheme: scheme, User: "u", Password: "p", Early: "hello", Split: split,
				Hosts: map[string]string{"api.binance.com": echo.Addr},
			})
			target := "api.binance.com:443"
			if protocol == SOCKS4 {
				target = echo.Addr
			}
			c, r := Open(t, p.Addr, Ask{Protocol: protocol, Target: target, User: "u", Password: "p", Early: "early"})
			if !r.OK {
				t.Fatalf("%s: %v", scheme, r)
			}
			c.Expect("helloearly")
			c.Send("more")
			c.CloseWrite()
			c.Expect("more")
			c.ExpectEOF()
			if a := p.Asked()[0]; net.JoinHostPort(a.Host, a.Port) != target || a.User != "u" {
				t.Errorf("%s was asked for %+v, want %s", scheme, a, target)
			}
		}
	}
}

func TestProxiesRefuse(t *testing.T) {
	closed := ClosedPort(t)
	for scheme, protocol := range protocolOf {
		p := NewProxy(t, ProxyOptions{Scheme: scheme, User: "u", Password: "p", Hosts: map[string]string{"dead.example": closed}})
		unknown, dead := "nowhere.example:443", "dead.example:443"
		if protocol == SOCKS4 {
			unknown, dead = "192.0.2.1:443", closed
		}
		for name, a := range map[string]Ask{
			"wrong user": {Target: dead, User: "x", Password: "p"},
			"no name":    {Target: unknown, User: "u", Password: "p"},
			"no target":  {Target: dead, User: "u", Password: "p"},
		} {
			a.Protocol = protocol
			if _, r := Open(t, p.Addr, a); r.OK || r.Closed {
				t.Errorf("%s, %s: %v", scheme, name, r)
			}
		}
	}
}

func TestFaults(t *testing.T) {
	p := NewProxy(t, ProxyOptions{})
	for name, tc := range map[string]struct {
		fault *Fault
		want  string
	}{
		"close at accept":   {On(AtAccept, Close), ""},
		"close at request":  {On(AtRequest, Close), ""},
		"banner":            {On(AtAccept, Say("SSH-2.0-x\r\n")), "SSH-2.0-x\r\n"},
		"drip":              {On(AtRequest, Drip("abc", time.Millisecond)), "abc"},
		"endless":           {On(AtRequest, Endless("HTTP/1.1 200 OK\r\n", "X: y\r\n")), "HTTP/1.1 200 OK\r\nX: y\r\nX: y"},
		"an answer":         {On(AtRequest, Answer("429 Slow", "no", "Retry-After: 7")), "HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"},
		"socks reply":       {On(AtRequest, SOCKS5Reply(3)), "\x05\x03\x00\x01"},
		"reset at once":     {On(AtAccept, ResetAfter(0)), ""},
		"half a head, hang": {On(AtRequest, SayAndHang("HTTP/1.1 2")), "HTTP/1.1 2"},
	} {
		t.Run(name, func(t *testing.T) {
			p.SetFault(tc.fault)
			if tc.want == "" {
				saysNothing(t, p.Addr)
				return
			}
			c := Dial(t, p.Addr)
			c.Send("CONNECT a:1 HTTP/1.1\r\n\r\n")
			c.Expect(tc.want)
		})
	}
}

// saysNothing wants a peer that ends without a word. A reset may come before
// connect has returned, which then fails with it; so Dial is of no use here.
func saysNothing(t *testing.T, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, Patience)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(Patience))
	_, _ = io.WriteString(c, "CONNECT a:1 HTTP/1.1\r\n\r\n")
	if got, err := io.ReadAll(c); len(got) > 0 || isTimeout(err) {
		t.Errorf("got %q and %v", got, err)
	}
}

func TestExchangeThroughAProxy(t *testing.T) {
	x := NewExchange(t)
	p := NewProxy(t, ProxyOptions{Scheme: "https", TLS: x.CA.Server(t), Hosts: map[string]string{"*": x.TLS}})
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
		d := tls.Dialer{Config: &tls.Config{RootCAs: x.CA.Pool}}
		c, err := d.DialContext(ctx, "tcp", p.Addr)
		if err != nil {
			return nil, err
		}
		_, _ = io.WriteString(c, "CONNECT "+addr+" HTTP/1.1\r\n\r\n")
		_, err = io.ReadFull(c, make([]byte, len("HTTP/1.1 200 OK\r\n\r\n")))
		return c, err
	}
	client := x.Client(dial)
	for path, want := range map[string]string{
		"/": "ok", "/large?bytes=100000": string(Pattern(100000)), "/stream": "chunk 1\nchunk 2\nchunk 3\n",
		"/status/451": "the exchange says 451", "/slow": "ok", "/trailers": "body with a trailer",
	} {
		resp, err := client.Get("https://api.binance.com" + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || string(b) != want {
			t.Errorf("%s: got %d bytes, %v", path, len(b), err)
		}
		resp.Body.Close()
	}
	resp, err := client.Get("https://api.binance.com/close")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("/close: got all of %q", b)
	}
	resp.Body.Close()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss://stream.binance.com/ticker?n=2", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		_, msg, err := ws.Read(ctx)
		if err != nil {
			break
		}
		got = append(got, string(msg))
	}
	if d := cmp.Diff([]string{`{"seq":1}`, `{"seq":2}`}, got); d != "" {
		t.Error(d)
	}
	if a := p.Asked()[0]; a.TLS == nil || a.Host != "api.binance.com" {
		t.Errorf("asked %+v", a)
	}
	if s := x.Requests()[0]; s.SNI != "api.binance.com" {
		t.Errorf("seen %+v", s)
	}
}

func TestAbsoluteFormThroughAProxy(t *testing.T) {
	x := NewExchange(t)
	p := NewProxy(t, ProxyOptions{Hosts: map[string]string{"*": x.HTTP}})
	c := Dial(t, p.Addr)
	for range 2 {
		c.Send("POST http://a.example/echo HTTP/1.1\r\nHost: a.example\r\nX-A: 1\r\nContent-Length: 4\r\n\r\nbody")
		if r := c.ReadHTTP("POST"); r.Body != "body" {
			t.Fatal(r)
		}
	}
	if seen := x.Requests(); len(seen) != 2 || !strings.Contains(seen[1].Head, "POST /echo HTTP/1.1\r\n") || seen[1].Host != "a.example" {
		t.Errorf("seen %+v", seen)
	}
	ws, _, err := websocket.Dial(t.Context(), "ws://"+x.HTTP+"/echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = ws.CloseNow()
}

func TestAddresses(t *testing.T) {
	if _, err := net.DialTimeout("tcp", ClosedPort(t), time.Second); err == nil || isTimeout(err) {
		t.Errorf("a closed port: %v", err)
	}
	c, err := net.DialTimeout("tcp", SilentListener(t), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if _, err := net.DialTimeout("tcp", BlackHole(t), 200*time.Millisecond); !isTimeout(err) {
		t.Errorf("a black hole: %v", err)
	}
}

func TestServers(t *testing.T) {
	t.Run("half-closer", func(t *testing.T) {
		h := &HalfCloser{Greeting: []byte("bye")}
		c := Dial(t, NewTCP(t, h.Handle).Addr)
		c.Expect("bye")
		c.ExpectEOF()
		c.Send("still here")
		c.CloseWrite()
		Eventually(t, Patience, "the end", func() bool { return len(h.Ended()) == 1 })
		if d := cmp.Diff([]string{"still here"}, h.Received()); d != "" {
			t.Error(d)
		}
	})
	t.Run("reset", func(t *testing.T) {
		c := Dial(t, NewTCP(t, ResetAfter(1)).Addr)
		c.Send("x")
		if _, err := c.ReadAll(); err == nil {
			t.Error("a FIN, want a reset")
		}
	})
	t.Run("source", func(t *testing.T) {
		c := Dial(t, NewTCP(t, Source(70_000)).Addr)
		if got, err := c.ReadAll(); err != nil || got != string(Pattern(70_000)) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	})
	t.Run("stall", func(t *testing.T) {
		s := NewTCP(t, Stall)
		Dial(t, s.Addr).Send("x")
		Eventually(t, Patience, "accept", func() bool { return s.Open() == 1 })
	})
}

func TestResourcesComeBack(t *testing.T) {
	before := Count()
	c, err := net.Dial("tcp", SilentListener(t))
	if err != nil {
		t.Fatal(err)
	}
	if Count().FDs <= before.FDs {
		t.Error("a connection is no descriptor")
	}
	_ = c.Close()
	before.WaitBack(t, 1) // the listener is open still
}

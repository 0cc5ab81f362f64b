package inbound

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/testkit"
	"proxyd/internal/transparent"
	"proxyd/internal/tunnel"
)

// withTransparent is a listener in the configuration: only then the connections that
// proxyd opens are kept for the loop check.
const withTransparent = "listen: [127.0.0.1:8877, {address: \"127.0.0.1:8879\", transparent: true}]\n"

// startRedirected serves a configuration as a transparent listener, whose clients had
// all connected to one address.
func startRedirected(t testing.TB, text, to string, change ...func(*front)) *front {
	t.Helper()
	f := newFront(t, withTransparent+text)
	f.listener.Transparent = true
	f.server.opts.Destination = func(*net.TCPConn) (netip.AddrPort, error) { return netip.MustParseAddrPort(to), nil }
	for _, do := range change {
		do(f)
	}
	f.serve()
	return f
}

// within shortens the time of the handshake.
func within(d time.Duration) func(*front) { return func(f *front) { f.server.handshake = d } }

// elsewhere returns an address that nothing has, with the port of addr.
func elsewhere(t testing.TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("203.0.113.7", port)
}

// helloTo returns the ClientHello of a Go client.
func helloTo(t testing.TB, name string) string {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() { _ = tls.Client(near, &tls.Config{ServerName: name}).Handshake() }() // ends with far
	b := make([]byte, 16<<10)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// awaitReset reads until the end, which has to be a reset without a byte before it.
func awaitReset(t testing.TB, conn net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(conn); len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q and %v, want a reset", b, err)
	}
}

// awaitRefusal connects, says nothing, and waits for a reset, which may come before the
// client's connect has returned.
func awaitRefusal(t testing.TB, f *front) {
	t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	awaitReset(t, conn)
}

// greeting is a server that speaks first.
func greeting(t testing.TB) string {
	return listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 ready\r\n")
		_, _ = io.Copy(c, c)
	})
}

// Promise (data path): A redirected connection reaches the host that its first bytes name, and they arrive there unaltered
func TestRedirectedConnectionGoesWhereItsFirstBytesSay(t *testing.T) {
	t.Parallel()
	server := echo(t)
	f := startRedirected(t, "default: reject\nroutes: [{hosts: [localhost], use: direct}]", elsewhere(t, server))
	for name, send := range map[string]string{
		"TLS":              helloTo(t, "localhost"),
		"plain HTTP":       "GET /a?b HTTP/1.1\r\nHost: localhost:1\r\nProxy-Connection: keep-alive\r\n\r\nmore",
		"TLS in big bytes": helloTo(t, "LOCALHOST."),
	} {
		conn := f.dial()
		write(t, conn, send)
		if got := readN(t, conn, len(send)); got != send {
			t.Errorf("%s: got %q, want %q", name, got, send)
		}
		conn.Close()
	}
	r := f.await("a tunnel", func(r tunnel.Record) bool { return r.Event == tunnel.Ended })
	if r.Protocol != tunnel.Transparent || r.Host != "localhost" || elsewhere(t, server) != net.JoinHostPort("203.0.113.7", portOf(r.Port)) || !strings.Contains(r.Rule, "routes[0]") {
		t.Errorf("recorded %+v", r.Opening)
	}
}

func portOf(p uint16) string {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), p).String()[len("0.0.0.0:"):]
}

func TestRedirectedHelloSplitAtEveryByte(t *testing.T) {
	t.Parallel()
	server := echo(t)
	f := startRedirected(t, "default: reject\nroutes: [{hosts: [localhost], use: direct}]", elsewhere(t, server))
	hello := helloTo(t, "localhost")
	conn := f.dial()
	for i := range len(hello) {
		write(t, conn, hello[i:i+1])
	}
	if got := readN(t, conn, len(hello)); got != hello {
		t.Errorf("got %q, want %q", got, hello)
	}
}

// Promise (data path): A redirected connection whose destination a CIDR of routes lists, or a name server of proxyd has made up, is not kept waiting for its client to speak
func TestRedirectedServerSpeaksFirst(t *testing.T) {
	t.Parallel()
	server := greeting(t)
	t.Run("CIDR", func(t *testing.T) {
		t.Parallel()
		f := startRedirected(t, "default: reject\nroutes: [{hosts: [127.0.0.0/8], use: direct}]", server)
		if got := readN(t, f.dial(), 11); got != "220 ready\r\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("name", func(t *testing.T) {
		t.Parallel()
		_, port, _ := net.SplitHostPort(server)
		f := startRedirected(t, "default: reject\nroutes: [{hosts: [localhost], use: direct}]", net.JoinHostPort("198.18.0.5", port), func(f *front) {
			f.server.opts.NameOf = func(ip netip.Addr) (string, bool) { return "localhost", ip.String() == "198.18.0.5" }
		})
		if got := readN(t, f.dial(), 11); got != "220 ready\r\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("nothing for the time of the handshake", func(t *testing.T) {
		t.Parallel()
		f := startRedirected(t, "default: direct\nallow_private: [127.0.0.0/8]", server, within(50*time.Millisecond))
		if got := readN(t, f.dial(), 11); got != "220 ready\r\n" {
			t.Errorf("got %q", got)
		}
	})
}

// Promise (security): A redirected connection without a name is refused where any rule is not direct: it does not go direct because its name is hidden
func TestRedirectedConnectionWithoutAName(t *testing.T) {
	t.Parallel()
	const text = "default: direct\nexchanges: {binance: \"http://127.0.0.1:1\"}"
	for name, tt := range map[string]struct{ send, why string }{
		"no server name":     {helloTo(t, "203.0.113.7"), "its ClientHello has no server name"},
		"neither":            {"\x00\x00\x00\x08\x04\xd2\x16\x2f", "its first bytes are neither TLS nor HTTP"},
		"an endless hello":   {"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + strings.Repeat("\x00", 35) + "\x3f\xd0" + strings.Repeat("\x00", transparent.MaxFirst), "its ClientHello has not come whole"},
		"nothing":            {"", "its client has sent nothing"},
		"a hello cut in two": {helloTo(t, "stream.binance.com")[:60], "its ClientHello has not come whole"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startRedirected(t, text, "203.0.113.7:443", within(300*time.Millisecond))
			conn := f.dial()
			write(t, conn, tt.send)
			awaitReset(t, conn)
			r := f.refused(failure.Denied)
			if want := "target 203.0.113.7 has no name: " + tt.why; r.Text != want || r.Hint != "list the CIDR under routes" || r.Protocol != tunnel.Transparent {
				t.Errorf("got %q, hint %q, protocol %q; want %q", r.Text, r.Hint, r.Protocol, want)
			}
		})
	}
}

func TestRedirectedRefusals(t *testing.T) {
	t.Parallel()
	f := startRedirected(t, "default: reject", "203.0.113.7:80")
	conn := f.dial()
	write(t, conn, helloTo(t, "a.example"))
	awaitReset(t, conn)
	if r := f.refused(failure.Denied); r.Host != "a.example" {
		t.Errorf("recorded %+v", r.Opening)
	}
	resp, body := answerOf(t, f.say("GET / HTTP/1.1\r\nHost: b.example\r\n\r\n"))
	checkRefusal(t, resp, body, "denied")
	if got := f.say("HEAD / HTTP/1.1\r\nHost: b.example\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 403 ") || !strings.HasSuffix(got, "\r\n\r\n") {
		t.Errorf("HEAD: %q", got)
	}
	resp, body = answerOf(t, f.say("GET http://b.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n"))
	checkRefusal(t, resp, body, "denied")
	if !strings.Contains(body, "its request is one to a proxy") {
		t.Errorf("got %q", body)
	}
}

// TestRedirectedNameThatIsNone holds that nothing is opened for it, and that a password in
// it is in no answer and no record.
func TestRedirectedNameThatIsNone(t *testing.T) {
	t.Parallel()
	f := startRedirected(t, "default: direct", "203.0.113.7:80")
	conn := f.dial()
	write(t, conn, helloTo(t, "a example"))
	awaitReset(t, conn)
	if r := f.refused(failure.BadRequest); r.Host != "203.0.113.7" || r.Text != `host "a example" has a space in it` {
		t.Errorf("recorded %+v", r)
	}
	resp, body := answerOf(t, f.say("GET / HTTP/1.1\r\nHost: user:secret@b.example\r\n\r\n"))
	checkRefusal(t, resp, body, "bad_request")
	r := f.await("user information", func(r tunnel.Record) bool { return strings.Contains(r.Text, "user") })
	if all := fmt.Sprintf("%+v %+v %s", r, resp.Header, body); strings.Contains(all, "secret") || r.Class != failure.BadRequest {
		t.Error(all)
	}
}

// TestRedirectedAddressInTheFirstBytes holds that a client cannot have another address
// than the one it connects to by naming it.
func TestRedirectedAddressInTheFirstBytes(t *testing.T) {
	t.Parallel()
	f := startRedirected(t, "default: reject\nroutes: [{hosts: [127.0.0.0/8], use: direct}]", "203.0.113.7:80")
	_, body := answerOf(t, f.say("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
	if !strings.Contains(body, "target 203.0.113.7 is refused") || !strings.Contains(body, "its first bytes have an address in place of one") {
		t.Errorf("got %q", body)
	}
}

// Promise (security): A redirected connection that would go round is refused: proxyd's own, one to proxyd or to an upstream, and one that was not redirected
func TestRedirectedLoops(t *testing.T) {
	t.Parallel()
	loop := func(t *testing.T, f *front, why string) {
		t.Helper()
		f.await(why, func(r tunnel.Record) bool {
			return r.Event == tunnel.Refused && strings.HasPrefix(r.Text, "proxy_loop_detected: ") && strings.Contains(r.Text, why) && r.Class == failure.Denied
		})
	}
	t.Run("its own connection", func(t *testing.T) {
		t.Parallel()
		f := newFront(t, withTransparent+"default: reject\nroutes: [{hosts: [127.0.0.0/8], use: direct}]")
		f.listener.Transparent = true
		f.server.opts.Destination = func(c *net.TCPConn) (netip.AddrPort, error) { return c.LocalAddr().(*net.TCPAddr).AddrPort(), nil }
		f.serve()
		conn := f.dial()
		loop(t, f, "proxyd itself has opened it, to "+f.addr)
		if _, err := io.ReadAll(conn); err == nil { // the first one is a tunnel, whose other end was reset
			t.Error("the client sees an orderly end")
		}
	})
	t.Run("to an upstream", func(t *testing.T) {
		t.Parallel()
		f := startRedirected(t, "default: \"http://203.0.113.7:3128\"", "203.0.113.7:3128")
		awaitRefusal(t, f)
		loop(t, f, "its destination 203.0.113.7:3128 is the upstream ")
	})
	t.Run("to an upstream, by the name of its URL", func(t *testing.T) {
		t.Parallel()
		const text = "default: \"http://proxy.example:3128\""
		f := startRedirected(t, text, "203.0.113.7:3128")
		conn := f.dial()
		write(t, conn, helloTo(t, "Proxy.Example."))
		awaitReset(t, conn)
		loop(t, f, "its destination proxy.example:3128 is the upstream ")
		f = startRedirected(t, text, "198.18.1.0:3128", func(f *front) {
			f.server.opts.NameOf = func(netip.Addr) (string, bool) { return "proxy.example", true }
		})
		awaitRefusal(t, f)
		loop(t, f, "its destination proxy.example:3128 is the upstream ")
	})
	t.Run("not redirected", func(t *testing.T) {
		t.Parallel()
		f := startFront(t, withTransparent+"default: reject", func(l *config.Listener) { l.Transparent = true })
		awaitRefusal(t, f)
		loop(t, f, "not redirected here")
		resp, body := answerOf(t, f.say("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"))
		checkRefusal(t, resp, body, "denied")
	})
}

func TestRedirectedAllow(t *testing.T) {
	t.Parallel()
	f := startRedirected(t, "default: reject", "203.0.113.7:443", func(f *front) { f.listener.Allow = prefixes("10.0.0.0/8") })
	awaitRefusal(t, f)
	if r := f.refused(failure.Denied); !strings.Contains(r.Text, "is not on this listener's list") {
		t.Errorf("got %q", r.Text)
	}
}

// TestRedirectedClientEndsItsSideEarly holds that a client which has said all is not
// taken for one that has left while its tunnel is being opened.
func TestRedirectedClientEndsItsSideEarly(t *testing.T) {
	t.Parallel()
	proxy := listen(t, func(c net.Conn) {
		readHeadOf(t, c)
		time.Sleep(5 * watchAfter)
		_, _ = io.WriteString(c, established)
		_, _ = io.Copy(c, c)
	})
	f := startRedirected(t, "default: \"http://"+proxy+"\"", "203.0.113.7:80")
	const request = "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n"
	conn := f.dial()
	write(t, conn, request)
	_ = conn.CloseWrite()
	if got := readAll(t, conn); got != request {
		t.Errorf("got %q, want %q", got, request)
	}
}

// TestRedirectedClientEndsItsSideAndIsRefused holds that such a client gets its answer, or
// its reset, also where an answer is slow.
func TestRedirectedClientEndsItsSideAndIsRefused(t *testing.T) {
	t.Parallel()
	f := startRedirected(t, "default: reject", "203.0.113.7:80")
	slow := false
	for range 40 { // identical refusals are answered at once so many times in a second
		before := time.Now()
		conn := f.dial()
		write(t, conn, "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
		_ = conn.CloseWrite()
		resp, body := answerOf(t, readAll(t, conn))
		checkRefusal(t, resp, body, "denied")
		if slow = time.Since(before) > 200*time.Millisecond; slow {
			break
		}
	}
	if !slow {
		t.Error("no answer was slow")
	}
}

// TestRedirectedClientResets holds that nothing is opened for a client which has reset
// its connection in the middle of its first bytes.
func TestRedirectedClientResets(t *testing.T) {
	t.Parallel()
	var asked, accepted atomic.Int32
	proxy := listen(t, func(net.Conn) { asked.Add(1) })
	f := startRedirected(t, "default: \"http://"+proxy+"\"", "203.0.113.7:443", func(f *front) {
		f.server.opts.Accepted = func(string) { accepted.Add(1) }
	})
	const clients = 20
	hello := helloTo(t, "a.example")[:60]
	for range clients {
		conn := f.dial()
		write(t, conn, hello)
		time.Sleep(time.Millisecond) // of most, these bytes are read before the reset
		_ = conn.SetLinger(0)
		conn.Close()
	}
	testkit.Eventually(t, 5*time.Second, "the clients have left", func() bool { return accepted.Load() == clients && f.server.Idle() })
	if n := asked.Load(); n > 0 {
		t.Errorf("%d connections to the upstream", n)
	}
}

func FuzzTransparent(f *testing.F) {
	front := newFront(f, withTransparent+rejecting)
	front.listener.Transparent = true
	var calls atomic.Uint32
	front.server.opts.Destination = func(*net.TCPConn) (netip.AddrPort, error) { // another one for each: what is refused again is answered slowly
		n := calls.Add(1)
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, byte(n >> 16), byte(n >> 8), byte(n)}), 443), nil
	}
	front.serve()
	f.Add([]byte(helloTo(f, "a.example")), uint16(100))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), uint16(20))
	f.Add([]byte("SSH-2.0-x\r\n"), uint16(3))
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		if len(b) > 0 && (b[0] == 4 || b[0] == 5) {
			b = bytes.Clone(b)
			b[0] = 0x16 // not SOCKS here
		}
		checkAnswers(t, front, b, at)
	})
}

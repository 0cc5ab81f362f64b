package inbound

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
)

func TestFirstByte(t *testing.T) {
	tests := []struct {
		name, send, answer, record string
	}{
		{"HTTP-26 TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 500), "HTTP/1.1 400 proxyd: bad_request: this port speaks plain HTTP, use http:// in the proxy URL\r\n", "plain HTTP"},
		{"HTTP-26 NUL", "\x00", "", "first byte 0x00"},
		{"HTTP-26 SOCKS6", "\x06\x00", "", "first byte 0x06"},
		{"HTTP-26 ssh", "SSH-2.0-OpenSSH_9.9\r\n", "HTTP/1.1 400 proxyd: bad_request: ", "SSH-2.0"},
		{"line end", "\r\n", "", "first byte 0x0d"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFront(t, local, nil)
			start := time.Now()
			conn := f.dial()
			write(t, conn, tt.send)
			got, _ := io.ReadAll(conn) // an end or a reset, as it comes
			if !strings.HasPrefix(string(got), tt.answer) || tt.answer == "" && len(got) > 0 {
				t.Errorf("got %q", got)
			}
			conn.Close()
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %v: it waited for more bytes", took)
			}
			if r := f.refused(failure.BadRequest); !strings.Contains(r.Text, tt.record) {
				t.Errorf("recorded %q", r.Text)
			}
		})
	}
}

func TestAllowList(t *testing.T) {
	only := func(l *config.Listener) { l.Allow = prefixes("203.0.113.0/24") }
	here := func(l *config.Listener) { l.Allow = prefixes("203.0.113.0/24", "127.0.0.0/8") }
	target := echo(t)
	if got := readN(t, dialAndSay(t, startFront(t, local, here), connectTo(target)), len(established)); got != established {
		t.Errorf("allowed: %q", got)
	}
	f := startFront(t, local, only)
	resp, body := answerOf(t, f.say(connectTo(target)))
	checkRefusal(t, resp, body, "denied")
	if resp.StatusCode != 403 || !strings.Contains(body, "127.0.0.1") {
		t.Errorf("got %s, %q", resp.Status, body)
	}
	if got := f.say("\x05\x01\x00"); got != "\x05\xff" {
		t.Errorf("SOCKS5: %q", got)
	}
	if got := f.say("\x04\x01\x00\x50\x7f\x00\x00\x01\x00"); got != string(socks4Refused) {
		t.Errorf("SOCKS4: %q", got)
	}
}

// RES-07, with and without early bytes; RES-06 for the reset.
func TestClientLeavesWhileDialling(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn){
		"end":                   func(c *net.TCPConn) { c.Close() },
		"half-close":            func(c *net.TCPConn) { c.CloseWrite() },
		"reset":                 func(c *net.TCPConn) { _ = c.SetLinger(0); c.Close() },
		"end behind early data": func(c *net.TCPConn) { _, _ = io.WriteString(c, "EARLY"); c.Close() },
	} {
		for protocol, request := range map[string]string{
			"connect": connectTo("a.example:443"),
			"socks5":  "\x05\x01\x00\x05\x01\x00\x03\x09a.example\x01\xbb",
			"socks4":  "\x04\x01\x01\xbb\x00\x00\x00\x01\x00a.example\x00",
			"upgrade": "GET ws://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			"http":    "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
		} {
			if protocol == "http" && name == "end behind early data" {
				continue // a pipelined request: the answer to the first is still owed
			}
			t.Run(name+" "+protocol, func(t *testing.T) {
				yaml, asked := silentUpstream(t)
				f := startFront(t, yaml, nil)
				conn := f.dial()
				write(t, conn, request)
				<-asked
				start := time.Now()
				leave(conn)
				r := f.refused(failure.ClientGone)
				if took := time.Since(start); took > time.Second {
					t.Errorf("noticed after %v", took)
				}
				if r.Label != "" || r.Host != "a.example" {
					t.Errorf("recorded %+v", r)
				}
			})
		}
	}
}

func TestSlowClients(t *testing.T) {
	t.Parallel()
	f := startFront(t, local, nil)
	tests := []struct{ name, text, answer string }{
		{"RES-02 nothing", "", ""},
		{"RES-03 half a head", "CONNECT a.example:443 HTTP/1.1\r\nHost: ", "HTTP/1.1 408 proxyd: bad_request: "},
		{"half a request line", "CONN", "HTTP/1.1 408 proxyd: bad_request: "},
		{"SOCK-18 greeting", "\x05\x01\x00", "\x05\x00"},
		{"SOCK-18 version", "\x05", ""},
		{"SOCK-18 methods", "\x05\xfe\x00", ""},
		{"half a SOCKS4", "\x04\x01\x00\x50\x7f\x00\x00\x01me", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conn := f.dial()
			start := time.Now()
			conn.SetDeadline(start.Add(15 * time.Second))
			stop := make(chan struct{})
			defer close(stop)
			write(t, conn, tt.text)
			if strings.HasPrefix(tt.name, "RES-03") { // a byte now and then buys no time
				go drip(conn, stop)
			}
			got, err := io.ReadAll(conn)
			if err != nil && !strings.HasPrefix(tt.name, "RES-03") {
				t.Errorf("%v", err)
			}
			if took := time.Since(start); took < 9*time.Second || took > 13*time.Second {
				t.Errorf("ended after %v", took)
			}
			if !strings.HasPrefix(string(got), tt.answer) || tt.answer == "" && len(got) > 0 {
				t.Errorf("got %q", got)
			}
		})
	}
}

func drip(c net.Conn, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(500 * time.Millisecond):
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
		}
	}
}

func TestPanicEndsOneConnectionAlone(t *testing.T) {
	f := newFront(t, local)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	first := true
	settings := func() config.Listener {
		f.mu.Lock()
		defer f.mu.Unlock()
		if first {
			first = false
			panic("for the test")
		}
		return f.listener
	}
	served := make(chan error)
	go func() { served <- f.server.Serve(ln, settings) }()
	if conn, err := net.Dial("tcp", f.addr); err == nil { // the reset may come at once
		if got, err := io.ReadAll(conn); err == nil || len(got) > 0 {
			t.Errorf("got %q, %v", got, err)
		}
		conn.Close()
	}
	if got := f.say("GET / HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("the next one got %q", got)
	}
	ln.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	f.server.Close()
	if len(f.panics) != 1 || f.panics[0] != "for the test" {
		t.Errorf("reported %v", f.panics)
	}
}

func TestCloseResetsHandshakes(t *testing.T) {
	yaml, asked := silentUpstream(t)
	f := newFront(t, yaml)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	served := make(chan error)
	go func() { served <- f.server.Serve(ln, f.settings) }()
	idle, half, dialling := f.dial(), f.dial(), f.dial()
	write(t, half, "CONN")
	write(t, dialling, connectTo("a.example:443"))
	<-asked
	plain := f.dial()
	write(t, plain, "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n")
	<-asked
	ln.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	done := make(chan struct{})
	go func() { f.server.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("Close does not end")
	}
	for name, c := range map[string]net.Conn{"idle": idle, "half a head": half, "dialling": dialling} {
		if b, err := io.ReadAll(c); err == nil {
			t.Errorf("%s: got %q and an orderly end, want a reset", name, b)
		}
	}
	if b, err := io.ReadAll(plain); err == nil && len(b) == 0 {
		t.Error("plain HTTP: an end without an answer")
	}
}

func dialAndSay(t *testing.T, f *front, text string) net.Conn {
	t.Helper()
	conn := f.dial()
	write(t, conn, text)
	return conn
}

// silentUpstream takes CONNECT requests and answers none.
func silentUpstream(t testing.TB) (yaml string, asked chan struct{}) {
	asked = make(chan struct{}, 16)
	addr := listen(t, func(c net.Conn) {
		asked <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
	})
	return "default: {url: 'http://" + addr + "', timeout_seconds: 30}\n", asked
}

package inbound

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/testkit"
)

// slowProxy is an HTTP upstream that takes its time for each CONNECT, denies
// deniedHost, and plays every target: it answers a GET with 200, an upgrade of
// /ws with 101 and one of another path with 403, and echoes the rest.
func slowProxy(t testing.TB, slow time.Duration) string {
	return listen(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		request, err := readRequestHead(r)
		if err != nil {
			return
		}
		time.Sleep(slow)
		if strings.Contains(request, deniedHost) {
			_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
			return
		}
		if strings.HasPrefix(request, "GET ") {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		first, _ := r.Peek(1)
		if string(first) != "G" {
			_, _ = io.Copy(c, r)
			return
		}
		switch request, _ = readRequestHead(r); {
		case strings.HasPrefix(request, "GET /ws "):
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			_, _ = io.Copy(c, r)
		default:
			_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		}
	})
}

const deniedHost = "denied.example"

func readRequestHead(r *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String(), err
		}
	}
}

// An answer must not be written under the deadline of the request.
//
// Promise (data path): a client gets its answer however long it took over its
// request, and the upstream over its reply, within the time that each may take,
// in every protocol.
func TestAnswerOutlivesHandshakeDeadline(t *testing.T) {
	t.Parallel()
	const handshake, head, slow = 1500 * time.Millisecond, 100 * time.Millisecond, 1500 * time.Millisecond
	f := newFront(t, "default: {url: \"http://"+slowProxy(t, slow)+"\", timeout_seconds: 30}\n")
	f.server.handshake = handshake
	f.serve()
	certFile, keyFile, pool := certificate(t)
	overTLS := newFront(t, "default: {url: \"http://"+slowProxy(t, slow)+"\", timeout_seconds: 30}\n")
	overTLS.server.handshake = handshake
	overTLS.listener.TLSCert, overTLS.listener.TLSKey = certFile, keyFile
	overTLS.serve()

	name := func(host string) string { return "\x03" + string(rune(len(host))) + host + "\x01\xbb" }
	upgrade := func(host, path string) string {
		return "GET ws://" + host + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	}
	for protocol, c := range map[string]struct{ greeting, greeted, request, answer string }{
		"CONNECT":              {"", "", connectTo("a.example:443"), established},
		"CONNECT, refused":     {"", "", connectTo(deniedHost + ":443"), "HTTP/1.1 502 proxyd: target_unreachable: "},
		"SOCKS5":               {"\x05\x01\x00", "\x05\x00", "\x05\x01\x00" + name("a.example"), "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		"SOCKS5, refused":      {"\x05\x01\x00", "\x05\x00", "\x05\x01\x00" + name(deniedHost), "\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00"},
		"SOCKS4a":              {"", "", "\x04\x01\x01\xbb\x00\x00\x00\x01me\x00a.example\x00", string(socks4Granted)},
		"SOCKS4a, refused":     {"", "", "\x04\x01\x01\xbb\x00\x00\x00\x01me\x00" + deniedHost + "\x00", string(socks4Refused)},
		"upgrade":              {"", "", upgrade("a.example", "/ws"), "HTTP/1.1 101 "},
		"upgrade, not granted": {"", "", upgrade("a.example", "/no"), "HTTP/1.1 403 Forbidden\r\n"},
		"upgrade, refused":     {"", "", upgrade(deniedHost, "/ws"), "HTTP/1.1 502 proxyd: target_unreachable: "},
		"plain HTTP":           {"", "", "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
	} {
		for _, f := range []*front{f, overTLS} {
			t.Run(fmt.Sprintf("%s, TLS %t", protocol, f == overTLS), func(t *testing.T) {
				t.Parallel()
				var conn net.Conn = f.dial()
				if f == overTLS {
					conn = tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
				}
				write(t, conn, c.greeting)
				if got := readN(t, conn, len(c.greeted)); got != c.greeted {
					t.Fatalf("greeted with %q, want %q", got, c.greeted)
				}
				write(t, conn, c.request[:3])
				time.Sleep(head)
				write(t, conn, c.request[3:])
				if got := readN(t, conn, len(c.answer)); got != c.answer {
					t.Errorf("got %q, want %q", got, c.answer)
				}
			})
		}
	}
}

func TestAuthenticationAnswersSayWhetherTheyAreTheLast(t *testing.T) {
	t.Parallel()
	f := startFront(t, "default: reject", func(l *config.Listener) { l.Users = []config.User{{Name: "a", Password: config.NewSecret("b")}} })
	const wanted = 16
	conn := f.dial()
	for i := 1; i <= wanted; i++ {
		write(t, conn, connectTo("h.example:443"))
		resp, _ := answerOf(t, readHeadAndBody(t, conn))
		if last := resp.Close; resp.StatusCode != 407 || last != (i == wanted) {
			t.Errorf("answer %d: status %d, close %v", i, resp.StatusCode, last)
		}
	}
	if rest := readAll(t, conn); rest != "" {
		t.Errorf("behind the last: %q", rest)
	}
	for name, request := range map[string]string{
		"HTTP/1.0":          "CONNECT h.example:443 HTTP/1.0\r\n\r\n",
		"Connection: close": "CONNECT h.example:443 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
	} {
		if resp, _ := answerOf(t, f.say(request)); resp.StatusCode != 407 || !resp.Close {
			t.Errorf("%s: status %d, close %v", name, resp.StatusCode, resp.Close)
		}
	}
}

func TestEachConnectionIsReportedOnceByItsProtocol(t *testing.T) {
	t.Parallel()
	f := newFront(t, "default: reject")
	var mu sync.Mutex
	var spoken []string
	f.server.opts.Accepted = func(protocol string) {
		mu.Lock()
		defer mu.Unlock()
		spoken = append(spoken, protocol)
	}
	f.listener.Users = []config.User{{Name: "a", Password: config.NewSecret("b")}}
	f.serve()
	auth := "Proxy-Authorization: Basic YTpi\r\n\r\n"
	get := "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n" + auth
	for _, c := range []struct{ say, want string }{
		{connectTo("h.example:443") + "CONNECT h.example:443 HTTP/1.1\r\nHost: h\r\n" + auth, "connect"}, // after a 407
		{get, "http"},
		{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "http"},
		{"GET \r\n\r\n", "http"},
		{"CONNECT h.example HTTP/1.1\r\nHost: h\r\n\r\n", "connect"},
		{"\x05\x01\x00", "socks5"},
		{"\x04\x02", "socks4"},
		{"\x16\x03\x01", "tls"},
		{"\x00", "unknown"},
	} {
		mu.Lock()
		spoken = nil
		mu.Unlock()
		conn := f.dial()
		write(t, conn, c.say)
		_ = conn.CloseWrite()
		_, _ = io.Copy(io.Discard, conn) // some are reset
		conn.Close()
		testkit.Eventually(t, 5*time.Second, "the connection to be gone", f.server.Idle)
		mu.Lock()
		if !slices.Equal(spoken, []string{c.want}) {
			t.Errorf("%q: reported as %q, want %s", c.say, spoken, c.want)
		}
		mu.Unlock()
	}
}

// An upstream that denies CONNECT is asked for a websocket in absolute form, and
// connects to the target only then.
//
// Promise (data path): a websocket upgrade is waited for as long as timeout_seconds
// allows, also where the upstream is asked for it in absolute form.
func TestUpgradeInAbsoluteFormHasTheWholeBudget(t *testing.T) {
	t.Parallel()
	const request = "GET ws://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	for name, c := range map[string]struct {
		slow    time.Duration
		timeout string
		answer  string
	}{
		"slow":   {300 * time.Millisecond, "30", "HTTP/1.1 101 "},
		"silent": {time.Hour, "1", "HTTP/1.1 504 proxyd: target_timeout: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := listen(t, func(c2 net.Conn) {
				head, err := readRequestHead(bufio.NewReader(c2))
				switch {
				case err != nil:
				case strings.HasPrefix(head, "CONNECT "):
					_, _ = io.WriteString(c2, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
				case c.slow < time.Minute:
					time.Sleep(c.slow)
					_, _ = io.WriteString(c2, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
					fallthrough
				default:
					_, _ = io.Copy(io.Discard, c2)
				}
			})
			f := newFront(t, "default: {url: \"http://"+up+"\", timeout_seconds: "+c.timeout+"}\n")
			f.server.reply = 20 * time.Millisecond
			f.serve()
			conn := f.dial()
			write(t, conn, request)
			if got := readN(t, conn, len(c.answer)); got != c.answer {
				t.Errorf("got %q, want %q", got, c.answer)
			}
		})
	}
}

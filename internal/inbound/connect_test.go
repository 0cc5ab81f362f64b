package inbound

import (
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

// The first bytes of real clients, as they were captured; TARGET stands for
// the target's address and HOST for it without the port.
var captures = map[string]string{
	"curl":                 "CONNECT TARGET HTTP/1.1\r\nHost: TARGET\r\nProxy-Authorization: Basic b2t4LmxhbmUyOnB3QHg=\r\nUser-Agent: curl/7.88.1\r\nProxy-Connection: Keep-Alive\r\n\r\n",
	"requests python 3.11": "CONNECT TARGET HTTP/1.0\r\n\r\n",
	"requests python 3.12": "CONNECT TARGET HTTP/1.1\r\nProxy-Authorization: Basic dS52OnA=\r\nHost: TARGET\r\n\r\n",
	"websockets":           "CONNECT TARGET HTTP/1.1\r\nHost: HOST\r\nUser-Agent: Python/3.11 websockets/17.1.dev0+gunknown\r\nProxy-Authorization: Basic b2t4LmxhbmUtMjpwJTQwc3M=\r\n\r\n",
	"aiohttp 3":            "CONNECT TARGET HTTP/1.1\r\nHost: HOST\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nUser-Agent: Python/3.11 aiohttp/3.14.3\r\nProxy-Authorization: Basic b2t4LmxhbmUtMjpwQHNz\r\n\r\n",
	"aiohttp 4":            "CONNECT TARGET HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"httpx":                "CONNECT TARGET HTTP/1.1\r\nHost: TARGET\r\nAccept: */*\r\n\r\n",
	"websocket-client":     "CONNECT TARGET HTTP/1.1\r\nHost: TARGET\r\nProxy-Authorization: Basic b2t4\r\n\r\n",
	"python-socks":         "CONNECT TARGET HTTP/1.1\r\nHost: TARGET\r\nUser-Agent: Python/3.11 python-socks/2.8.1\r\n\r\n",
	"https-proxy-agent 9":  "CONNECT TARGET HTTP/1.1\r\nProxy-Authorization: Basic b2t4LmwyOnBAeA==\r\nHost: TARGET\r\nProxy-Connection: close\r\n\r\n",
	"undici":               "CONNECT TARGET HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\nproxy-authorization: Basic b2t4LmwyOnBAeA==\r\nproxy-connection: keep-alive\r\n\r\n",
	"node https":           "CONNECT TARGET HTTP/1.1\r\nproxy-authorization: Basic b2t4LmwyOnBAeA==\r\nproxy-connection: keep-alive\r\nhost: TARGET\r\n\r\n",
	"axios 1.21":           "CONNECT TARGET HTTP/1.1\r\nProxy-Authorization: Basic b2t4LmwyOnBAeA==\r\nHost: HOST\r\nConnection: close\r\n\r\n",
	"bun":                  "CONNECT TARGET HTTP/1.1\r\nHost: TARGET\r\nProxy-Connection: Keep-Alive\r\nProxy-Authorization: Basic b2t4LmwyOnBAeA==\r\n\r\n",
	"go":                   "CONNECT TARGET HTTP/1.1\r\nHost: TARGET\r\nUser-Agent: Go-http-client/1.1\r\nProxy-Authorization: Basic b2t4LmwyOnBAeA==\r\n\r\n",
	"HttpURLConnection":    "CONNECT TARGET HTTP/1.1\r\nUser-Agent: Java/17.0.15\r\nHost: HOST\r\nAccept: text/html, image/gif, image/jpeg, */*; q=.2\r\nProxy-Connection: keep-alive\r\n\r\n",
	"okhttp":               "CONNECT TARGET HTTP/1.1\r\nHost: TARGET\r\nProxy-Connection: Keep-Alive\r\nUser-Agent: okhttp/3.13.1\r\n\r\n",
	"netty":                "CONNECT TARGET HTTP/1.1\r\nhost: TARGET\r\nproxy-authorization: Basic b2t4LmwyOnBAeA==\r\n\r\n",
}

func TestConnectOfRealClients(t *testing.T) {
	f := startFront(t, local, nil)
	target := echo(t)
	host, _ := hostPort(t, target)
	for name, text := range captures {
		t.Run(name, func(t *testing.T) {
			text := strings.ReplaceAll(strings.ReplaceAll(text, "TARGET", target), "HOST", host)
			for _, piece := range []int{len(text), 1} {
				conn := f.dial()
				for i := 0; i < len(text); i += piece {
					write(t, conn, text[i:min(i+piece, len(text))])
				}
				if got, want := readN(t, conn, len(established)), established; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				write(t, conn, "ping")
				if got := readN(t, conn, 4); got != "ping" {
					t.Errorf("echo: %q", got)
				}
				conn.CloseWrite()
				if rest := readAll(t, conn); rest != "" {
					t.Errorf("behind it: %q", rest)
				}
			}
		})
	}
}

// HTTP-01
//
// Promise (data path): no byte that a client sends right behind its request is
// lost.
func TestConnectEarlyBytes(t *testing.T) {
	f := startFront(t, local, nil)
	target := echo(t)
	for name, size := range map[string]int{"a few": 5, "more than a buffer": 40 << 10, "more than is held": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			early := strings.Repeat("EARLY", size/5)
			conn := f.dial()
			go func() { _, _ = io.WriteString(conn, connectTo(target)+early) }()
			if got := readN(t, conn, len(established)); got != established {
				t.Fatalf("got %q", got)
			}
			if got := readN(t, conn, len(early)); got != early {
				t.Error("the early bytes came back otherwise")
			}
		})
	}
}

// oneWrite gives what the first read sees, which is what the first write sent.
func oneWrite(t *testing.T, conn net.Conn) string {
	t.Helper()
	b := make([]byte, 16<<10)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestConnectRefusals(t *testing.T) {
	closed := refusedPort(t)
	tests := []struct {
		name, yaml, request string
		status              int
		reason, class, body string
	}{
		{"refused", local, connectTo(closed), 502, "proxyd: target_refused: ", "target_refused", "refused"},
		{"rejected by a route", "default: reject", connectTo("a.example:443"), 403, "proxyd: denied: ", "denied", ""},
		{"TGT-01", local, "CONNECT 2130706433:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "proxyd: bad_request: ", "bad_request", ""},
		{"TGT-15", local, "CONNECT user:secret@h:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "proxyd: bad_request: ", "bad_request", ""},
		{"TGT-17 no port", local, "CONNECT h.example HTTP/1.1\r\nHost: x\r\n\r\n", 400, "proxyd: bad_request: ", "bad_request", "has no port"},
		{"TGT-17 overflow", local, "CONNECT h.example:86536 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "proxyd: bad_request: ", "bad_request", "65535"},
		{"path as target", local, "CONNECT /x HTTP/1.1\r\nHost: x\r\n\r\n", 400, "proxyd: bad_request: ", "bad_request", "has no port"},
		{"body", local, "CONNECT h.example:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 400, "proxyd: bad_request: ", "bad_request", "no body"},
		{"malformed head", local, "CONNECT h.example:443 HTTP/1.1\r\nHost : x\r\n\r\n", 400, "proxyd: bad_request: there is a space", "bad_request", "space before the colon"},
		{"HTTP-16 origin-form", local, "GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, "proxyd: bad_request: this is a proxy", "bad_request", "HTTPS_PROXY"},
		{"ADM-06 a browser's page", local, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\nSec-Fetch-Mode: cors\r\n\r\n", 400, "proxyd: bad_request: this is a proxy", "bad_request", ""},
		{"HTTP-23 TRACE", local, "TRACE http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n", 405, "proxyd: bad_request: TRACE", "bad_request", ""},
		{"HTTP-23 Max-Forwards", local, "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nMax-Forwards: 0\r\n\r\n", 400, "proxyd: bad_request: Max-Forwards", "bad_request", ""},
		{"HTTP-23 OPTIONS *", local, "OPTIONS * HTTP/1.1\r\nHost: h.example\r\n\r\n", 400, "proxyd: bad_request: this is a proxy", "bad_request", ""},
		{"HTTP-24 gopher", local, "GET gopher://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400, "proxyd: bad_request: URLs of the scheme", "bad_request", ""},
		{"HTTP-24 ftp", local, "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400, "proxyd: bad_request: URLs of the scheme", "bad_request", ""},
		{"HTTP-24 file", local, "GET file:///etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n", 400, "proxyd: bad_request: URLs of the scheme", "bad_request", ""},
		{"HTTP-24 urn", local, "GET urn:x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "proxyd: bad_request: the request target", "bad_request", ""},
		{"axios 1.7", local, "GET https://stream.exchange.test/p?q=1 HTTP/1.1\r\nhost: stream.exchange.test\r\n\r\n", 400, "proxyd: bad_request: https URL sent in clear; use CONNECT", "bad_request", "axios"},
		{"ccxt wsProxy", local, "GET http://stream.binance.com:9443/ws/0 HTTP/1.1\r\nHost: stream.binance.com:9443\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 400, "proxyd: bad_request: a websocket in clear to port 9443", "bad_request", "wssProxy"},
		{"HTTP-27 expectation", local, "POST http://h/ HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\n", 417, "proxyd: bad_request: the expectation", "bad_request", ""},
		{"loop by Via", local, "CONNECT h.example:443 HTTP/1.1\r\nHost: h\r\nVia: 1.0 fred, 1.1 hop-token (proxyd)\r\n\r\n", 403, "proxyd: denied: proxy_loop_detected", "denied", ""},
		{"too long", local, "GET http://h/" + strings.Repeat("a", 9<<10), 414, "proxyd: bad_request: ", "bad_request", "8 KiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFront(t, tt.yaml, nil)
			conn := f.dial()
			write(t, conn, tt.request)
			first := oneWrite(t, conn)
			if rest := readAll(t, conn); rest != "" {
				t.Errorf("more than one write: %q", rest)
			}
			resp, body := answerOf(t, first)
			checkRefusal(t, resp, body, tt.class)
			reason := strings.TrimPrefix(resp.Status, resp.Status[:4])
			if resp.StatusCode != tt.status || !strings.HasPrefix(reason, tt.reason) || !strings.Contains(body, tt.body) {
				t.Errorf("got %q, body %q", resp.Status, body)
			}
			if strings.Contains(first, "secret") {
				t.Errorf("a password came back: %q", first)
			}
			r := f.refused(failure.Class(tt.class))
			if r.ID != resp.Header.Get("X-Proxyd-Request-Id") {
				t.Errorf("recorded id %q, answered %q", r.ID, resp.Header.Get("X-Proxyd-Request-Id"))
			}
		})
	}
}

// checkRefusal holds what is the same in all refusals.
func checkRefusal(t *testing.T, resp *http.Response, body, class string) {
	t.Helper()
	h := resp.Header
	if len(resp.Status) > 4+maxReason {
		t.Errorf("reason of %d bytes", len(resp.Status)-4)
	}
	for i := range len(resp.Status) {
		if c := resp.Status[i]; c < ' ' || c > '~' {
			t.Errorf("reason %q", resp.Status)
		}
	}
	if !strings.HasPrefix(h.Get("Proxy-Status"), "proxyd; error=") || !strings.Contains(h.Get("Proxy-Status"), `; details="`) {
		t.Errorf("Proxy-Status %q", h.Get("Proxy-Status"))
	}
	if want := "class=" + class + " exchange="; !strings.HasPrefix(h.Get("X-Proxyd-Error"), want) {
		t.Errorf("X-Proxyd-Error %q", h.Get("X-Proxyd-Error"))
	}
	if h.Get("X-Proxyd-Request-Id") == "" || h.Get("Content-Type") != "text/plain" {
		t.Errorf("fields %v", h)
	}
	if !resp.Close && resp.StatusCode != 407 {
		t.Error("the connection is not to be closed")
	}
	if !strings.HasSuffix(body, "\n") || strings.Count(body, "\n") != 1 || int64(len(body)) != resp.ContentLength {
		t.Errorf("body %q of length %d", body, resp.ContentLength)
	}
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("field %s", name)
		}
	}
}

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

func basicAuth(user string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user)) + "\r\n"
}

func withUsers(l *config.Listener) {
	l.Users = []config.User{
		{Name: "alice", Password: config.NewSecret("s3cr@t")},
		{Name: "b%b", Password: config.NewSecret("")},
	}
}

func TestConnectAuth(t *testing.T) {
	target := echo(t)
	tests := []struct {
		name, auth string
		ok         bool
		label      string
	}{
		{"right", basicAuth("alice:s3cr@t"), true, "alice"},
		{"with a kind", basicAuth("alice+websocket:s3cr@t"), true, "alice"},
		{"escaped, as websockets sends it", basicAuth("alice:s3cr%40t"), true, "alice"},
		{"escaped name", basicAuth("%61lice%2Bhttp:s3cr%40t"), true, "alice"},
		{"a percent sign that is meant", basicAuth("b%b"), true, "b%b"},
		{"no padding, other case", "proxy-authorization: bAsIc " + strings.TrimRight(base64.StdEncoding.EncodeToString([]byte("alice:s3cr@t")), "=") + "\r\n", true, "alice"},
		{"none", "", false, ""},
		{"wrong password", basicAuth("alice:secret"), false, ""},
		{"unknown name", basicAuth("mallory:s3cr@t"), false, ""},
		{"empty", basicAuth(""), false, ""},
		{"boundary moved", basicAuth("alices3cr@t:"), false, ""},
		{"another scheme", "Proxy-Authorization: Negotiate YII=\r\n", false, ""},
		{"not base64", "Proxy-Authorization: Basic !!!\r\n", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFront(t, local, withUsers)
			conn := f.dial()
			write(t, conn, "CONNECT "+target+" HTTP/1.1\r\nHost: x\r\n"+tt.auth+"\r\n")
			if tt.ok {
				if got := readN(t, conn, len(established)); got != established {
					t.Fatalf("got %q", got)
				}
				r := f.await("the tunnel", func(r tunnel.Record) bool { return r.Event == tunnel.Opened })
				if r.Label != tt.label {
					t.Errorf("label %q, want %q", r.Label, tt.label)
				}
				return
			}
			resp, body := answerOf(t, readHeadAndBody(t, conn))
			checkRefusal(t, resp, body, "auth")
			if resp.StatusCode != 407 || resp.Header.Get("Proxy-Authenticate") != `Basic realm="proxyd"` || resp.Close {
				t.Errorf("got %s %v", resp.Status, resp.Header)
			}
			if strings.Contains(body, "mallory") || strings.Contains(body, "secret") {
				t.Errorf("credentials came back: %q", body)
			}
			// The same connection serves the next try.
			write(t, conn, "CONNECT "+target+" HTTP/1.1\r\nHost: x\r\n"+basicAuth("alice:s3cr@t")+"\r\nEARLY")
			if got := readN(t, conn, len(established)+5); got != established+"EARLY" {
				t.Errorf("second try: %q", got)
			}
			f.refused(failure.Auth)
		})
	}
}

// readHeadAndBody reads one answer with a Content-Length.
func readHeadAndBody(t *testing.T, conn net.Conn) string {
	t.Helper()
	head := readHeadOf(t, conn)
	resp, err := http.ReadResponse(newReader(head), &http.Request{Method: "HEAD"})
	if err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	return head + readN(t, conn, int(resp.ContentLength))
}

func TestLabelWithoutAuth(t *testing.T) {
	target := echo(t)
	for user, want := range map[string]string{
		"okx.lane2:pw@x": "okx.lane2", "okx": "okx", "a+websocket:x": "a", "evil\nline:x": "evil?line", "%6fkx:x": "okx",
		strings.Repeat("n", 200) + ":x": strings.Repeat("n", maxLabel-3) + "...",
	} {
		t.Run(want, func(t *testing.T) {
			f := startFront(t, local, nil)
			conn := f.dial()
			write(t, conn, "CONNECT "+target+" HTTP/1.0\r\n"+basicAuth(user)+"\r\n")
			if got := readN(t, conn, len(established)); got != established {
				t.Fatalf("got %q", got)
			}
			r := f.await("the tunnel", func(r tunnel.Record) bool { return r.Event == tunnel.Opened })
			if r.Label != want {
				t.Errorf("label %q, want %q", r.Label, want)
			}
		})
	}
}

func TestKindOfUsername(t *testing.T) {
	for name, want := range map[string]struct {
		name string
		kind catalog.Kind
	}{
		"a+websocket": {"a", catalog.KindWebsocket}, "a+http": {"a", catalog.KindHTTP}, "+http": {"", catalog.KindHTTP},
		"a+lane2": {"a+lane2", catalog.KindUnknown}, "a": {"a", catalog.KindUnknown},
	} {
		id, f := (*users)(nil).identify(name, "")
		if f != nil || id.label != want.name || id.kind != want.kind {
			t.Errorf("%s: got %+v, %v", name, id, f)
		}
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
		t.Errorf("told of %v", f.panics)
	}
}

func TestTLSListener(t *testing.T) {
	cert, key, pool := certificate(t)
	f := startFront(t, local, func(l *config.Listener) { l.TLSCert, l.TLSKey = cert, key })
	target := echo(t)
	secure := func() *tls.Conn {
		conn := tls.Client(f.dial(), &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", NextProtos: []string{"h2", "http/1.1"}})
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		if p := conn.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
			t.Errorf("negotiated %q", p)
		}
		return conn
	}
	for name, text := range map[string]string{
		"connect": connectTo(target) + "EARLY", "socks4": socks4To(t, target) + "EARLY",
	} {
		t.Run(name, func(t *testing.T) {
			conn := secure()
			write(t, conn, text)
			reply := established
			if name == "socks4" {
				reply = string(socks4Granted)
			}
			if got := readN(t, conn, len(reply)+5); got != reply+"EARLY" {
				t.Errorf("got %q", got)
			}
			if err := conn.CloseWrite(); err != nil {
				t.Error(err)
			}
			if rest := readAll(t, conn); rest != "" {
				t.Errorf("behind it: %q", rest)
			}
		})
	}
	t.Run("refusal", func(t *testing.T) {
		conn := secure()
		write(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, body := answerOf(t, readAll(t, conn))
		checkRefusal(t, resp, body, "bad_request")
	})
	t.Run("in clear", func(t *testing.T) {
		if got := f.say(connectTo(target)); !strings.Contains(got, "400 proxyd: bad_request: this port speaks TLS") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		conn := tls.Client(f.dial(), &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
		if err := conn.Handshake(); err == nil {
			t.Error("accepted")
		}
	})
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

func TestAcceptGoesOnAfterFailures(t *testing.T) {
	f := newFront(t, local)
	told := make(chan error, 100)
	f.server.opts.AcceptFailed = func(err error) { told <- err }
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	failing := &failingListener{Listener: ln, left: 6}
	served := make(chan error)
	start := time.Now()
	go func() { served <- f.server.Serve(failing, f.settings) }()
	if got := f.say("GET / HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("got %q", got)
	}
	if took := time.Since(start); took < 250*time.Millisecond { // 5+10+20+40+80+100
		t.Errorf("6 failures took %v: no back-off", took)
	}
	ln.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	f.server.Close()
	if len(told) != 1 || !strings.Contains((<-told).Error(), "too many open files") {
		t.Errorf("told %d times", len(told)+1)
	}
}

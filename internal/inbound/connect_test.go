package inbound

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"proxyd/internal/failure"
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

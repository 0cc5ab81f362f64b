package inbound

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// HTTP-21
func TestWebsocketUpgrade(t *testing.T) {
	const reply = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
	clients := map[string]string{
		"aiohttp": "GET ws://ADDR/p HTTP/1.1\r\nHost: ADDR\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: k\r\nProxy-Authorization: Basic b2t4\r\n\r\n",
		"coder":   "GET http://ADDR/p HTTP/1.1\r\nHost: ADDR\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\n",
	}
	for name, text := range clients {
		t.Run(name, func(t *testing.T) {
			f := startFront(t, local, nil)
			heads := make(chan string, 1)
			addr := listen(t, func(c net.Conn) {
				b := make([]byte, 4096)
				n, _ := c.Read(b)
				head, rest, _ := strings.Cut(string(b[:n]), "\r\n\r\n")
				heads <- head + "\r\n\r\n"
				_, _ = io.WriteString(c, reply+"EARLY")
				_, _ = io.WriteString(c, rest)
				_, _ = io.Copy(c, c)
			})
			conn := f.dial()
			write(t, conn, strings.ReplaceAll(text, "ADDR", addr))
			if got := readN(t, conn, len(reply)+5); got != reply+"EARLY" {
				t.Fatalf("got %q", got)
			}
			write(t, conn, "ping")
			if got := readN(t, conn, 4); got != "ping" {
				t.Errorf("echo %q", got)
			}
			line, got := fields(<-heads)
			want := map[string]string{"host": addr, "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "k"}
			if diff := cmp.Diff(want, got); diff != "" || line != "GET /p HTTP/1.1" {
				t.Errorf("line %q, fields (-want +got):\n%s", line, diff)
			}
			conn.CloseWrite()
			if rest := readAll(t, conn); rest != "" {
				t.Errorf("behind it: %q", rest)
			}
		})
	}
}

func TestWebsocketRefused(t *testing.T) {
	tests := []struct {
		name, reply, want, body string
	}{
		{"403", "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\nX-A: b\r\n\r\ngo!\n", "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 4\r\nX-A: b\r\n\r\ngo!\n", ""},
		{"hop-by-hop beside close", "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nX-A: b\r\n\r\ngo!\n", "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 4\r\nX-A: b\r\n\r\ngo!\n", ""},
		{"interim first", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 404 Not Found\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""},
		{"HTTP-29", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 50), "", "interim"},
		{"not HTTP", "SSH-2.0-x\r\n\r\n", "", "not HTTP"},
		{"folded", "HTTP/1.1 101 x\r\nA: b\r\n c\r\n\r\n", "", "folded"},
		{"huge", "HTTP/1.1 101 x\r\nA: " + strings.Repeat("b", 20<<10), "", "16 KiB"},
		{"closed", "", "", "closed the connection"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFront(t, local, nil)
			addr, _ := rawOrigin(t, tt.reply)
			conn := f.dial()
			write(t, conn, "GET ws://"+addr+"/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			got := readAll(t, conn)
			if tt.want != "" {
				if got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				return
			}
			resp, body := answerOf(t, got)
			checkRefusal(t, resp, body, "target_protocol")
			if resp.StatusCode != 502 || !strings.Contains(body, tt.body) {
				t.Errorf("got %s %q", resp.Status, body)
			}
		})
	}
}

// What a client sends behind an upgrade that was not granted goes nowhere:
// it has not been routed.
func TestBytesBehindARefusedUpgrade(t *testing.T) {
	f := startFront(t, local, nil)
	const next = "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n"
	rest := make(chan string, 1)
	addr := listen(t, func(c net.Conn) {
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") // and stays open
		head := string(b[:n])
		all, _ := io.ReadAll(c)
		rest <- head[strings.Index(head, "\r\n\r\n")+4:] + string(all)
	})
	conn := f.dial()
	write(t, conn, "GET ws://"+addr+"/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+next)
	if got := readAll(t, conn); got != "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok" {
		t.Errorf("got %q", got)
	}
	if got := <-rest; got != "" {
		t.Errorf("the server got %q", got)
	}
}

package daemon_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/daemon"
)

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs a daemon on a free port and gives its address and log.
func start(t testing.TB, yaml string, environ ...string) (addr string, log *buffer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxyd.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	log = &buffer{}
	d, err := daemon.New(daemon.Options{ConfigPath: path, Environ: environ, Stderr: log, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx, nil, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return d.Addrs()[0].String(), log
}

// echo is a TCP server that sends back what it gets, to the end.
func echo(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends when the listener is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// clients open a tunnel to localhost:port, each in its own protocol, and give
// the connection when the proxy has said yes.
var clients = map[string]func(t *testing.T, c net.Conn, port int){
	"CONNECT": func(t *testing.T, c net.Conn, port int) {
		fmt.Fprintf(c, "CONNECT localhost:%d HTTP/1.1\r\nHost: localhost:%d\r\n\r\n", port, port)
		expect(t, c, "HTTP/1.1 200 Connection established\r\n\r\n")
	},
	"CONNECT, HTTP/1.0": func(t *testing.T, c net.Conn, port int) {
		fmt.Fprintf(c, "CONNECT localhost:%d HTTP/1.0\r\n\r\n", port)
		expect(t, c, "HTTP/1.1 200 Connection established\r\n\r\n")
	},
	"SOCKS5": func(t *testing.T, c net.Conn, port int) {
		_, _ = c.Write([]byte{5, 1, 0})
		expect(t, c, "\x05\x00")
		_, _ = c.Write(append([]byte("\x05\x01\x00\x03\x09localhost"), byte(port>>8), byte(port)))
		expect(t, c, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
	},
	"SOCKS4a": func(t *testing.T, c net.Conn, port int) {
		_, _ = c.Write(append([]byte{4, 1, byte(port >> 8), byte(port), 0, 0, 0, 1}, "me\x00localhost\x00"...))
		expect(t, c, "\x00\x5a\x00\x00\x00\x00\x00\x00")
	},
}

func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %q (%v), want %q", got[:n], err, want)
	}
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// TestEveryProtocolThroughEveryScheme sends 300 kB through a daemon whose
// upstream is a second one, and ends with a half-close.
func TestEveryProtocolThroughEveryScheme(t *testing.T) {
	port := echo(t)
	exit, _ := start(t, "listen: 127.0.0.1:0\nallow_private: [127.0.0.0/8, \"::1\"]\n")
	for _, scheme := range []string{"http", "socks5", "socks5h", "socks4a", "direct"} {
		way := scheme + "://" + exit
		if scheme == "direct" {
			way = "direct"
		}
		addr, log := start(t, "listen: 127.0.0.1:0\nallow_private: [127.0.0.0/8, \"::1\"]\ndefault: \""+way+"\"\n")
		for name, open := range clients {
			t.Run(scheme+", "+name, func(t *testing.T) {
				c := dial(t, addr)
				open(t, c, port)
				sent := bytes.Repeat([]byte("0123456789"), 30_000)
				go func() { // ends when all is sent or the connection is closed
					_, _ = c.Write(sent)
					_ = c.CloseWrite()
				}()
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, sent) {
					t.Errorf("got %d bytes (%v), want the %d that were sent\n%s", len(got), err, len(sent), log)
				}
			})
		}
	}
}

func TestPlainHTTPThroughAnUpstream(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	origin := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello "+r.Header.Get("Proxy-Authorization")+r.URL.Path)
	})}
	go func() { _ = origin.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = origin.Close() })
	exit, _ := start(t, "listen: 127.0.0.1:0\nallow_private: [127.0.0.0/8, \"::1\"]\n")
	addr, _ := start(t, "listen: 127.0.0.1:0\ndefault: \"http://"+exit+"\"\n")
	c := dial(t, addr)
	br := bufio.NewReader(c)
	for range 2 { // kept alive
		fmt.Fprintf(c, "GET http://localhost:%d/x HTTP/1.1\r\nHost: localhost\r\nProxy-Authorization: Basic Ym90Ong=\r\n\r\n", l.Addr().(*net.TCPAddr).Port)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 || string(body) != "hello /x" {
			t.Fatalf("got %d %q", resp.StatusCode, body)
		}
	}
}

func TestRefusalsSayWhoIsToBlame(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := closed.Addr().String()
	_ = closed.Close()
	addr, log := start(t, "listen: 127.0.0.1:0\nexchanges: {binance: \"http://bob:CANARY@"+dead+"\", okx: reject}\n")
	for target, want := range map[string]string{
		"api.binance.com:443": "502 proxyd: upstream_refused: ",
		"www.okx.com:443":     "403 proxyd: denied: ",
		"localhost:1":         "403 proxyd: denied: ",
		"a b:443":             "400 proxyd: bad_request: ",
		"example.com:25":      "403 proxyd: denied: ",
		addr:                  "403 proxyd: denied: ",
	} {
		c := dial(t, addr)
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
		got, _ := io.ReadAll(c)
		if !strings.HasPrefix(string(got), "HTTP/1.1 "+want) || !strings.Contains(string(got), "X-Proxyd-Error: class=") {
			t.Errorf("%s: got %q, want %q", target, got, want)
		}
		if strings.Contains(string(got)+log.String(), "CANARY") {
			t.Errorf("%s: a password shows", target)
		}
	}
}

func TestFailoverIsOneAnswer(t *testing.T) {
	port := echo(t)
	exit, _ := start(t, "listen: 127.0.0.1:0\nallow_private: [127.0.0.0/8, \"::1\"]\n")
	addr, _ := start(t, "listen: 127.0.0.1:0\npools: {p: {strategy: failover, proxies: [\"http://127.0.0.1:1\", \"socks5://127.0.0.1:1\", \"http://"+exit+"\"]}}\ndefault: p\n")
	for range 20 {
		c := dial(t, addr)
		clients["CONNECT"](t, c, port)
		_ = c.Close()
	}
}

package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/testkit/routertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const settingsYAML = `
listen: ["127.0.0.1:8877", {address: "127.0.0.1:8879", use: "http://one.example:1"}]
default: direct
pools: {asia: {proxies: ["socks5://bob:CANARY-pa55@tokyo.example:1080", "http://osaka.example:3128"]}}
exchanges: {binance: {http: direct, websocket: asia}, kraken: reject}
`

// snapshot builds the router of a configuration.
func snapshot(t *testing.T, yaml string) *router.Router {
	t.Helper()
	return routertest.New(t, yaml, nil)
}

// wellStatus is of a daemon that is fine.
func wellStatus() Status {
	return Status{
		Version: "1.2.3", Generation: 1, PID: 42, Started: time.Now().Add(-time.Hour), State: StateReady,
		Config: Config{File: "/etc/proxyd/proxyd.yaml", LoadedAt: time.Now(), InForce: true},
	}
}

// wellOptions serve a daemon that is fine, for tests to change.
func wellOptions(t *testing.T) Options {
	t.Helper()
	snap := snapshot(t, settingsYAML)
	return Options{
		Settings: func() config.Admin { return config.Admin{} },
		Snapshot: func() *router.Router { return snap },
		Status:   wellStatus,
		Tunnels:  func(Filter, int) ([]Tunnel, error) { return nil, nil },
		Metrics:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "proxyd_build_info 1") }),
		Reload:   func(context.Context, bool) Report { return Report{Applied: true} },
	}
}

// serve starts a server, on 127.0.0.1:0 if address is "", and gives its address.
func serve(t *testing.T, o Options, address string) string {
	t.Helper()
	return serveBy(t, New(o), address)
}

func serveBy(t *testing.T, s *Server, address string) string {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	ln, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }() // ends with Close
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if strings.HasPrefix(address, "unix:") {
		return address
	}
	return ln.Addr().String()
}

// reply is an answer read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	closed bool // the connection, after it
}

// send writes a request's head as it is, with the Host and a blank line added,
// and reads the answer.
func send(t *testing.T, address, head string) reply {
	t.Helper()
	network, at := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, at = "unix", path
	}
	conn, err := net.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if !strings.Contains(head, "\r\nHost:") {
		head += "\r\nHost: " + address
	}
	if _, err := io.WriteString(conn, head+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(head, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s: %v", head, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", head, err)
	}
	return reply{resp.StatusCode, resp.Header, string(body), resp.Close}
}

func get(t *testing.T, address, path string, fields ...string) reply {
	t.Helper()
	return send(t, address, strings.Join(append([]string{"GET " + path + " HTTP/1.1"}, fields...), "\r\n"))
}

func post(t *testing.T, address, path string, fields ...string) reply {
	t.Helper()
	return send(t, address, strings.Join(append([]string{"POST " + path + " HTTP/1.1", "X-Proxyd: 1"}, fields...), "\r\n"))
}

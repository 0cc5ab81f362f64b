package tunnel_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"proxyd/internal/relay"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
	"proxyd/internal/testkit/routertest"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

func TestMain(m *testing.M) {
	if to := os.Getenv(proxyTo); to != "" {
		runProxy(to)
	}
	goleak.VerifyTestMain(m)
}

// host is a Handler under test and what it recorded.
type host struct {
	t testing.TB
	*tunnel.Handler
	set    *upstream.Set
	router atomic.Pointer[router.Router]

	mu      sync.Mutex
	records []tunnel.Record
}

// toLoopback lets tests reach their own servers.
const toLoopback = "default: direct\nroutes: [{hosts: [127.0.0.0/8], use: direct}]\n"

func newHost(t testing.TB, text string) *host {
	t.Helper()
	h := &host{t: t}
	h.reload(text)
	h.Handler = tunnel.NewHandler(tunnel.Options{
		Snapshot: h.router.Load, Relay: relay.NewEngine(), Record: h.record,
	})
	t.Cleanup(func() {
		h.CloseAll()
		h.wait()
		h.set.Close()
	})
	return h
}

// reload puts a configuration in force.
func (h *host) reload(text string) {
	h.t.Helper()
	r := routertest.New(h.t, text, h.set)
	h.set = r.Set()
	h.router.Store(r)
}

func (h *host) record(r *tunnel.Record) {
	h.mu.Lock()
	h.records = append(h.records, *r)
	h.mu.Unlock()
}

// recorded gives what was recorded of an event.
func (h *host) recorded(e tunnel.Event) (found []tunnel.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.records {
		if r.Event == e {
			found = append(found, r)
		}
	}
	return found
}

func (h *host) wait() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := h.Wait(ctx); err != nil {
		h.t.Errorf("tunnels left: %v", err)
	}
}

// ends are the far ends of a tunnel.
type ends struct {
	client, server *net.TCPConn
	tunnel         *tunnel.Tunnel
}

// open opens a tunnel to a server of its own and lets it carry.
func (h *host) open(early string) ends {
	h.t.Helper()
	e, near := h.opened()
	e.tunnel.Carry(near, []byte(early))
	return e
}

// opened opens a tunnel that does not carry yet; near is its client's conn.
func (h *host) opened() (e ends, near *net.TCPConn) {
	h.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	defer ln.Close()
	e.client, near = h.pair(ln)
	client, _ := netip.ParseAddrPort(e.client.LocalAddr().String())
	at := ln.Addr().(*net.TCPAddr)
	e.tunnel, err = h.Open(h.t.Context(), tunnel.Request{Client: client, Protocol: "connect", Label: "bot", Host: "127.0.0.1", Port: uint16(at.Port)})
	if err != nil {
		h.t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		h.t.Fatal(err)
	}
	e.server = server.(*net.TCPConn)
	h.t.Cleanup(func() { _ = e.server.Close() })
	return e, near
}

func (h *host) pair(ln net.Listener) (dialled, accepted *net.TCPConn) {
	h.t.Helper()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = a.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// say writes text at one end and reads it at the other.
func say(t testing.TB, from, to net.Conn, text string) {
	t.Helper()
	if _, err := from.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	hear(t, to, text)
}

func hear(t testing.TB, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("got %q (%v), want %q", got, err, text)
	}
}

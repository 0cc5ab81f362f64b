package feed_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"proxyd/internal/event"
	"proxyd/internal/feed"
	"proxyd/internal/relay"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
	"proxyd/internal/testkit/routertest"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a Handler with a Table that observes it.
type host struct {
	t testing.TB
	*tunnel.Handler
	table  *feed.Table
	set    *upstream.Set
	router atomic.Pointer[router.Router]

	mu     sync.Mutex
	events []event.Event
}

// newHost starts a Handler with a configuration, and a Table that runs.
func newHost(t testing.TB, text string) *host {
	t.Helper()
	h := &host{t: t}
	h.reload(text)
	h.Handler = tunnel.NewHandler(tunnel.Options{
		Snapshot: h.router.Load, Relay: relay.NewEngine(), Record: func(r *tunnel.Record) { h.table.Observe(r) }, Ending: func(r *tunnel.Record) { h.table.Ending(r) },
	})
	h.table = feed.New(feed.Options{Snapshot: h.router.Load, Each: h.Each, Emit: h.emit})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = h.table.Run(ctx) }) // ends with ctx
	t.Cleanup(func() {
		h.CloseAll()
		h.wait()
		cancel()
		running.Wait()
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

func (h *host) emit(e event.Event) {
	h.mu.Lock()
	h.events = append(h.events, e)
	h.mu.Unlock()
}

// emitted returns the events of a type.
func (h *host) emitted(typ event.Type) (found []event.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.Type == typ {
			found = append(found, e)
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

// open opens a tunnel and returns its client's end.
func (h *host) open(to string) (*net.TCPConn, error) {
	h.t.Helper()
	tun, err := h.Open(h.t.Context(), tunnel.Request{
		Client: netip.MustParseAddrPort("127.0.0.1:1"), Protocol: "connect", Host: to, Port: 443,
	})
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	near, err := ln.Accept()
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = client.Close() })
	tun.Carry(near, nil)
	return client.(*net.TCPConn), nil
}

// row returns the row of an exchange and kind.
func (h *host) row(exchange, kind string) feed.Exchange {
	h.t.Helper()
	for _, row := range h.table.Report().Exchanges {
		if row.Exchange == exchange && row.Kind == kind {
			return row
		}
	}
	h.t.Fatalf("no row for %s %s", exchange, kind)
	return feed.Exchange{}
}

// feed returns the row of a feed.
func (h *host) feed(exchange, kind, through string) (feed.Feed, bool) {
	for _, row := range h.table.Report().Feeds {
		if row.Exchange == exchange && row.Kind == kind && row.Upstream == through {
			return row, true
		}
	}
	return feed.Feed{}, false
}

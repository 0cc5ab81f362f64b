package tunnel_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
)

// Promise (data path): dials to one dead target do not hold up direct connections
// to the others.
func TestDeadTargetLeavesOthersTheirDials(t *testing.T) {
	t.Parallel()
	hole := netip.MustParseAddrPort(testkit.BlackHole(t)).Port()
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	h := newHost(t, toLoopback)
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 80 {
		all.Go(func() { _ = h.dials(ctx, "127.0.0.1", hole) })
	}
	testkit.Eventually(t, testkit.Patience, "the dead target has all its slots", func() bool { return tunnel.SlotsInUse(h.Handler) == 64 })
	start := time.Now()
	if err := h.dials(t.Context(), "127.0.0.2", netip.MustParseAddrPort(ln.Addr().String()).Port()); err != nil || time.Since(start) > time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	leave()
	all.Wait()
}

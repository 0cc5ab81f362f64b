package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// class is what an error blames.
func class(err error) upstream.Class {
	var r *tunnel.Refusal
	if !errors.As(err, &r) {
		return ""
	}
	return r.Class
}

// What failed counts against the most that may be open no longer.
func TestFailuresGiveTheirPlaceBack(t *testing.T) {
	t.Parallel()
	h := newHost(t, toLoopback+"max_tunnels: 1\n")
	at := testkit.ClosedPort(t)
	r := tunnel.Request{Protocol: "http", Host: "127.0.0.1", Port: netip.MustParseAddrPort(at).Port()}
	for i := range 3 {
		if _, err := h.Open(t.Context(), r); class(err) != upstream.ClassTargetRefused {
			t.Errorf("tunnel %d: %v", i, err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/", at), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.RoundTrip(req, r)
		if err == nil {
			resp.Body.Close()
		}
		if class(err) != upstream.ClassTargetRefused {
			t.Errorf("request %d: %v", i, err)
		}
	}
}

// Who waits in vain for a place among all dials gives back that among its pool's.
func TestPlacesAmongDials(t *testing.T) {
	t.Parallel()
	const ofPool, pools = 64, 4 // which together are all
	echo := testkit.NewTCP(t, testkit.Echo)
	good := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": echo.Addr}})
	silent := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5"})
	silent.SetFault(testkit.On(testkit.AtAccept, testkit.Hang))
	var text strings.Builder
	fmt.Fprintf(&text, "default: direct\nattempt_seconds: 20\npools:\n  good: {proxies: [%q]}\n", good.URL())
	for i := range pools {
		fmt.Fprintf(&text, "  silent%d: {proxies: [%q]}\n", i, silent.URL())
	}
	text.WriteString("routes:\n  - {hosts: [good.example], use: good}\n")
	for i := range pools {
		fmt.Fprintf(&text, "  - {hosts: [silent%d.example], use: silent%d}\n", i, i)
	}
	h := newHost(t, text.String())
	open := func(ctx context.Context, host string) error {
		o, err := h.Open(ctx, tunnel.Request{Protocol: "connect", Host: host, Port: 443})
		if err == nil {
			o.Abandon(nil)
		}
		return err
	}
	var all sync.WaitGroup
	busy, leave := context.WithCancel(t.Context())
	for i := range ofPool * pools {
		all.Go(func() { _ = open(busy, fmt.Sprintf("silent%d.example", i%pools)) })
	}
	testkit.Eventually(t, testkit.Patience, "all places are taken", func() bool { return silent.Accepted() == ofPool*pools })
	var others sync.WaitGroup
	for range ofPool {
		others.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if err := open(ctx, "good.example"); class(err) != upstream.ClassOverload {
				t.Errorf("without a place: %v", err)
			}
		})
	}
	others.Wait()
	leave()
	all.Wait()
	if err := open(t.Context(), "good.example"); err != nil {
		t.Errorf("with all places free: %v", err)
	}
}

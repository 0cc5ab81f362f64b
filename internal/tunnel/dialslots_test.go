package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
)

// class is what an error blames.
func class(err error) failure.Class {
	var r *tunnel.Refusal
	if !errors.As(err, &r) {
		return ""
	}
	return r.Class
}

// What failed counts against the most that may be open no longer.
func TestFailedDialReleasesItsSlot(t *testing.T) {
	t.Parallel()
	h := newHost(t, toLoopback+"max_tunnels: 1\n")
	at := testkit.ClosedPort(t)
	r := tunnel.Request{Protocol: "http", Host: "127.0.0.1", Port: netip.MustParseAddrPort(at).Port()}
	for i := range 4 {
		if _, err := h.Open(t.Context(), r); class(err) != failure.TargetRefused {
			t.Errorf("tunnel %d: %v", i, err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/", at), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, _, err := h.RoundTrip(req, r)
		if err == nil {
			resp.Body.Close()
		}
		if class(err) != failure.TargetRefused {
			t.Errorf("request %d: %v", i, err)
		}
	}
}

// dials opens a tunnel and leaves it at once.
func (h *host) dials(ctx context.Context, host string, port uint16) error {
	o, err := h.Open(ctx, tunnel.Request{Protocol: "connect", Host: host, Port: port})
	if err == nil {
		o.Abandon(nil)
	}
	return err
}

// slowProxy is an upstream that opens a tunnel only after a while.
func slowProxy(t *testing.T, after time.Duration) *testkit.Proxy {
	t.Helper()
	p := testkit.NewProxy(t, testkit.ProxyOptions{})
	p.SetFault(testkit.On(testkit.AtRequest, func(c net.Conn) {
		time.Sleep(after)
		testkit.SayAndHang("HTTP/1.1 200 OK\r\n\r\n")(c)
	}))
	return p
}

// A request that waits in vain among all dials gives back its slot among its
// pool's.
func TestDialSlotOfAPoolIsReleasedWhenAllAreTaken(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	good := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": echo.Addr}})
	silent := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5"})
	silent.SetFault(testkit.On(testkit.AtAccept, testkit.Hang))
	var text strings.Builder
	fmt.Fprintf(&text, "max_dials: 4\ndefault: direct\nattempt_seconds: 20\npools:\n  good: {proxies: [%q]}\n", good.URL())
	for i := range 4 {
		fmt.Fprintf(&text, "  silent%d: {proxies: [%q]}\n", i, silent.URL())
	}
	text.WriteString("routes:\n  - {hosts: [good.example], use: good}\n")
	for i := range 4 {
		fmt.Fprintf(&text, "  - {hosts: [silent%d.example], use: silent%d}\n", i, i)
	}
	h := newHost(t, text.String())
	var all sync.WaitGroup
	busy, leave := context.WithCancel(t.Context())
	for i := range 16 { // a share leaves as many free as it takes: four of them take all
		all.Go(func() { _ = h.dials(busy, fmt.Sprintf("silent%d.example", i%4), 443) })
	}
	testkit.Eventually(t, testkit.Patience, "all slots are taken", func() bool { return silent.Accepted() == 4 })
	var others sync.WaitGroup
	for range 8 {
		others.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if err := h.dials(ctx, "good.example", 443); class(err) != failure.Overload {
				t.Errorf("without a slot: %v", err)
			}
		})
	}
	others.Wait()
	leave()
	all.Wait()
	for range 4 {
		if err := h.dials(t.Context(), "good.example", 443); err != nil {
			t.Errorf("with all slots free: %v", err)
		}
	}
}

// Promise (data path): a client that waited in proxyd's own queue until less than
// a second was left gets `overload` with Retry-After; no upstream, target or
// budget is charged for it.
func TestOverloadAfterWaitForDialSlot(t *testing.T) {
	t.Parallel()
	up := slowProxy(t, 600*time.Millisecond)
	h := newHost(t, fmt.Sprintf("max_dials_per_host: 3\nexchanges: {binance: {url: %q, timeout_seconds: 2, limits: {connects: 100/60s}}}\n", up.URL()))
	var all sync.WaitGroup
	var opened, overload atomic.Int64
	for range 40 {
		all.Go(func() {
			start := time.Now()
			err := h.dials(t.Context(), "api.binance.com", 443)
			var r *tunnel.Refusal
			switch errors.As(err, &r); {
			case err == nil:
				opened.Add(1)
			case r.Class == failure.Overload && r.RetryAfter > 0 && r.Upstream == "" && time.Since(start) < 1900*time.Millisecond:
				overload.Add(1)
			default:
				t.Errorf("after %v: %v (%s, Retry-After %v)", time.Since(start), err, r.Class, r.RetryAfter)
			}
		})
	}
	all.Wait()
	if opened.Load() == 0 || overload.Load() == 0 {
		t.Errorf("%d opened, %d refused: want some of both", opened.Load(), overload.Load())
	}
	s := h.set.Upstreams()[0].Status()
	if len(s.Failures) > 0 || s.Ejection != nil {
		t.Errorf("the upstream is blamed: %v", s.Failures)
	}
	if left := h.set.Budgets().Rows()[0].Remaining; left != 100-int(opened.Load()) {
		t.Errorf("%d of 100 are left after %d connections", left, opened.Load())
	}
}

// The pools whose connections wait for a slot are known while they wait.
func TestDialQueuesCountThoseThatWait(t *testing.T) {
	t.Parallel()
	h := newHost(t, fmt.Sprintf("max_dials_per_host: 2\npools: {asia: {proxies: [\"http://%s\"]}}\nexchanges: {binance: {pool: asia, timeout_seconds: 10}}\n", testkit.SilentListener(t)))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { _ = h.dials(ctx, "api.binance.com", 443) })
	}
	want := []tunnel.DialQueue{{Pool: "asia", Waiting: 3, Dialling: 2}}
	testkit.Eventually(t, testkit.Patience, "three to wait", func() bool { return slices.Equal(h.DialQueues(), want) })
	cancel()
	all.Wait()
	if got := h.DialQueues(); len(got) > 0 {
		t.Errorf("when all have left: %v", got)
	}
}

// An attempt that had but the rest of the time, after a wait here, is no failure
// of the upstream, and its error names the wait.
func TestTimeSpentWaitingIsNotCharged(t *testing.T) {
	t.Parallel()
	up := slowProxy(t, 2600*time.Millisecond)
	h := newHost(t, fmt.Sprintf("attempt_seconds: 5\nmax_dials_per_host: 1\nexchanges: {binance: {url: %q, timeout_seconds: 5}}\n", up.URL()))
	var all sync.WaitGroup
	for range 2 { // the second has 2.4 s left, or a little less; the first has as much to spare on a busy machine
		all.Go(func() {
			switch err := h.dials(t.Context(), "api.binance.com", 443); class(err) {
			case "", failure.Overload:
			case failure.TargetTimeout, failure.UpstreamTimeout:
				if !strings.Contains(err.Error(), "waited here") {
					t.Errorf("nothing is said of the wait: %v", err)
				}
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := h.set.Export()[0].Streak; n > 0 {
		t.Errorf("%d failures are charged", n)
	}
}

// Limits that a reload changes hold from the next request on.
func TestDialSlotsFollowReload(t *testing.T) {
	t.Parallel()
	up := testkit.NewProxy(t, testkit.ProxyOptions{Fault: testkit.On(testkit.AtRequest, testkit.Hang)})
	text := "max_dials_per_host: %d\ndefault: {url: %q, timeout_seconds: 20}\n"
	h := newHost(t, fmt.Sprintf(text, 1, up.URL()))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { _ = h.dials(ctx, "a.example", 443) })
	}
	testkit.Eventually(t, testkit.Patience, "one dials, two wait", func() bool {
		q := h.DialQueues()
		return up.Accepted() == 1 && len(q) == 1 && q[0].Waiting == 2
	})
	h.reload(fmt.Sprintf(text, 10, up.URL()))
	all.Go(func() { _ = h.dials(ctx, "a.example", 443) })
	testkit.Eventually(t, testkit.Patience, "all dial", func() bool { return up.Accepted() == 4 })
	cancel()
	all.Wait()
}

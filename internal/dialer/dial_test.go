package dialer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

func addrs(list ...string) (all []netip.Addr) {
	for _, a := range list {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func portOf(t testing.TB, addr string) uint16 {
	t.Helper()
	return netip.MustParseAddrPort(addr).Port()
}

// listenOn serves a port of another address than the one it is on. It counts.
func listenOn(t testing.TB, host string, port uint16) net.Listener {
	t.Helper()
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), port)))
	if err != nil {
		testkit.Lacks(t, fmt.Sprintf("the address %s: %v", host, err))
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// With the first address silent the second is tried beside it after 250 ms.
func TestRaceFirstAddressSilent(t *testing.T) {
	t.Parallel()
	hole := portOf(t, testkit.BlackHole(t))
	listenOn(t, "::1", hole)
	start := time.Now()
	conn, err := (&Dialer{}).Dial(within(t, testkit.Patience), addrs("127.0.0.1", "::1"), hole)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	took := time.Since(start)
	if conn.RemoteAddr().(*net.TCPAddr).IP.String() != "::1" {
		t.Errorf("connected to %s", conn.RemoteAddr())
	}
	if took < nextAddress || took > 3*time.Second { // a busy machine is slow
		t.Errorf("it took %v, want a little more than 250 ms", took)
	}
}

// With the first address refusing, Dial does not wait.
func TestRaceFirstAddressRefuses(t *testing.T) {
	port := portOf(t, testkit.ClosedPort(t))
	listenOn(t, "::1", port)
	best := time.Hour
	for range 3 { // one may be slow on a busy machine
		start := time.Now()
		conn, err := (&Dialer{}).Dial(within(t, testkit.Patience), addrs("127.0.0.1", "::1"), port)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		best = min(best, time.Since(start))
	}
	if best >= nextAddress {
		t.Errorf("it took %v", best)
	}
}

// The first address wins when it answers, and the others are left alone.
func TestRaceFirstAddressAnswers(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := portOf(t, ln.Addr().String())
	second := listenOn(t, "::1", port).(*net.TCPListener)
	conn, err := (&Dialer{}).Dial(within(t, testkit.Patience), addrs("127.0.0.1", "::1"), port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = second.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if c, err := second.Accept(); err == nil {
		_ = c.Close()
		t.Error("the second address was dialled too")
	}
}

// Every connection that loses the race is closed before the call returns.
func TestRaceLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	hole := portOf(t, testkit.BlackHole(t))
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	_, err := (&Dialer{}).Dial(ctx, addrs("127.0.0.1", "127.0.0.1", "127.0.0.1"), hole)
	if !IsTimeout(err) || time.Since(start) > 2*time.Second {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
}

// The most telling failure is kept, whichever came last.
func TestRaceFailures(t *testing.T) {
	port := portOf(t, testkit.ClosedPort(t))
	for name, list := range map[string][]netip.Addr{
		"refused first": addrs("127.0.0.1", "255.255.255.255"),
		"refused last":  addrs("255.255.255.255", "127.0.0.1"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := (&Dialer{}).Dial(within(t, testkit.Patience), list, port)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestMoreTelling(t *testing.T) {
	refused, unreachable, local := error(syscall.ECONNREFUSED), error(syscall.ENETUNREACH), error(syscall.EADDRNOTAVAIL)
	tests := []struct {
		name       string
		a, b, want error
	}{
		{"the first", nil, local, local},
		{"nothing new", refused, nil, refused},
		{"refused after unreachable", unreachable, refused, refused},
		{"unreachable after refused", refused, unreachable, refused},
		{"a timeout after local", local, context.DeadlineExceeded, context.DeadlineExceeded},
		{"local after a timeout", context.DeadlineExceeded, local, context.DeadlineExceeded},
		{"of the same kind, the last", unreachable, syscall.EHOSTUNREACH, syscall.EHOSTUNREACH},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := moreTelling(tt.a, tt.b); !errors.Is(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A source address has a family; targets of the other one are an error of this machine.
func TestSourceOfAnotherFamily(t *testing.T) {
	d := &Dialer{Source: netip.MustParseAddr("127.0.0.1")}
	_, err := d.Dial(t.Context(), addrs("::1"), 443)
	if !errors.Is(err, errNoFamily) {
		t.Fatalf("got %v", err)
	}
	for name, e := range map[string]*failure.Error{"target": TargetError(err, 0), "upstream": UpstreamError(err, 0)} {
		if e.Class != failure.Local {
			t.Errorf("%s: got %s: %s", name, e.Class, e.Text)
		}
	}
}

// Promise (data path): an address that does not answer, or a machine whose IPv6
// leads nowhere, delays a few connections and not every one.
func TestRaceRemembersSilentAddresses(t *testing.T) {
	t.Parallel()
	hole := portOf(t, testkit.BlackHole(t))
	listenOn(t, "::1", hole)
	now := time.Now()
	r := NewHistory()
	r.now = func() time.Time { return now }
	dial := func() time.Duration {
		t.Helper()
		start := time.Now()
		conn, err := (&Dialer{History: r}).Dial(within(t, testkit.Patience), addrs("127.0.0.1", "::1"), hole)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		return time.Since(start)
	}
	known := func() bool { return min(dial(), dial(), dial()) < nextAddress } // one may be slow on a busy machine
	for range lateAfter {
		if took := dial(); took < nextAddress {
			t.Errorf("before it is known: %v", took)
		}
	}
	if !known() {
		t.Error("it is not known")
	}
	now = now.Add(lateFor)
	if took := dial(); took < nextAddress {
		t.Errorf("it is not tried again: %v", took)
	}
	if !known() {
		t.Error("it is not known again")
	}
}

// What is remembered: addresses and families that lost against others, until
// they answer.
func TestHistoryOrder(t *testing.T) {
	r, d := NewHistory(), &Dialer{}
	order := func(list ...string) string { return fmt.Sprint(r.order(d, addrs(list...))) }
	lose := func(n int, winner string, losers ...string) {
		for range n {
			r.success(d, addrs(winner)[0], addrs(losers...))
		}
	}
	lose(lateAfter-1, "192.0.2.1", "2001:db8::1")
	if got := order("2001:db8::1", "192.0.2.1"); got != "[2001:db8::1 192.0.2.1]" {
		t.Errorf("too early: %s", got)
	}
	lose(1, "192.0.2.9", "2001:db8::2")
	if got := order("2001:db8::7", "192.0.2.1", "2001:db8::8", "192.0.2.2"); got != "[192.0.2.1 192.0.2.2 2001:db8::7 2001:db8::8]" {
		t.Errorf("a family: %s", got)
	}
	other := &Dialer{Interface: "eth1"}
	if got := fmt.Sprint(r.order(other, addrs("2001:db8::7", "192.0.2.1"))); got != "[2001:db8::7 192.0.2.1]" {
		t.Errorf("from another interface: %s", got)
	}
	lose(1, "2001:db8::3")
	if got := order("2001:db8::7", "192.0.2.1"); got != "[2001:db8::7 192.0.2.1]" {
		t.Errorf("after it answered: %s", got)
	}
	lose(lateAfter, "192.0.2.1", "192.0.2.2")
	if got := order("192.0.2.2", "2001:db8::7", "192.0.2.1"); got != "[2001:db8::7 192.0.2.1 192.0.2.2]" {
		t.Errorf("an address: %s", got)
	}
	for i := range 2 * lateEntries {
		r.success(d, addrs("::1")[0], []netip.Addr{netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})})
	}
	if len(r.late) > lateEntries {
		t.Errorf("%d entries", len(r.late))
	}
}

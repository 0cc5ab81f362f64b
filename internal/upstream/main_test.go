package upstream

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxyd/internal/dialer"
	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() == "" {
		_ = flag.Set("test.parallel", "16") // those that are parallel wait for a deadline
	}
	goleak.VerifyTestMain(m)
}

// The target of most tests. No machine here can resolve it.
var venue = Target{Host: "stream.venue.example", Port: 9443}

// at is an address as a target.
func at(addr string) Target {
	a := netip.MustParseAddrPort(addr)
	return Target{Host: a.Addr().String(), IP: a.Addr(), Port: a.Port()}
}

// load builds the set of a file. Names are looked up only in names.
func load(t testing.TB, text string, names map[string]string) *Set {
	t.Helper()
	return reload(t, nil, text, names)
}

// reload is load with the set before.
func reload(t testing.TB, prev *Set, text string, names map[string]string) *Set {
	t.Helper()
	c := testkit.Config(t, text)
	s, err := NewSet(c, prev, func(netip.AddrPort) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	s.shared.resolver = dialer.NewResolver(func(_ context.Context, _, host string) ([]netip.Addr, error) {
		a, ok := names[host]
		if !ok {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	})
	return s
}

// budget is a context with the time that a whole dial may take.
func budget(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// open dials and fails the test when that fails. The connection is closed at the end.
func open(t testing.TB, p *Pool, to Target) *Conn {
	t.Helper()
	conn, err := p.Dial(budget(t, testkit.Patience), to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Conn.Close() })
	return conn
}

// denied dials, wants a failure of this class, and returns it.
func denied(t testing.TB, p *Pool, to Target, d time.Duration, want failure.Class) *failure.Error {
	t.Helper()
	conn, err := p.Dial(budget(t, d), to)
	if err == nil {
		_ = conn.Conn.Close()
		conn.Release()
		t.Fatalf("a connection through %s, want %s", conn.Member.Name(), want)
	}
	var e *failure.Error
	if !errors.As(err, &e) {
		t.Fatalf("got a %T: %v", err, err)
	}
	if e.Class != want {
		t.Fatalf("got %s: %v\nwant %s", e.Class, e, want)
	}
	return e
}

// only is the one pool of a set, beside the direct one.
func only(t testing.TB, s *Set) *Pool {
	t.Helper()
	if len(s.pools) != 1 {
		t.Fatalf("%d pools", len(s.pools))
	}
	for _, p := range s.pools {
		return p
	}
	return nil
}

// pick is the pool's first choice for a target, -1 if no member is usable.
func pick(p *Pool, t Target) int {
	l := selection{shared: p.set.shared, target: &t}
	at, _ := p.pick(&l)
	return at
}

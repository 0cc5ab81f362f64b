package testkit

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
)

// ClosedPort returns an address of this machine where connections are refused
// for as long as the test runs.
func ClosedPort(t testing.TB) string {
	t.Helper()
	// The near end of an established connection holds its port and does not listen.
	c, err := net.Dial("tcp", SilentListener(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.LocalAddr().String()
}

// SilentListener returns an address where the kernel accepts connections
// and no program ever answers.
func SilentListener(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

// Port returns an address's port.
func Port(addr string) string {
	_, port := split(addr)
	return port
}

func split(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	return host, port
}

// FreeAddr returns an address of loopback that nothing listens on, each time another.
// Its port is below those that the system gives to outgoing connections, and so is the
// one 10000 above, which a Redis of a cluster takes too.
func FreeAddr(t testing.TB) string {
	t.Helper()
	const first, ports = 20000, 2700
	for range ports {
		port := strconv.Itoa(first + int((firstPort+portsGiven.Add(1))%ports))
		if ln, err := net.Listen("tcp", "0.0.0.0:"+port); err == nil {
			_ = ln.Close()
			return "127.0.0.1:" + port
		}
	}
	t.Fatal("no port is free")
	return ""
}

var (
	portsGiven atomic.Int64
	firstPort  = rand.Int64N(1 << 20) //nolint:gosec // another one in each process, since several test at the same time
)

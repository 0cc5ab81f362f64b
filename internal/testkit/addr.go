package testkit

import (
	"net"
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

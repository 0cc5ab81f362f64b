package demo

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// An upstream that is down resets what is open and refuses what comes; it is up
// again at the same address.
func TestUpstreamGoesDownAndUpAtItsAddress(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	u := &upstream{name: "tokyo-1", leads: map[string]string{}}
	if err := u.start(ctx, &running); err != nil {
		t.Fatal(err)
	}
	address := u.address
	open := dial(t, address)
	refused := dial(t, address)
	if _, err := io.WriteString(refused, "CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(refused); err != nil || string(answer[:12]) != "HTTP/1.1 403" {
		t.Errorf("a host that is none of the demo's: %q, %v", answer, err)
	}
	u.down()
	u.down() // again: nothing happens
	if _, err := open.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an open connection: %v", err)
	}
	if c, err := net.Dial("tcp", address); err == nil {
		_ = c.Close()
		t.Error("a new connection is accepted")
	} else if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Log(err) // another system's word for it
	}
	if err := errors.Join(u.up(), u.up()); err != nil {
		t.Fatal(err)
	}
	dial(t, address)
}

// dial connects for at most ten seconds.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

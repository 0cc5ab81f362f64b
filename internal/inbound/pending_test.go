package inbound

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
)

// isOpen reports whether the peer has not ended a connection.
func isOpen(t testing.TB, c net.Conn) bool {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// Promise (data path): clients that connect and send nothing, however many,
// keep no other client out, and cost no tunnel.
func TestLongestWaitingConnectionIsEvicted(t *testing.T) {
	t.Parallel()
	const room = 8
	f := newFront(t, local)
	f.server.opts.Room = func() int { return room }
	f.serve()
	target := echo(t)
	works := func(c net.Conn) {
		t.Helper()
		write(t, c, "ping")
		if got := readN(t, c, 4); got != "ping" {
			t.Errorf("the tunnel: %q", got)
		}
	}
	connect := func() net.Conn {
		t.Helper()
		c := f.dial()
		write(t, c, connectTo(target))
		if got := readN(t, c, len(established)); got != established {
			t.Fatalf("got %q", got)
		}
		return c
	}
	first := connect()
	origin := listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	kept := f.dial()
	write(t, kept, "GET http://"+origin+"/ HTTP/1.1\r\nHost: x\r\n\r\n")
	readHeadOf(t, kept)
	arrived := make(chan struct{}, 1)
	silent := listen(t, func(c net.Conn) { arrived <- struct{}{}; _, _ = io.Copy(io.Discard, c) })
	opening := f.dial()
	write(t, opening, "GET ws://"+silent+"/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	<-arrived

	var idle []net.Conn
	for range 3 * room {
		c := f.dial()
		idle = append(idle, c)
		testkit.Eventually(t, 5*time.Second, "the connection is counted", func() bool {
			f.server.mu.Lock()
			defer f.server.mu.Unlock()
			if f.server.waiting.Len() > room {
				t.Errorf("%d connections wait, want at most %d", f.server.waiting.Len(), room)
			}
			last := f.server.waiting.Back()
			return last != nil && last.Value.(*client).addr.String() == c.LocalAddr().String()
		})
	}
	for i, c := range idle {
		if got, want := isOpen(t, c), i >= len(idle)-room; got != want {
			t.Errorf("connection %d of %d: open %v, want %v", i, len(idle), got, want)
		}
	}
	if isOpen(t, kept) {
		t.Error("the kept connection had waited longest, and is open")
	}
	if !isOpen(t, opening) {
		t.Error("a connection whose request was being served is closed")
	}
	works(first)
	works(connect())
	r := f.refused(failure.Overload)
	if r.Client.String() != idle[0].LocalAddr().String() || !strings.Contains(r.Text, "waited longest of 8") {
		t.Errorf("recorded: %v %q", r.Client, r.Text)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.records {
		if r.Event == tunnel.Refused && r.Client.String() == kept.LocalAddr().String() {
			t.Errorf("the end of a kept connection is recorded as a refusal: %q", r.Text)
		}
	}
}

// A connection that was refused waits for its client to leave, and is then no
// more than one that waits.
func TestRefusedConnectionsAreEvicted(t *testing.T) {
	t.Parallel()
	const room = 4
	f := newFront(t, "default: reject")
	f.server.opts.Room = func() int { return room }
	f.serve()
	for range 5 * room { // none of them leaves
		c := f.dial()
		write(t, c, connectTo("a.example:443"))
		if head := readHeadOf(t, c); !strings.HasPrefix(head, "HTTP/1.1 403 ") {
			t.Fatalf("got %q", head)
		}
	}
	testkit.Eventually(t, 5*time.Second, "the first to be gone", func() bool {
		f.server.mu.Lock()
		defer f.server.mu.Unlock()
		return f.server.waiting.Len() <= room && len(f.server.conns) <= room+1
	})
}

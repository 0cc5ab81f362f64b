package admin

import (
	"fmt"
	"net"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// The send buffer holds minutes of a small status: a viewer that takes nothing must
// not keep its slot until it is full.
func TestViewerThatTakesNothingLosesItsSlot(t *testing.T) {
	t.Parallel()
	s := New(wellOptions(t))
	s.streams.dead = time.Second
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }() // ends with Close
	defer func() {
		_ = s.Close()
		<-done
	}()
	for range maxStreams {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.(*net.TCPConn).SetReadBuffer(2048)
		fmt.Fprintf(conn, "GET /api/v1/status HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", ln.Addr())
	}
	testkit.Eventually(t, 5*time.Second, "all have a slot", func() bool { return len(s.streams.slots) == maxStreams })
	testkit.Eventually(t, 20*time.Second, "none has", func() bool { return len(s.streams.slots) == 0 })
}

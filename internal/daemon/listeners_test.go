//go:build unix

package daemon

import (
	"net"
	"testing"
	"time"
)

// A port whose listener was just closed may be held for a moment longer by a
// process that is being started with a copy of the descriptor.
func TestReboundWaitsForPortThatIsStillHeld(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	copied, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	release := time.AfterFunc(100*time.Millisecond, func() { _ = copied.Close() })
	defer release.Stop()
	again, err := rebound(ln.Addr().String(), false)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

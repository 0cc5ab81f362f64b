package relay_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"proxyd/internal/relay"
)

// TestReset: a reset of one side reaches the other as a reset, not as an end
// in order, whatever is under way then.
//
// Promise (data path): a reset of one side reaches the other as a reset, through
// any number of layers of TLS to the upstream.
func TestReset(t *testing.T) {
	t.Parallel()
	for _, k := range allKinds {
		for _, by := range []relay.Side{relay.Client, relay.Server} {
			// What the other side does, and sees, when by resets.
			for name, other := range map[string]func(c net.Conn, resets func()) error{
				"both silent":       waits,
				"the other sends":   sends,
				"the resetter ends": nil,
			} {
				t.Run(fmt.Sprintf("%v, by the %s, %s", k, by, name), func(t *testing.T) {
					t.Parallel()
					rounds := 1
					if name == "the other sends" {
						rounds = 4 // who hears of the reset first, reader or writer, is chance
						if k == allKinds[0] {
							rounds = 30
						}
					}
					for range rounds {
						w := join(t, relay.NewEngine(), k, nil, nil, relay.Options{})
						a, b := w.client, w.server
						if by == relay.Server {
							a, b = b, a
						}
						if other == nil {
							leavesInOrder(t, w, a, b, by)
							continue
						}
						if err := other(b, func() { reset(a) }); !isReset(err) {
							t.Errorf("the other side sees %v, want a reset", err)
						}
						if s := w.ended(t, by, relay.ReasonReset); s.Err == nil {
							t.Error("Stats.Err is nil")
						}
						if t.Failed() {
							return
						}
					}
				})
			}
		}
	}
}

// waits reads until the reset.
func waits(c net.Conn, resets func()) error {
	resets()
	_, err := io.Copy(io.Discard, c)
	if err == nil {
		return io.EOF
	}
	return err
}

// sends writes without end, without a reader. It stands in a write when the
// reset comes, or runs into it: had a FIN come first, that would be EPIPE.
func sends(c net.Conn, resets func()) error {
	block := make([]byte, 64<<10)
	for n := 0; ; n++ {
		if n == 8 {
			go resets() // it only closes
		}
		if _, err := c.Write(block); err != nil {
			return err
		}
	}
}

// leavesInOrder: a has said that it ends, b sends on, and a is no longer there.
// That is how most programs close, and no failure.
func leavesInOrder(t *testing.T, w *wire, a, b conn, by relay.Side) {
	t.Helper()
	_, _ = io.WriteString(a, "bye")
	_ = a.CloseWrite()
	if got, err := io.ReadAll(b); string(got) != "bye" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	reset(a)
	for {
		if _, err := b.Write(make([]byte, 1000)); err != nil {
			break
		}
	}
	if s := w.ended(t, by, relay.ReasonEOF); s.Err != nil {
		t.Errorf("got %+v", s)
	}
}

// A client that resets its connection after the server's end has merely left: who
// ended the flow is the server. The server still sees the reset.
func TestResetByClientAfterServersEndIsTheServersEnd(t *testing.T) {
	t.Parallel()
	w := join(t, relay.NewEngine(), allKinds[0], nil, nil, relay.Options{})
	_ = w.server.CloseWrite()
	if _, err := io.ReadAll(w.client); err != nil {
		t.Fatal(err)
	}
	between := time.Now()
	time.Sleep(20 * time.Millisecond) // the client takes its time
	reset(w.client)
	if err := waits(w.server, func() {}); !isReset(err) {
		t.Errorf("the server sees %v, want a reset", err)
	}
	if s := w.ended(t, relay.Server, relay.ReasonEOF); s.Err != nil || s.At.After(between.Add(10*time.Millisecond)) {
		t.Errorf("got %+v, %v after the end", s, s.At.Sub(between))
	}
}

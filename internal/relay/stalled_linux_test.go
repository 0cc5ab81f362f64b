package relay_test

import (
	"io"
	"testing"

	"proxyd/internal/relay"
)

// TestClientStallsWhileBytesWaitForIt: a flow says that its client does not read while bytes wait
// for it, and only then.
func TestClientStallsWhileBytesWaitForIt(t *testing.T) {
	t.Parallel()
	for _, k := range allKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			w := join(t, relay.NewEngine(), k, nil, nil, relay.Options{Buffer: 1 << 20})
			stalled := w.flow.ClientStalled
			if _, err := w.server.Write([]byte("a message")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the message is written, and nothing waits", func() bool {
				_, down := w.flow.Bytes()
				return down == 9 && !stalled()
			})
			const bulk = 24 << 20
			go func() { _, _ = io.CopyN(w.server, bytesOf(1), bulk) }() // ends with the flow
			eventually(t, "bytes wait for the client", stalled)
			if _, err := io.CopyN(io.Discard, w.client, 9+bulk); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the client has read all", func() bool { return !stalled() })
			go func() { _, _ = io.CopyN(w.client, bytesOf(1), bulk) }() // likewise
			standing(t, w.flow)
			if stalled() {
				t.Error("a server that does not read is taken for a client that does not")
			}
		})
	}
}

// TestStalledClientBeginsWithEarlyBytes: what an upstream sent behind its reply
// may be all that waits.
func TestStalledClientBeginsWithEarlyBytes(t *testing.T) {
	t.Parallel()
	w := join(t, relay.NewEngine(), kinds{"tcp", "tcp"}, nil, make([]byte, 32<<20), relay.Options{})
	eventually(t, "bytes wait for the client", w.flow.ClientStalled)
}

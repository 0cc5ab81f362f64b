package relay_test

import (
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"proxyd/internal/relay"
)

// TestPipeWithBytesInIt: a flow that ends while its pipe holds bytes takes the
// pipe with it, and the next to move bulk sees its own bytes alone.
func TestPipeWithBytesInIt(t *testing.T) {
	e := relay.NewEngine()
	before, _ := descriptors(t)
	for range 20 {
		blocked := join(t, e, allKinds[0], nil, nil, relay.Options{})
		go sends(blocked.client, func() {}) // ends with the flow
		last := int64(-1)
		eventually(t, "nothing moves", func() bool {
			up, _ := blocked.flow.Bytes()
			defer func() { last = up }()
			time.Sleep(10 * time.Millisecond)
			return up > 64<<10 && up == last
		})
		if _, pipes := descriptors(t); pipes < 2 {
			t.Fatal("no pipe: this shows nothing")
		}
		blocked.flow.Close()
		blocked.end(t)
		_, _ = blocked.client.Close(), blocked.server.Close()

		w := roomy(t, e)
		go func() { // ends when all is read, or with the conn
			_, _ = io.CopyN(w.server, bytesOf(4<<20), 4<<20)
			_ = w.server.CloseWrite()
		}()
		if n, err := check(w.client, bytesOf(4<<20), rand.New(rand.NewPCG(1, 1))); n != 4<<20 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		_ = w.client.CloseWrite()
		w.end(t)
		_, _ = w.client.Close(), w.server.Close()
	}
	eventually(t, "at most the free pipe and the event of turns are open", func() bool { now, _ := descriptors(t); return now <= before+3 })
}

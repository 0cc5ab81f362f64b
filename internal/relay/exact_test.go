package relay_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"proxyd/internal/relay"
)

// talker is one far end: what it sends, in pieces and with pauses that its
// random source gives.
type talker struct {
	conn
	rand *rand.Rand
}

// send writes the next total bytes of the stream.
func (k *talker) send(stream io.Reader, total int) error {
	for total > 0 {
		size := 1 << k.rand.IntN(18) // as many of 1 byte as of 128 KiB
		piece := make([]byte, min(total, size/2+1+k.rand.IntN(size)))
		_, _ = io.ReadFull(stream, piece)
		if _, err := k.Write(piece); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		total -= len(piece)
		if k.rand.IntN(8) == 0 {
			time.Sleep(time.Duration(k.rand.IntN(500)) * time.Microsecond)
		}
	}
	return nil
}

var errWrong = errors.New("wrong bytes")

// check reads to the end, in pieces of all sizes, and compares every byte.
func check(c io.Reader, want io.Reader, rnd *rand.Rand) (n int, err error) {
	got, expected := make([]byte, 128<<10), make([]byte, 128<<10)
	for {
		m, err := c.Read(got[:1+rnd.IntN(1<<(1+rnd.IntN(17)))])
		_, _ = io.ReadFull(want, expected[:m])
		if !bytes.Equal(got[:m], expected[:m]) {
			return n, fmt.Errorf("%w within %d behind %d", errWrong, m, n)
		}
		if n += m; errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("read behind %d: %w", n, err)
		}
	}
}

// TestExact: every byte arrives, once and in order, whoever ends first; who
// has not ended sends on after that.
//
// Promise (data path): bytes arrive as they were sent, in any mix of sizes and
// of TLS and TCP.
func TestExact(t *testing.T) {
	t.Parallel()
	for _, k := range allKinds {
		for _, first := range whoEnds {
			for seed := range uint64(2) {
				t.Run(fmt.Sprintf("%v, %s first, seed %d", k, first, seed), func(t *testing.T) {
					t.Parallel()
					exact(t, relay.NewEngine(), k, first, seed, 500_000, 200_000)
				})
			}
		}
	}
}

// BenchmarkExact is the same for as long as one likes: 2 MiB each time, over all
// pairs in turn. 10 GB: go test -run none -bench Exact -benchtime 5000x
func BenchmarkExact(b *testing.B) {
	e := running(b, time.Minute)
	b.SetBytes(2 << 20)
	for i := range b.N {
		exact(b, e, allKinds[i%len(allKinds)], whoEnds[i/len(allKinds)%len(whoEnds)], uint64(i), 800<<10, 224<<10)
	}
}

// whoEnds first; Proxyd: neither waits for the other.
var whoEnds = []relay.Side{relay.Client, relay.Server, relay.Proxyd}

// exact carries before+after bytes in each direction and checks every one. A
// side that is not first to end sends the latter part after the other has
// ended.
func exact(t testing.TB, e *relay.Engine, k kinds, first relay.Side, seed uint64, before, after int) {
	t.Helper()
	w := join(t, e, k, nil, nil, relay.Options{})
	errs := make(chan error, 4)
	run := func(c conn, side relay.Side, mine, others uint64) {
		me := &talker{conn: c, rand: rand.New(rand.NewPCG(mine, 1))}
		heard := make(chan struct{})
		go func() { // ends with the other's end, or when the test closes c
			defer close(heard)
			n, err := check(c, bytesOf(others), rand.New(rand.NewPCG(mine, 2)))
			if want := before + after; err == nil && n != want {
				err = fmt.Errorf("%d bytes, want %d", n, want)
			}
			errs <- err
		}()
		stream := bytesOf(mine)
		err := me.send(stream, before)
		if first != side && first != relay.Proxyd {
			<-heard
		}
		errs <- errors.Join(err, me.send(stream, after), c.CloseWrite())
	}
	go run(w.client, relay.Client, 2*seed+10, 2*seed+11)
	go run(w.server, relay.Server, 2*seed+11, 2*seed+10)
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	s := w.end(t)
	_, _ = w.client.Close(), w.server.Close() // a benchmark's cleanup comes late
	if total := int64(before + after); s.Reason != relay.ReasonEOF || s.Err != nil || s.Up != total || s.Down != total {
		t.Errorf("got %+v", s)
	}
	if first != relay.Proxyd && s.ClosedBy != first {
		t.Errorf("ended by %s", s.ClosedBy)
	}
}

// TestEarlyBytesComeFirst: what was there before the flow comes first, and counts.
func TestEarlyBytesComeFirst(t *testing.T) {
	t.Parallel()
	big := make([]byte, 64<<10)
	_, _ = io.ReadFull(bytesOf(7), big)
	for _, k := range allKinds {
		for _, c := range []struct {
			name            string
			early, toClient []byte
		}{
			{"both", []byte("early "), []byte("banner ")},
			{"early", []byte("early "), nil},
			{"to the client", nil, []byte("banner ")},
			{"64 KiB", big, big},
		} {
			t.Run(fmt.Sprintf("%v, %s", k, c.name), func(t *testing.T) {
				t.Parallel()
				client, nearClient := pair(t, k.client)
				nearServer, server := pair(t, k.server)
				// These lie in the sockets when the flow starts.
				_, _ = io.WriteString(client, "later up")
				_, _ = io.WriteString(server, "later down")
				_, _ = client.CloseWrite(), server.CloseWrite()
				f := relay.NewEngine().Start(nearClient, nearServer, c.early, c.toClient, relay.Options{})
				up, err1 := io.ReadAll(server)
				down, err2 := io.ReadAll(client)
				if want := string(c.early) + "later up"; err1 != nil || string(up) != want {
					t.Errorf("the server got %d bytes (%v), want %d", len(up), err1, len(want))
				}
				if want := string(c.toClient) + "later down"; err2 != nil || string(down) != want {
					t.Errorf("the client got %d bytes (%v), want %d", len(down), err2, len(want))
				}
				if s := f.Wait(); s.Up != int64(len(up)) || s.Down != int64(len(down)) {
					t.Errorf("got %+v, want %d up and %d down", s, len(up), len(down))
				}
			})
		}
	}
}

// TestDeadlines: those that set-up has left on the conns do not hold.
func TestDeadlines(t *testing.T) {
	client, nearClient := pair(t, "tcp")
	nearServer, server := pair(t, "tcp")
	_ = nearClient.SetDeadline(time.Now().Add(-time.Second))
	_ = nearServer.SetDeadline(time.Now().Add(-time.Second))
	f := relay.NewEngine().Start(nearClient, nearServer, nil, nil, relay.Options{})
	for _, c := range []conn{client, server} {
		_, _ = io.WriteString(c, "hello")
		_ = c.CloseWrite()
	}
	if s := f.Wait(); s.Reason != relay.ReasonEOF || s.Up != 5 || s.Down != 5 {
		t.Errorf("got %+v", s)
	}
}

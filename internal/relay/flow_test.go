package relay_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/relay"
)

// pass sends n bytes from one far end to the other and reads them there.
func pass(t testing.TB, from, to net.Conn, n int) {
	t.Helper()
	sent, got := make([]byte, n), make([]byte, n)
	_, _ = io.ReadFull(bytesOf(uint64(n)), sent)
	errs := make(chan error, 1)
	go func() { _, err := from.Write(sent); errs <- err }()
	_ = to.SetReadDeadline(time.Now().Add(patience))
	_, err := io.ReadFull(to, got)
	if err := errors.Join(err, <-errs); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent, got) {
		t.Fatalf("other bytes arrive than %d sent", n)
	}
}

// TestBytesWhileItLives: what has arrived is counted, soon, and nothing else.
func TestBytesWhileItLives(t *testing.T) {
	t.Parallel()
	for _, k := range allKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			w := join(t, relay.NewEngine(), k, nil, nil, relay.Options{})
			var up, down int64
			for _, n := range []int{1, 200, 4 << 10, 64 << 10, 1_000_000, 3} { // the big one is spliced
				pass(t, w.client, w.server, n)
				up += int64(n)
				eventually(t, fmt.Sprint(up, " up, ", down, " down"), func() bool {
					u, d := w.flow.Bytes()
					return u == up && d == down
				})
				pass(t, w.server, w.client, 2*n)
				down += int64(2 * n)
				eventually(t, fmt.Sprint(up, " up, ", down, " down"), func() bool {
					u, d := w.flow.Bytes()
					return u == up && d == down
				})
			}
		})
	}
}

// TestBackPressure: when the reader stops, the writer must, soon. The other
// direction goes on. When the reader reads again, all arrives.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	const total, bound = 24 << 20, 16 << 20 // the flow's own socket buffers may hold 6 MiB and 4
	for _, k := range allKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			w := join(t, relay.NewEngine(), k, nil, nil, relay.Options{})
			_ = bottom(w.client).SetWriteBuffer(64 << 10)
			_ = bottom(w.server).SetReadBuffer(64 << 10)
			var sent atomic.Int64
			errs := make(chan error, 1)
			go func() { // ends when all is read, or with the conn
				stream, block := bytesOf(5), make([]byte, 64<<10)
				for sent.Load() < total {
					_, _ = io.ReadFull(stream, block)
					n, err := w.client.Write(block)
					sent.Add(int64(n))
					if err != nil {
						errs <- err
						return
					}
				}
				errs <- w.client.CloseWrite()
			}()
			last, since := int64(0), time.Now()
			eventually(t, "the writer stands", func() bool {
				if now := sent.Load(); now != last {
					last, since = now, time.Now()
				}
				return last > 0 && time.Since(since) > 300*time.Millisecond
			})
			if last > bound {
				t.Errorf("%d bytes left the writer, and the reader has stopped", last)
			}
			pass(t, w.server, w.client, 100_000)
			n, err := check(w.server, bytesOf(5), rand.New(rand.NewPCG(5, 5)))
			if err := errors.Join(err, <-errs); err != nil || n != total {
				t.Errorf("%d bytes arrive, %v", n, err)
			}
		})
	}
}

// TestClose ends a flow in whatever state it is, and both far ends see it.
func TestClose(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*testing.T, *wire){
		"silent":      func(*testing.T, *wire) {},
		"half-closed": func(_ *testing.T, w *wire) { _ = w.client.CloseWrite() },
		"after bytes": func(t *testing.T, w *wire) { pass(t, w.client, w.server, 1000) },
		"blocked": func(t *testing.T, w *wire) {
			go sends(w.client, func() {})
			last := int64(-1)
			eventually(t, "nothing moves", func() bool {
				up, _ := w.flow.Bytes()
				defer func() { last = up }()
				time.Sleep(50 * time.Millisecond)
				return up > 64<<10 && up == last
			})
		},
	} {
		for _, k := range allKinds {
			t.Run(name+", "+k.String(), func(t *testing.T) {
				t.Parallel()
				w := join(t, relay.NewEngine(), k, nil, nil, relay.Options{})
				before(t, w)
				w.flow.Close()
				w.flow.Close()
				w.ended(t, relay.Proxyd, relay.ReasonClosed)
				for _, c := range []conn{w.client, w.server} {
					_ = c.SetReadDeadline(time.Now().Add(patience))
					if _, err := io.Copy(io.Discard, c); errors.Is(err, errTimeout) {
						t.Error("a far end is not closed")
					}
				}
				w.flow.Close()
				if len(w.done) > 0 {
					t.Error("Done was called twice")
				}
			})
		}
	}
}

// TestWait: any number may wait, before the end and behind it; none returns
// before Done has returned.
func TestWait(t *testing.T) {
	var over atomic.Bool
	client, nearClient := pair(t, "tcp")
	nearServer, server := pair(t, "tcp")
	f := relay.NewEngine().Start(nearClient, nearServer, nil, nil, relay.Options{Done: func(relay.Stats) {
		time.Sleep(20 * time.Millisecond)
		over.Store(true)
	}})
	want := relay.Stats{Up: 3, Down: 4, ClosedBy: relay.Server, Reason: relay.ReasonEOF}
	wait := func() {
		got := f.Wait()
		if got.At.IsZero() {
			t.Error("when it ended is missing")
		}
		if got.At = want.At; got != want || !over.Load() {
			t.Errorf("got %+v, Done returned: %t; want %+v", got, over.Load(), want)
		}
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(wait)
	}
	_, _ = io.WriteString(server, "down")
	_ = server.CloseWrite()
	if got, err := io.ReadAll(client); string(got) != "down" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	_, _ = io.WriteString(client, "up.")
	_ = client.CloseWrite()
	all.Wait()
	wait()
}

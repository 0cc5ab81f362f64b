package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"proxyd/internal/relay"
)

// A flow that is frozen and resumed again and again, from one engine to
// another, at any moment, carries the same bytes as one that is left alone:
// small messages, bulk through pipes, readers that stand, a side that has ended.
func TestFreezeAndResume(t *testing.T) {
	t.Parallel()
	const total = 24 << 20
	for name, slow := range map[string]time.Duration{"readers that are quick": 0, "readers that stand now and then": 2 * time.Millisecond} {
		for _, early := range []relay.Side{relay.Proxyd, relay.Client} { // who ends long before the other
			t.Run(fmt.Sprintf("%s, %s ends early", name, early), func(t *testing.T) {
				t.Parallel()
				engines := []*relay.Engine{running(t, time.Minute), running(t, time.Minute)}
				w := join(t, engines[0], kinds{"tcp", "tcp"}, nil, nil, relay.Options{})
				errs := make(chan error, 4)
				run := func(c conn, mine, others uint64, n, wanted int) {
					me := &talker{conn: c, rand: rand.New(rand.NewPCG(mine, 1))}
					go func() { // ends with the other's end
						got, err := check(&pausing{c, slow, rand.New(rand.NewPCG(mine, 3))}, bytesOf(others), rand.New(rand.NewPCG(mine, 2)))
						if err == nil && got != wanted {
							err = fmt.Errorf("%d bytes, want %d", got, wanted)
						}
						errs <- err
					}()
					errs <- errors.Join(me.send(bytesOf(mine), n), c.CloseWrite())
				}
				up := total
				if early == relay.Client {
					up = 1 << 10
				}
				go run(w.client, 1, 2, up, total)
				go run(w.server, 2, 1, total, up)
				rnd := rand.New(rand.NewPCG(9, 9))
				moves := 0
				for ; moves < 200; moves++ {
					time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond)
					s, err := w.flow.Freeze(t.Context())
					if errors.Is(err, relay.ErrEnded) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					if len(w.done) > 0 {
						t.Fatal("Done was called for a frozen flow")
					}
					w.flow = engines[(moves+1)%2].Resume(s)
				}
				for range cap(errs) {
					if err := <-errs; err != nil {
						t.Error(err)
					}
				}
				if s := w.end(t); s.Reason != relay.ReasonEOF || s.Up != int64(up) || s.Down != total {
					t.Errorf("got %+v", s)
				}
				if moves < 5 {
					t.Errorf("it was moved %d times", moves)
				}
				t.Logf("moved %d times", moves)
			})
		}
	}
}

// pausing is a reader that stands still now and then, so that both socket
// buffers behind it fill.
type pausing struct {
	conn
	pause time.Duration
	rand  *rand.Rand
}

// Read reads, often after a pause.
func (p *pausing) Read(b []byte) (int, error) {
	if p.pause > 0 && p.rand.IntN(16) == 0 {
		time.Sleep(p.pause)
	}
	return p.conn.Read(b)
}

func TestFreezeOfAnIdleFlow(t *testing.T) {
	t.Parallel()
	e := relay.NewEngine()
	w := join(t, e, kinds{"tcp", "tcp"}, nil, nil, relay.Options{})
	_, _ = w.client.Write([]byte("ping"))
	read(t, w.server, "ping")
	s, err := w.flow.Freeze(t.Context())
	if err != nil || s.Up.Count != 4 || s.Down.Count != 0 || s.Up.Ended || s.Down.Ended || len(s.Up.Rest)+len(s.Down.Rest) > 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	w.flow.Close() // the conns are no longer its own
	if _, err := w.flow.Freeze(t.Context()); !errors.Is(err, relay.ErrEnded) {
		t.Errorf("frozen twice: %v", err)
	}
	_, _ = w.client.Write([]byte("meanwhile"))
	w.flow = e.Resume(s)
	read(t, w.server, "meanwhile")
	_, _ = w.server.Write([]byte("pong"))
	read(t, w.client, "pong")
	_ = w.client.CloseWrite()
	_ = w.server.CloseWrite()
	if s := w.end(t); s.Up != 13 || s.Down != 4 {
		t.Errorf("%+v", s)
	}
}

// What an ended flow, a context that has ended, or TLS in this process gives.
func TestFreezeRefused(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	w := join(t, relay.NewEngine(), kinds{"tcp", "tcp"}, nil, nil, relay.Options{})
	if _, err := w.flow.Freeze(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	w.flow.Close()
	w.end(t)
	if _, err := w.flow.Freeze(t.Context()); !errors.Is(err, relay.ErrEnded) {
		t.Errorf("an ended flow: %v", err)
	}
	w = join(t, relay.NewEngine(), kinds{"tcp", "tls"}, nil, nil, relay.Options{})
	if _, err := w.flow.Freeze(t.Context()); !errors.Is(err, relay.ErrCannotFreeze) {
		t.Errorf("TLS: %v", err)
	}
	_, _ = w.client.Write([]byte("goes on"))
	read(t, w.server, "goes on")
}

func read(t *testing.T, c conn, want string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, len(want))
	for n := 0; n < len(b); {
		m, err := c.Read(b[n:])
		if err != nil {
			t.Fatalf("%q, %v, want %q", b[:n], err, want)
		}
		n += m
	}
	if string(b) != want {
		t.Fatalf("%q, want %q", b, want)
	}
}

package relay_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"proxyd/internal/relay"
)

// drip sends n bytes from one end to the other every few milliseconds until
// the test or the flow ends.
func drip(t *testing.T, from, to net.Conn, n int) {
	var over sync.WaitGroup
	over.Go(func() {
		for {
			if _, err := from.Write(make([]byte, n)); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	over.Go(func() { _, _ = io.Copy(io.Discard, to) })
	t.Cleanup(func() {
		_, _ = from.Close(), to.Close()
		over.Wait()
	})
}

func up(n int) func(*testing.T, *wire) {
	return func(t *testing.T, w *wire) { drip(t, w.client, w.server, n) }
}

func down(n int) func(*testing.T, *wire) {
	return func(t *testing.T, w *wire) { drip(t, w.server, w.client, n) }
}

func clientEnds(_ *testing.T, w *wire) { _ = w.client.CloseWrite() }
func serverEnds(_ *testing.T, w *wire) { _ = w.server.CloseWrite() }
func silence(*testing.T, *wire)        {}

// halfAndDown: the client has ended and the server sends on.
func halfAndDown(t *testing.T, w *wire) { clientEnds(t, w); down(10)(t, w) }
func halfAndUp(t *testing.T, w *wire)   { serverEnds(t, w); up(10)(t, w) }

// noReader: the server sends, and the client's socket is full.
func noReader(_ *testing.T, w *wire)   { go sends(w.server, func() {}) }
func serverDeaf(_ *testing.T, w *wire) { go sends(w.client, func() {}) }

// TestLimits: each ends a flow that is past it, in time, and no other.
func TestLimits(t *testing.T) {
	t.Parallel()
	const (
		short = 100 * time.Millisecond
		// A flow that stays must outlive this; its limit leaves room for a busy machine.
		long, watch = 600 * time.Millisecond, time.Second
		lives       = relay.Reason("")
	)
	var (
		engine = running(t, time.Hour)
		names  []string
		checks []func(*testing.T)
	)
	for _, c := range []struct {
		name   string
		limits relay.Options
		what   func(*testing.T, *wire)
		want   relay.Reason
	}{
		{"no limit, silent", relay.Options{}, silence, lives},
		{"no limit, half-closed", relay.Options{}, clientEnds, lives},
		{"no limit, no reader", relay.Options{}, noReader, lives},

		{"idle, silent", relay.Options{Idle: short}, silence, relay.ReasonIdle},
		{"idle, half-closed", relay.Options{Idle: short}, serverEnds, relay.ReasonIdle},
		{"idle, no reader", relay.Options{Idle: short}, noReader, relay.ReasonIdle},
		{"idle, the server does not read", relay.Options{Idle: short}, serverDeaf, relay.ReasonIdle},
		{"idle, bytes up", relay.Options{Idle: long}, up(1), lives},
		{"idle, bytes down", relay.Options{Idle: long}, down(1), lives},

		{"half-close, both open", relay.Options{HalfClose: short}, silence, lives},
		{"half-close, bytes and both open", relay.Options{HalfClose: short}, down(10), lives},
		{"half-close, client", relay.Options{HalfClose: short}, clientEnds, relay.ReasonHalf},
		{"half-close, server", relay.Options{HalfClose: short}, serverEnds, relay.ReasonHalf},
		{"half-close, client, bytes down", relay.Options{HalfClose: short}, halfAndDown, relay.ReasonHalf},
		{"half-close, server, bytes up", relay.Options{HalfClose: short}, halfAndUp, relay.ReasonHalf},
		{"half-close, in time", relay.Options{HalfClose: 10 * watch}, halfAndDown, lives},

		{"stall, silent", relay.Options{Stall: short, StallBytes: 1}, silence, relay.ReasonStall},
		{"stall, only bytes up", relay.Options{Stall: short, StallBytes: 1}, up(1000), relay.ReasonStall},
		{"stall, too few", relay.Options{Stall: short, StallBytes: 100_000}, down(10), relay.ReasonStall},
		{"stall, enough", relay.Options{Stall: long, StallBytes: 100}, down(100), lives},
		{"stall, no reader", relay.Options{Stall: short, StallBytes: 1 << 30}, noReader, relay.ReasonStall},
	} {
		for _, k := range []kinds{{"tcp", "tcp"}, {"tls", "tls"}} {
			w := join(t, engine, k, nil, nil, c.limits)
			start := time.Now()
			c.what(t, w)
			checks = append(checks, func(t *testing.T) {
				if c.want != lives {
					w.ended(t, relay.Proxyd, c.want)
					return
				}
				select {
				case s := <-w.done:
					t.Errorf("ended: %+v", s)
				case <-time.After(time.Until(start.Add(watch))):
				}
			})
			names = append(names, c.name+", "+k.String())
		}
	}
	for i, check := range checks { // all run already, so that they wait at once
		t.Run(names[i], check)
	}
}

// TestLimitClosesBothEnds: a limit leaves neither side waiting.
func TestLimitClosesBothEnds(t *testing.T) {
	t.Parallel()
	for _, k := range allKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			w := join(t, running(t, time.Hour), k, nil, nil, relay.Options{Idle: 50 * time.Millisecond})
			for _, c := range []conn{w.client, w.server} {
				_ = c.SetReadDeadline(time.Now().Add(patience))
				if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
					t.Errorf("read %d, %v", n, err)
				}
			}
			w.ended(t, relay.Proxyd, relay.ReasonIdle)
		})
	}
}

// TestLivingPeerStays: who does not read, but whose system answers, is alive.
//
// Promise (data path): a client that does not read, on a path that works, keeps its tunnel.
func TestLivingPeerStays(t *testing.T) {
	t.Parallel()
	// After 0.7 s the kernel probes and gets no answer, as its answers are half a
	// second apart; that of 1.5 s is answered. So it is 1.3 s without one, and well.
	w := join(t, running(t, 1200*time.Millisecond), allKinds[0], nil, nil, relay.Options{})
	const total = 32 << 20
	errs := make(chan error, 1)
	go func() {
		_, err := w.server.Write(make([]byte, total))
		errs <- errors.Join(err, w.server.CloseWrite())
	}()
	select {
	case s := <-w.done:
		t.Fatalf("ended: %+v", s)
	case <-time.After(2 * time.Second):
	}
	n, err := io.Copy(io.Discard, w.client)
	if err := errors.Join(err, <-errs); n != total || err != nil {
		t.Errorf("%d bytes arrive, %v", n, err)
	}
}

package e2e

import (
	be "encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// feed is a tunnel that carries numbered frames to an echo and back.
type feed struct {
	conn   *testkit.Conn
	frames uint64
	gap    time.Duration // the longest from one answer to the next
	err    error
}

// feeds are many of them, each at its own pace.
type feeds struct {
	all  []*feed
	stop chan struct{}
	done sync.WaitGroup
}

// startFeeds opens n tunnels to an echo through addr, by turns in each of the
// protocols, and has each send a frame every so often until end is called.
func startFeeds(t *testing.T, addr, echo string, n int, every time.Duration, protocols ...testkit.Protocol) *feeds {
	t.Helper()
	f := &feeds{stop: make(chan struct{})}
	for i := range n {
		c, reply := testkit.Open(t, addr, testkit.Ask{Protocol: protocols[i%len(protocols)], Target: echo})
		if !reply.OK {
			t.Fatalf("feed %d: %v", i, reply)
		}
		f.all = append(f.all, &feed{conn: c})
	}
	for i, one := range f.all {
		f.done.Go(func() { one.run(uint64(i)<<32, every, f.stop) })
	}
	return f
}

// run sends frames and wants each back, whole and in order.
func (f *feed) run(from uint64, every time.Duration, stop <-chan struct{}) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	_ = f.conn.SetDeadline(time.Time{})
	frame, back := make([]byte, 64), make([]byte, 64)
	for last := time.Now(); ; f.frames++ {
		be.BigEndian.PutUint64(frame, from+f.frames)
		if _, f.err = f.conn.TCPConn.Write(frame); f.err != nil {
			return
		}
		_ = f.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, f.err = io.ReadFull(f.conn, back); f.err != nil {
			return
		}
		if got := be.BigEndian.Uint64(back); got != from+f.frames {
			f.err = fmt.Errorf("frame %x came in the place of %x", got, from+f.frames)
			return
		}
		now := time.Now()
		f.gap, last = max(f.gap, now.Sub(last)), now
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
	}
}

// end stops the feeds and fails the test for each that was cut or altered. It
// gives the frames carried, and the longest gaps, the longest last.
func (f *feeds) end(t *testing.T) (frames uint64, gaps []time.Duration) {
	t.Helper()
	close(f.stop)
	f.done.Wait()
	for i, one := range f.all {
		if one.err != nil {
			t.Errorf("feed %d after %d frames: %v", i, one.frames, one.err)
		}
		frames += one.frames
		gaps = append(gaps, one.gap)
		one.conn.CloseWrite()
		if rest, err := io.ReadAll(one.conn); len(rest) > 0 || err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("feed %d: %d more bytes came at its end, %v", i, len(rest), err)
		}
		_ = one.conn.Close()
	}
	return frames, gaps
}

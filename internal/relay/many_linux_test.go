package relay_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/relay"
)

// descriptors counts those of this process, and those of pipes among them.
func descriptors(t testing.TB) (all, pipes int) {
	t.Helper()
	list, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		to, err := os.Readlink(f)
		if err != nil {
			continue // closed meanwhile
		}
		all++
		if strings.HasPrefix(to, "pipe:") {
			pipes++
		}
	}
	return all, pipes
}

// TestManyFlowsLeaveNothing: 500 flows end for every reason, and neither goroutine
// nor descriptor stays.
func TestManyFlowsLeaveNothing(t *testing.T) {
	fdsBefore, pipesBefore := descriptors(t)
	goroutinesBefore := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	e := relay.NewEngine()
	e.Tick = time.Millisecond
	over := make(chan error, 1)
	go func() { over <- e.Run(ctx) }()
	const n = 500
	wires := make([]*wire, n)
	for i := range wires {
		wires[i] = join(t, e, allKinds[0], nil, nil, relay.Options{})
	}
	for _, w := range wires {
		pass(t, w.client, w.server, 1000)
	}
	if _, pipes := descriptors(t); pipes > pipesBefore {
		t.Errorf("%d descriptors of pipes, %d before, and no bulk", pipes, pipesBefore)
	}
	pass(t, wires[0].server, wires[0].client, 4<<20) // takes a pipe
	for i, w := range wires {
		switch i % 4 {
		case 0:
			_, _ = w.client.CloseWrite(), w.server.CloseWrite()
		case 1:
			reset(w.client)
		case 2:
			reset(w.server)
		case 3:
			w.flow.Close()
		}
	}
	for _, w := range wires {
		w.end(t)
		_, _ = w.client.Close(), w.server.Close()
	}
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventually(t, "no goroutine more than before", func() bool { return runtime.NumGoroutine() <= goroutinesBefore })
	eventually(t, "no descriptor more than before", func() bool { now, _ := descriptors(t); return now <= fdsBefore })
}

// TestBulkOnManyFlows: 40 flows move bulk at once with 16 pipes at most, and
// every byte is right, spliced or copied. One of them moves 64 MiB. No side reads
// before all stand, so that all want a pipe at once.
func TestBulkOnManyFlows(t *testing.T) {
	_, before := descriptors(t)
	e := running(t, time.Hour) // it gives the pipes back at its end
	var wires []*wire
	var most atomic.Int64
	var flows, watch sync.WaitGroup
	full, over := make(chan struct{}), make(chan struct{})
	watch.Go(func() {
		for {
			_, now := descriptors(t)
			most.Store(max(most.Load(), int64(now-before)))
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	for i := range 40 {
		total, w := 2<<20, (*wire)(nil)
		if i == 0 {
			total, w = 64<<20, join(t, e, allKinds[0], nil, nil, relay.Options{})
		} else {
			w = roomy(t, e)
		}
		wires = append(wires, w)
		flows.Go(func() { bulk(t, w.server, total, uint64(i)) })
		flows.Go(func() {
			<-full
			_ = w.client.CloseWrite()
			n, err := check(w.client, bytesOf(uint64(i)), rand.New(rand.NewPCG(1, uint64(i))))
			if n != total || err != nil {
				t.Errorf("flow %d: %d bytes of %d, %v", i, n, total, err)
			}
		})
	}
	eventually(t, "16 pipes are taken", func() bool { return most.Load() >= 2*16 })
	close(full)
	flows.Wait()
	close(over)
	watch.Wait()
	for _, w := range wires {
		if s := w.end(t); s.Reason != relay.ReasonEOF {
			t.Errorf("got %+v", s)
		}
	}
	if n := most.Load(); n != 2*16 {
		t.Errorf("%d descriptors of pipes at most, want 32", n)
	}
}

// roomy is a flow whose client's side takes enough for the flow to see bulk, and
// not all of 2 MiB.
func roomy(t *testing.T, e *relay.Engine) *wire {
	w := &wire{done: make(chan relay.Stats, 2)}
	var nearClient, nearServer conn
	w.client, nearClient = pair(t, "tcp")
	nearServer, w.server = pair(t, "tcp")
	_ = bottom(nearClient).SetWriteBuffer(256 << 10)
	_ = bottom(w.client).SetReadBuffer(256 << 10)
	w.flow = e.Start(nearClient, nearServer, nil, nil, relay.Options{Done: func(s relay.Stats) { w.done <- s }})
	t.Cleanup(w.flow.Close)
	return w
}

// bulk writes in big blocks, so that the socket never runs dry.
func bulk(t *testing.T, c net.Conn, total int, seed uint64) {
	stream, block := bytesOf(seed), make([]byte, 1<<20)
	for sent := 0; sent < total; sent += len(block) {
		_, _ = io.ReadFull(stream, block)
		if _, err := c.Write(block); err != nil {
			t.Error(err)
			return
		}
	}
	_ = c.(conn).CloseWrite()
}

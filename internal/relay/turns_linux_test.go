package relay_test

import (
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/relay"
)

// noted is a conn that runs first before the first write to it.
type noted struct {
	net.Conn
	once  sync.Once
	first func()
}

// Write passes on.
func (n *noted) Write(p []byte) (int, error) {
	n.once.Do(n.first)
	return n.Conn.Write(p)
}

// fill writes until no more fits without a reader, and returns how much did.
func fill(t *testing.T, c net.Conn) (filled int) {
	t.Helper()
	block := make([]byte, 256<<10)
	for {
		_ = c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		n, err := c.Write(block)
		filled += n
		if err != nil {
			return filled
		}
	}
}

// TestBulkLetsMessagesThrough: while one tunnel has more to move than a turn,
// another whose bytes arrive meanwhile is served before that is done.
//
// Promise (data path): a message on one tunnel does not wait for the bulk on
// another, even with one processor.
//
//nolint:paralleltest // it takes all processors but one away
func TestBulkLetsMessagesThrough(t *testing.T) {
	const most = 5 << 19 // two turns, each with a full pipe at its end
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, k := range []kinds{{"tcp", "tcp"}, {"tls", "tcp"}} {
		t.Run(k.String(), func(t *testing.T) {
			e := relay.NewEngine()
			// What the bulk flow writes is what the other one reads: it becomes
			// ready with the first bytes, for the kernel; the scheduler has yet to ask.
			source, nearClient := pair(t, k.client)
			nearServer, between := pair(t, k.server)
			there, end := pair(t, "tcp")
			var bulk atomic.Pointer[relay.Flow]
			seen := make(chan int64, 1)
			sink := &noted{Conn: there, first: func() {
				var up int64
				if f := bulk.Load(); f != nil {
					up, _ = f.Bytes()
				}
				seen <- up
			}}
			filled := fill(t, source)
			if filled < most+most/5 {
				t.Skipf("the kernel takes %d bytes ahead, which is too few", filled)
			}
			messages := e.Start(between, sink, nil, nil, relay.Options{})
			defer messages.Close()
			go func() { _, _ = io.Copy(io.Discard, end) }() // ends with the flow
			runtime.Gosched()                               // until messages waits
			bulk.Store(e.Start(nearClient, nearServer, nil, nil, relay.Options{}))
			defer bulk.Load().Close()
			if up := <-seen; up > most {
				t.Errorf("%d bytes of bulk before the first message, want %d at most", up, most)
			}
		})
	}
}

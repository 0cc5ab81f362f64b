package relay_test

import (
	"io"
	"net"
	"runtime"
	"sync"
	"testing"

	"proxyd/internal/relay"
)

// inUse is what heap and stacks hold.
func inUse() int64 {
	runtime.GC()
	runtime.GC() // a pool lets go at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestIdleHoldsNoBuffer: what bytes have passed through, a flow that waits has
// given back: after a collection between its messages too, when the pool no
// longer has the same buffer for all.
func TestIdleHoldsNoBuffer(t *testing.T) {
	const n, most = 30, 24 << 10 // a buffer is 64 KiB
	e := relay.NewEngine()
	for _, early := range []int{0, 60_000} {
		var far [][2]conn
		before := inUse()
		for range n {
			client, nearClient := pair(t, "tcp")
			nearServer, server := pair(t, "tcp")
			f := e.Start(nearClient, nearServer, make([]byte, early), make([]byte, early), relay.Options{})
			t.Cleanup(f.Close)
			far = append(far, [2]conn{client, server})
			for _, c := range far[len(far)-1] {
				if _, err := io.ReadFull(c, make([]byte, early)); err != nil {
					t.Fatal(err)
				}
			}
			pass(t, client, server, 1000)
			pass(t, server, client, 1000)
			runtime.GC()
			runtime.GC()
		}
		if held := (inUse() - before) / n; held > most {
			t.Errorf("%d bytes a flow, with %d early bytes", held, early)
		}
		runtime.KeepAlive(far)
	}
}

// BenchmarkIdleFlow measures what a flow holds while it waits, after bytes have
// passed in both directions: heap, and the stacks of its two goroutines. With
// TLS, the sessions' buffers at both far ends are in it.
func BenchmarkIdleFlow(b *testing.B) {
	for _, k := range []kinds{{"tcp", "tcp"}, {"tcp", "tls"}} {
		b.Run("relay, "+k.String(), func(b *testing.B) {
			e := relay.NewEngine()
			idle(b, k, func(client, server net.Conn) (end func()) {
				f := e.Start(client, server, nil, nil, relay.Options{})
				return func() { f.Close(); f.Wait() }
			})
		})
		b.Run("io.Copy, "+k.String(), func(b *testing.B) {
			idle(b, k, func(client, server net.Conn) (end func()) {
				var over sync.WaitGroup
				over.Go(func() { _, _ = io.Copy(server, client) })
				over.Go(func() { _, _ = io.Copy(client, server) })
				return func() { _, _ = client.Close(), server.Close(); over.Wait() }
			})
		})
	}
}

func idle(b *testing.B, k kinds, join func(client, server net.Conn) (end func())) {
	const n = 300
	var total int64
	for range b.N {
		var far, near [][2]conn
		for range n {
			client, nearClient := pair(b, k.client)
			nearServer, server := pair(b, k.server)
			far, near = append(far, [2]conn{client, server}), append(near, [2]conn{nearClient, nearServer})
		}
		before := inUse()
		ends := make([]func(), n)
		for i, c := range near {
			ends[i] = join(c[0], c[1])
			pass(b, far[i][0], far[i][1], 3000)
			pass(b, far[i][1], far[i][0], 3000)
			if i%10 == 0 {
				runtime.GC() // as there are between the messages of a long life
			}
		}
		total += inUse() - before
		for i, c := range far {
			ends[i]()
			_, _ = c[0].Close(), c[1].Close()
		}
	}
	b.ReportMetric(float64(total)/float64(b.N*n), "B/flow")
	b.ReportMetric(0, "ns/op") // says nothing here
}

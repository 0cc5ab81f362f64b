package relay_test

import (
	"io"
	"net"
	"sync"
	"testing"

	"proxyd/internal/relay"
)

// compare runs one workload through a flow and through the plain pair of
// io.Copy that it replaces. The far ends cost as much in both.
func compare(b *testing.B, work func(b *testing.B, client, server conn)) {
	b.Run("relay", func(b *testing.B) {
		w := join(b, relay.NewEngine(), allKinds[0], nil, nil, relay.Options{})
		work(b, w.client, w.server)
	})
	b.Run("io.Copy", func(b *testing.B) {
		client, nearClient := pair(b, "tcp")
		nearServer, server := pair(b, "tcp")
		var over sync.WaitGroup
		for _, d := range []struct{ from, to net.Conn }{{nearClient, nearServer}, {nearServer, nearClient}} {
			over.Go(func() { _, _ = io.Copy(d.to, d.from) })
		}
		work(b, client, server)
		_, _ = client.Close(), server.Close()
		over.Wait()
	})
}

func move(b *testing.B, from, to net.Conn, p []byte) {
	if _, err := from.Write(p); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(to, p); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkMessages: 200 bytes in one direction, each alone.
func BenchmarkMessages(b *testing.B) {
	compare(b, func(b *testing.B, client, server conn) {
		p := make([]byte, 200)
		b.ReportAllocs()
		for b.Loop() {
			move(b, server, client, p)
		}
	})
}

// BenchmarkPingPong: 200 bytes there and back.
func BenchmarkPingPong(b *testing.B) {
	compare(b, func(b *testing.B, client, server conn) {
		p := make([]byte, 200)
		b.ReportAllocs()
		for b.Loop() {
			move(b, client, server, p)
			move(b, server, client, p)
		}
	})
}

// BenchmarkBulk: 1 MiB an operation, as fast as it goes.
func BenchmarkBulk(b *testing.B) {
	compare(b, func(b *testing.B, client, server conn) {
		const size = 1 << 20
		var over sync.WaitGroup
		b.SetBytes(size)
		b.ReportAllocs()
		written := make(chan struct{})
		over.Go(func() { // ends with the last request
			block := make([]byte, size)
			for range written {
				_, _ = server.Write(block)
			}
		})
		got := make([]byte, size)
		for b.Loop() {
			written <- struct{}{}
			if _, err := io.ReadFull(client, got); err != nil {
				b.Fatal(err)
			}
		}
		close(written)
		over.Wait()
	})
}

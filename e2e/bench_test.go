package e2e

import (
	"io"
	"net"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// connectProxy answers every CONNECT with 200 and echoes.
func connectProxy(b *testing.B) string {
	b.Helper()
	return testkit.NewTCP(b, func(c net.Conn) {
		var buf [4096]byte
		if n, err := c.Read(buf[:]); err != nil || !strings.HasSuffix(string(buf[:n]), "\r\n\r\n") {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		for {
			n, err := c.Read(buf[:])
			if err != nil {
				return
			}
			_, _ = c.Write(buf[:n])
		}
	}).Addr
}

const connectLine = "CONNECT api.binance.com:443 HTTP/1.1\r\nHost: api.binance.com:443\r\n\r\n"

// open makes one tunnel.
func open(b *testing.B, addr string) net.Conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		return nil
	}
	_, _ = io.WriteString(c, connectLine)
	var buf [64]byte
	if n, err := c.Read(buf[:]); err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 200 ") {
		b.Errorf("%q, %v", buf[:n], err)
	}
	return c
}

// A tunnel by CONNECT through an HTTP upstream, opened and closed. Client and
// upstream run in the same process: about half of the work is theirs.
func BenchmarkSetup(b *testing.B) {
	addr := start(b, "log: {level: warn}\ndefault: http://"+connectProxy(b)+"\n").Addr
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if c := open(b, addr); c != nil {
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			}
		}
	})
}

// A message of 200 bytes there and back through one tunnel.
func BenchmarkPingPong(b *testing.B) {
	addr := start(b, "log: {level: warn}\ndefault: http://"+connectProxy(b)+"\n").Addr
	c := open(b, addr)
	defer c.Close()
	message := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.Write(message)
		if _, err := io.ReadFull(c, message); err != nil {
			b.Fatal(err)
		}
	}
}

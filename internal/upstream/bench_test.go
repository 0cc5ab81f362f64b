package upstream

import (
	"io"
	"net"
	"testing"

	"proxyd/internal/testkit"
)

// BenchmarkPoolDial measures a whole way: choice of the member, TCP, handshake
// and release. The far ends are in this process and take their share of it.
func BenchmarkPoolDial(b *testing.B) {
	echo := testkit.NewTCP(b, func(c net.Conn) {})
	proxy := func(say ...step) string {
		return testkit.NewTCP(b, func(c net.Conn) {
			buf := make([]byte, 512)
			for _, s := range say {
				if _, err := io.ReadAtLeast(c, buf, len(s.hear)); err != nil {
					return
				}
				_, _ = io.WriteString(c, s.say)
			}
			_, _ = c.Read(buf)
		}).Addr
	}
	reply := "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	tests := []struct{ name, text string }{
		{"direct", "allow_private: [127.0.0.0/8]\ndefault: direct\n"},
		{"http", "default: http://" + proxy(step{askVenue, "HTTP/1.1 200 Connection established\r\n\r\n"}) + "\n"},
		{"socks5", "default: socks5://" + proxy(step{"\x05\x01\x00", "\x05\x00"}, step{"\x05\x01\x00\x03", reply}) + "\n"},
		{"socks4a", "default: socks4a://" + proxy(step{"\x04\x01\x24\xe3\x00", "\x00\x5a\x00\x00\x00\x00\x00\x00"}) + "\n"},
	}
	for _, tt := range tests {
		b.Run(tt.name, func(b *testing.B) {
			s, to := load(b, tt.text, nil), venue
			pool := s.Direct()
			if tt.name == "direct" {
				to = at(echo.Addr)
			} else {
				pool = only(b, s)
			}
			ctx := budget(b, testkit.Patience*30)
			b.ReportAllocs()
			for b.Loop() {
				way, err := pool.Dial(ctx, to)
				if err != nil {
					b.Fatal(err)
				}
				_ = way.Conn.Close()
				way.Release()
			}
		})
	}
}

// BenchmarkPick measures the choice alone, among 16 members.
func BenchmarkPick(b *testing.B) {
	for _, strategy := range []string{"round_robin", "random", "least_connections", "failover"} {
		b.Run(strategy, func(b *testing.B) {
			p := only(b, load(b, poolOf(proxies(b, 16), strategy), nil))
			b.ReportAllocs()
			for b.Loop() {
				p.pick()
			}
		})
	}
}

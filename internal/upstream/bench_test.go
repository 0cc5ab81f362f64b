package upstream

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// BenchmarkPoolDial measures a whole dial: choice of the member, TCP, handshake
// and release. The far ends are in this process and take their share of it.
func BenchmarkPoolDial(b *testing.B) {
	echo := testkit.NewTCP(b, func(c net.Conn) {})
	type step struct{ hear, say string } // waits for as many bytes as hear has, and then sends say
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
		{"http", "default: http://" + proxy(step{"CONNECT stream.venue.example:9443 HTTP/1.1\r\n", "HTTP/1.1 200 Connection established\r\n\r\n"}) + "\n"},
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
				conn, err := pool.Dial(ctx, to)
				if err != nil {
					b.Fatal(err)
				}
				_ = conn.Conn.Close()
				conn.Release()
			}
		})
	}
}

// poolOfMany returns a file with a pool of n members, which are not dialled.
func poolOfMany(n int, strategy string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "default: p\npools:\n  p:\n    strategy: %s\n    proxies:\n", strategy)
	for i := range n {
		fmt.Fprintf(&b, "      - {name: m%d, url: \"socks5://10.1.%d.%d:1080\", weight: %d}\n", i, i/250, i%250+1, 1+i%7)
	}
	return b.String()
}

var strategies = []string{"round_robin", "random", "least_connections", "lowest_latency", "failover", "hash"}

// BenchmarkPick measures only the choice: of members that are all well, and of
// some that are ejected or have a bad verdict for the exchange.
func BenchmarkPick(b *testing.B) {
	to := Target{Host: "stream.venue.example", Port: 9443, Exchange: "binance", Kind: catalog.KindWebsocket}
	for _, n := range []int{16, 100, 5000} {
		for _, strategy := range strategies {
			for _, ill := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/%d/ill=%v", strategy, n, ill), func(b *testing.B) {
					s := load(b, poolOfMany(n, strategy), nil)
					p := only(b, s)
					for i := range p.members {
						p.members[i].opened(&to, time.Duration(i+1)*time.Millisecond, time.Now())
						switch {
						case ill && i%5 == 0:
							p.members[i].SetVerdict("binance", catalog.KindWebsocket, Verdict{Word: WordGeoblocked})
						case ill && i%5 == 1:
							p.members[i].recordUpstreamError(failure.UpstreamRefused, 1)
						}
					}
					b.ReportAllocs()
					for b.Loop() {
						l := selection{shared: s.shared, target: &to}
						p.pick(&l)
					}
				})
			}
		}
	}
}

// BenchmarkBudgets measures what budgets add to a dial: which ones it needs, a
// place in them, and the end. The choice past members without room comes beside.
func BenchmarkBudgets(b *testing.B) {
	to := Target{Host: "stream.venue.example", Port: 9443, Exchange: "binance", Kind: catalog.KindWebsocket}
	const budgets = "exchanges: {binance: {websocket: {pool: p, limits: {connects: 1000000/1s, max_connections: 10000000}}}}\n"
	for name, text := range map[string]string{"none": "", "two": "    limits: {max_connections: 10000000}\n" + budgets} {
		b.Run("place/"+name, func(b *testing.B) {
			p := only(b, load(b, poolOfMany(100, "failover")+text, nil))
			to := to
			if name == "none" {
				to.Exchange = ""
			}
			w := failover{pool: p, deadline: time.Now().Add(time.Hour), selection: selection{shared: p.set.shared, target: &to}}
			b.ReportAllocs()
			for b.Loop() {
				h, full := w.acquireBudget(b.Context(), 7)
				if full != nil {
					b.Fatal(full)
				}
				h.failed(nil)
			}
		})
	}
	for _, full := range []int{0, 1, 50} {
		b.Run(fmt.Sprintf("pick/full=%d", full), func(b *testing.B) {
			p := only(b, load(b, poolOfMany(100, "round_robin")+"exchanges: {binance: {websocket: {pool: p, limits: {max_connections: 1}}}}\n", nil))
			for i := range full {
				if _, err := p.set.shared.limits.Acquire(b.Context(), 0, p.set.requirementOf(&to, p.members[i].Exit, p.name).budgets); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				l := selection{shared: p.set.shared, target: &to}
				p.pick(&l)
			}
		})
	}
}

// BenchmarkNewSet is what a reload pays for the upstreams of a pool, all of them
// carried over, and what they hold.
func BenchmarkNewSet(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			c := manyMembers(b, n)
			before := heap()
			set, err := NewSet(c, nil, nil)
			if err != nil {
				b.Fatal(err)
			}
			held := heap() - before
			b.ReportAllocs()
			for b.Loop() {
				if set, err = NewSet(c, set, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(held)/float64(n), "B/member")
		})
	}
}

func manyMembers(b *testing.B, n int) *config.Config {
	b.Helper()
	var text strings.Builder
	text.WriteString("default: p\npools:\n  p:\n    proxies:\n")
	for i := range n {
		fmt.Fprintf(&text, "      - {name: m%d, url: \"socks5://user:secret@10.1.%d.%d:1080\"}\n", i, i/250, i%250+1)
	}
	c := testkit.Config(b, text.String())
	return c
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

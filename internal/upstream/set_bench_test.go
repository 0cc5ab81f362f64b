package upstream

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"proxyd/internal/config"
)

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
	path := filepath.Join(b.TempDir(), "proxyd.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	c, err := config.Load(path, nil)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

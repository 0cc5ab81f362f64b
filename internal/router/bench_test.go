package router_test

import (
	"fmt"
	"strings"
	"testing"

	"proxyd/internal/router"
)

// custom is a configuration with n hosts of the user's own, half of them
// wildcards, and with n/10 routes.
func custom(n int) string {
	var b strings.Builder
	b.WriteString("default: europe\nexchanges:\n  binance: asia\n  venue:\n    websocket: asia\n    hosts:\n")
	for i := range n / 2 {
		fmt.Fprintf(&b, "      - h%d.venue.example\n      - \"*.w%d.venue.example\"\n", i, i)
	}
	b.WriteString("routes:\n")
	for i := range n / 10 {
		fmt.Fprintf(&b, "  - {hosts: [r%d.corp.example, \"*.s%d.corp.example\"], use: direct}\n", i, i)
	}
	return b.String()
}

// looked is what the benchmark and the count of allocations look up.
var looked = []struct {
	name, host string
	allocates  float64 // the normalised name, where it is not what was written
}{
	{"catalogue", "stream.binance.com", 0},
	{"catalogue-wildcard", "ws-api-spot.kucoin.com", 0},
	{"domain", "new-stream.binance.com", 0},
	{"custom", "h3.venue.example", 0},
	{"custom-wildcard", "a.b.w3.venue.example", 0},
	{"route", "r0.corp.example", 0},
	{"unlisted", "www.nobody.lists.this.example.org", 0},
	{"trailing-dot", "stream.binance.com.", 0},
	{"capitals", "Stream.Binance.com", 1},
	{"address", "52.1.2.3", 1},
}

// A look-up allocates the normalised name and nothing else, with 10,000 hosts
// as with ten.
func TestRouteAllocatesTheNameAlone(t *testing.T) {
	for _, n := range []int{10, 10_000} {
		r := load(t, custom(n)+"listen: [{address: 127.0.0.1:7000, kind: websocket}]\n")
		for _, l := range looked {
			got := testing.AllocsPerRun(200, func() {
				if _, err := r.Route(l.host, 443, router.Hint{Listener: "127.0.0.1:7000"}); err != nil {
					t.Error(err)
				}
			})
			if got != l.allocates {
				t.Errorf("%d hosts, %s: %v allocations, want %v", n, l.name, got, l.allocates)
			}
		}
	}
}

// sizes are what the cost of growth is shown at.
var sizes = []int{10, 100, 1000, 10_000}

func BenchmarkRoute(b *testing.B) {
	perHost := map[string]float64{}
	for _, n := range sizes {
		r := load(b, custom(n))
		for _, l := range looked {
			b.Run(fmt.Sprintf("hosts=%d/%s", n, l.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := r.Route(l.host, 443, none); err != nil {
						b.Fatal(err)
					}
				}
				ns := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
				if n == 10 {
					perHost[l.name] = ns
				} else if few := perHost[l.name]; few > 0 {
					b.ReportMetric(ns/few, "x-of-10-hosts")
				}
			})
		}
	}
}

// BenchmarkNew is what a reload pays.
func BenchmarkNew(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			c := load(b, custom(n)).Config()
			b.ReportAllocs()
			for b.Loop() {
				build(b, c)
			}
		})
	}
}

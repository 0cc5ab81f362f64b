package feed

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/event"
	"proxyd/internal/relay"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
	"proxyd/internal/testkit/routertest"
	"proxyd/internal/tunnel"
)

// manyTunnels are as many as fit beside their far ends in 20,000 descriptors.
const manyTunnels = 9_000

// crowd is a table with live tunnels of a Handler.
func crowd(b *testing.B, n int) *Table {
	b.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || int64(files.Cur) < int64(2*n+100) { //nolint:gosec // small numbers
		b.Skip("too few descriptors")
	}
	r := routertest.New(b, "default: direct\nroutes: [{hosts: [127.0.0.0/8], use: direct}]\n", nil)
	var t *Table
	h := tunnel.NewHandler(tunnel.Options{Snapshot: func() *router.Router { return r }, Relay: relay.NewEngine(), Record: func(r *tunnel.Record) { t.Observe(r) }})
	t = New(Options{Snapshot: func() *router.Router { return r }, Each: h.Each, Emit: func(event.Event) {}})
	far := testkit.NewTCP(b, testkit.Hang)
	at := netip.MustParseAddrPort(far.Addr)
	for range n {
		tun, err := h.Open(b.Context(), tunnel.Request{Client: at, Protocol: "connect", Host: at.Addr().String(), Port: at.Port()})
		if err != nil {
			b.Fatal(err)
		}
		_, near := net.Pipe()
		tun.Carry(near, nil)
	}
	b.Cleanup(func() {
		h.CloseAll()
		_ = h.Wait(b.Context())
		r.Set().Close()
	})
	return t
}

// BenchmarkSample is a second of the table with 9,000 tunnels, each of which has
// carried since the last one; 10,000 cost a ninth more.
func BenchmarkSample(b *testing.B) {
	t := crowd(b, manyTunnels)
	now := time.Now()
	t.tick(now)
	var cpu syscall.Rusage
	spent := time.Duration(0)
	var before, after runtime.MemStats
	allocated := uint64(0)
	for b.Loop() {
		b.StopTimer()
		t.o.Each(func(l tunnel.Live) bool {
			if e := t.entryOf(&l); e != nil {
				e.down -= 100
			}
			return true
		})
		now = now.Add(time.Second)
		runtime.ReadMemStats(&before)
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &cpu)
		began := cpu.Utime.Nano() + cpu.Stime.Nano()
		b.StartTimer()
		t.tick(now)
		b.StopTimer()
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &cpu)
		spent += time.Duration(cpu.Utime.Nano() + cpu.Stime.Nano() - began)
		runtime.ReadMemStats(&after)
		allocated += after.Mallocs - before.Mallocs
		b.StartTimer()
	}
	b.ReportMetric(float64(spent.Microseconds())/float64(b.N), "cpu-µs/sample")
	b.ReportMetric(float64(allocated)/float64(b.N), "mallocs/sample")
}

// BenchmarkReport is what the rows of 100 exchanges through 10 upstreams each cost.
func BenchmarkReport(b *testing.B) {
	t := New(Options{Snapshot: func() *router.Router { return nil }, Each: func(func(tunnel.Live) bool) {}, Emit: func(event.Event) {}})
	for i := range 1000 {
		t.Observe(&tunnel.Record{Event: tunnel.Opened, Slot: new(any), Opening: tunnel.Opening{
			Exchange: fmt.Sprint("exchange-", i/10), Kind: catalog.KindWebsocket, Upstream: fmt.Sprint("upstream-", i%10), Start: time.Now(), Dial: 20 * time.Millisecond,
		}})
	}
	t.tick(time.Now())
	for b.Loop() {
		if n := len(t.Report().Feeds); n != 1000 {
			b.Fatal(n)
		}
	}
}

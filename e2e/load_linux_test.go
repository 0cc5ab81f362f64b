package e2e

import (
	"io"
	"net/http"
	"proxyd/internal/testkit"
	"testing"
	"time"
)

// What 9,900 tunnels cost that carry nothing: the sampler alone works.
func BenchmarkIdleTunnels(b *testing.B) { benchmarkIdle(b, newLoad(b, loadTunnels)) }

// What a viewer of the page adds to that: the status twice a second, in which the
// server has summed up the tunnels.
func BenchmarkIdleTunnelsWithAViewer(b *testing.B) {
	l := newLoad(b, loadTunnels)
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://localhost/api/v1/status", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	resp, err := l.client().Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	go func() { _, _ = io.Copy(io.Discard, resp.Body) }() // ends with the stream
	benchmarkIdle(b, l)
}

func benchmarkIdle(b *testing.B, l *load) {
	time.Sleep(5 * time.Second) // what the opening has left behind
	b.ResetTimer()
	var used time.Duration
	for range b.N {
		before := testkit.CPUTime(b, l.Cmd.Process.Pid)
		time.Sleep(10 * time.Second)
		used += testkit.CPUTime(b, l.Cmd.Process.Pid) - before
	}
	b.ReportMetric(used.Seconds()*1000/float64(b.N)/10, "cpu-ms/s")
	b.ReportMetric(float64(len(l.conns)), "tunnels")
}

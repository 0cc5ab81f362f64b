package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cpuTime returns how long the threads of a process have run.
func cpuTime(t testing.TB, pid int) (all time.Duration) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		ran, _, _ := strings.Cut(string(b), " ")
		ns, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		all += time.Duration(ns)
	}
	return all
}

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
		before := cpuTime(b, l.Cmd.Process.Pid)
		time.Sleep(10 * time.Second)
		used += cpuTime(b, l.Cmd.Process.Pid) - before
	}
	b.ReportMetric(used.Seconds()*1000/float64(b.N)/10, "cpu-ms/s")
	b.ReportMetric(float64(len(l.conns)), "tunnels")
}

package daemon

import (
	"encoding/json"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

func aRecord() tunnel.Record {
	return tunnel.Record{
		Event: tunnel.Ended,
		Opening: tunnel.Opening{
			ID: "0123456789abcdef", Client: netip.MustParseAddrPort("[fe80::1%eth0]:54321"), Protocol: "connect", Host: "stream.binance.com",
			Port: 443, Kind: catalog.KindWebsocket, Exchange: "binance", Rule: "catalogue", Upstream: "127.0.0.1:8080", Dial: 312 * time.Microsecond,
		},
		Duration: time.Second, Up: 100, Down: 1000, ClosedBy: "client", Reason: "eof",
	}
}

// writeRecord puts a record into the log as Daemon.record does.
func writeRecord(log *zap.Logger, r *tunnel.Record) {
	logRecord(log.Core(), zap.InfoLevel, "tunnel", r)
}

func TestRecordLineAllocatesNothing(t *testing.T) {
	lines := newLineWriter(discard{})
	go lines.run() // ends with Close
	defer lines.Close()
	log := newLogger(lines, zap.NewAtomicLevel(), false)
	r := aRecord()
	const lent = 2 // the collector may take what the pools hold
	if n := testing.AllocsPerRun(1000, func() { writeRecord(log, &r) }); n > lent {
		t.Errorf("%.1f allocations a line", n)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// gate blocks each write until it is opened, and keeps what came.
type gate struct {
	mu     sync.Mutex
	opened chan struct{}
	began  chan struct{} // of 1
	writes []string
}

func (g *gate) Write(p []byte) (int, error) {
	select {
	case g.began <- struct{}{}:
	default:
	}
	<-g.opened
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writes = append(g.writes, string(p))
	return len(p), nil
}

// What waits behind a slow log is bounded, is written in one call, and holds
// nothing of the records before.
func TestSlowLogGetsLinesInOneWrite(t *testing.T) {
	g := &gate{opened: make(chan struct{}), began: make(chan struct{}, 1)}
	lines := newLineWriter(g)
	go lines.run() // ends with Close
	log := newLogger(lines, zap.NewAtomicLevel(), false)
	r := aRecord()
	r.Attempts = []failure.Attempt{{Upstream: "a", Class: failure.UpstreamTimeout}}
	writeRecord(log, &r)
	<-g.began
	r = aRecord()
	const extra = 7
	for range logLines - 1 + extra {
		writeRecord(log, &r)
	}
	if n := lines.Dropped(); n != extra {
		t.Errorf("%d lines dropped, want %d", n, extra)
	}
	close(g.opened)
	lines.Close()
	if len(g.writes) != 2 {
		t.Fatalf("%d writes", len(g.writes))
	}
	if !strings.Contains(g.writes[0], `"tried":"a `) {
		t.Errorf("the first line is %s", g.writes[0])
	}
	n := 0
	for line := range strings.Lines(g.writes[1]) {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil || got["tried"] != nil || got["client"] != "[fe80::1%eth0]:54321" {
			t.Fatalf("%v: %s", err, line)
		}
		n++
	}
	if n != logLines-1 {
		t.Errorf("%d lines, want %d", n, logLines-1)
	}
}

func BenchmarkRecord(b *testing.B) {
	lines := newLineWriter(discard{})
	go lines.run() // ends with Close
	defer lines.Close()
	log := newLogger(lines, zap.NewAtomicLevel(), false)
	r := aRecord()
	b.ReportAllocs()
	for b.Loop() {
		writeRecord(log, &r)
	}
}

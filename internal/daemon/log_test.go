package daemon

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestBlockedLogDropsLinesAndBlocksNobody(t *testing.T) {
	r, w, err := os.Pipe() // nobody reads it until the end
	if err != nil {
		t.Fatal(err)
	}
	lines := newLineWriter(w)
	log := newLogger(lines, zap.NewAtomicLevel(), false)
	start := time.Now()
	for range 3 * logLines {
		log.Info(strings.Repeat("x", 200))
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("writing took %v", took)
	}
	if lines.Dropped() == 0 {
		t.Error("no line was counted as dropped")
	}
	_ = r.Close() // the writer's goroutine sees a broken pipe and ends
	lines.Close()
	_ = w.Close()
}

func TestLogIsWholeAfterClose(t *testing.T) {
	var out bytes.Buffer
	lines := newLineWriter(&out)
	log := newLogger(lines, zap.NewAtomicLevel(), false)
	for range 1000 {
		log.Info("line")
	}
	lines.Close()
	if n := strings.Count(out.String(), `"msg":"line"`); n != 1000 {
		t.Errorf("got %d lines, want 1000", n)
	}
	log.Info("after the end") // must not panic
}

func TestMaxTunnelsLeavesRoomForOurOwnFiles(t *testing.T) {
	for _, c := range []struct {
		files uint64
		want  int
	}{{0, 0}, {64, 16}, {66, 16}, {128, 32}, {20000, 9968}} {
		if got := maxTunnels(c.files); got != c.want {
			t.Errorf("%d files: got %d, want %d", c.files, got, c.want)
		}
	}
}

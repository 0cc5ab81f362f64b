package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logLines is how many lines may wait for a slow reader of the log before
// lines are dropped.
const logLines = 4096

// newLogger builds the core by hand: zap's presets sample by message text,
// which would hide most of a burst of refusals.
func newLogger(w zapcore.WriteSyncer, level zap.AtomicLevel, forPeople bool) *zap.Logger {
	ec := zap.NewProductionEncoderConfig()
	ec.TimeKey = "time"
	ec.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	ec.EncodeDuration = zapcore.StringDurationEncoder
	if forPeople {
		ec.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		ec.EncodeLevel = zapcore.CapitalLevelEncoder
		return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(ec), w, level))
	}
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(ec), w, level))
}

func console(format string, terminal bool) bool {
	return format == "console" || (format != "json" && terminal)
}

// logLevel returns the zap level of a checked configuration's word.
func logLevel(word string) zapcore.Level {
	l, err := zapcore.ParseLevel(word)
	if err != nil {
		return zapcore.InfoLevel
	}
	return l
}

// lineWriter collects lines for one goroutine that writes them, so that a log
// that nothing reads never holds up a tunnel: when logLines wait, lines are
// dropped and counted.
type lineWriter struct {
	out     io.Writer
	dropped atomic.Uint64 // lines that were lost, because nothing took them or they could not be written
	errors  atomic.Uint64 // failed writes
	losses  losses
	wake    chan struct{} // of 1; the goroutine waits for it while idle
	done    chan struct{}

	mu      sync.Mutex
	pending []byte // a line end, for use behind a line that was written in part, and the lines that wait
	waiting int    // lines, those that are being written included
	writing int    // lines
	idle    bool
	closed  bool
}

const (
	gatherFor = 5 * time.Millisecond // after a write; what comes meanwhile is written together
	keptRoom  = 64 << 10             // a buffer that has grown beyond is not kept
)

// newLineWriter returns a writer that collects lines until run writes them.
func newLineWriter(out io.Writer) *lineWriter {
	return &lineWriter{out: out, wake: make(chan struct{}, 1), done: make(chan struct{}), pending: bytes.Clone(lineEnd)}
}

// Write takes one line and never blocks.
func (w *lineWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
	case w.waiting == logLines:
		w.lost(1, errBlocked)
	default:
		w.pending = append(w.pending, line...) // zap uses its buffer again
		w.waiting++
		w.rouse()
	}
	return len(line), nil
}

// rouse ends the wait of run. The caller holds mu.
func (w *lineWriter) rouse() {
	if w.idle {
		w.idle = false
		w.wake <- struct{}{}
	}
}

// Sync has nothing to do: Close waits for what is written.
func (w *lineWriter) Sync() error { return nil }

// Dropped returns the number of lines that were lost: nothing took them in time,
// or they could not be written.
func (w *lineWriter) Dropped() uint64 { return w.dropped.Load() }

// Errors returns the number of writes that failed.
func (w *lineWriter) Errors() uint64 { return w.errors.Load() }

var errBlocked = errors.New("nothing reads it")

// losses remembers what was lost lately, and why.
type losses struct {
	mu     sync.Mutex
	recent recentCount // lines
	why    error       // of the last
}

func (w *lineWriter) lost(lines int, why error) {
	if lines == 0 {
		return
	}
	w.dropped.Add(uint64(lines)) //nolint:gosec // a count
	w.losses.mu.Lock()
	defer w.losses.mu.Unlock()
	w.losses.recent.add(lines, time.Now())
	w.losses.why = why
}

// reason returns what status shows of it; "" when no line was lost lately.
func (w *lineWriter) reason() string {
	w.losses.mu.Lock()
	defer w.losses.mu.Unlock()
	now := time.Now()
	if !w.losses.recent.within(now) {
		return ""
	}
	return fmt.Sprintf("the log loses lines: %d so far, last %.0f s ago: %v", w.dropped.Load(), now.Sub(w.losses.recent.last).Seconds(), w.losses.why)
}

// Close writes what waits, for a second at most.
func (w *lineWriter) Close() {
	w.mu.Lock()
	w.closed = true
	w.rouse()
	w.mu.Unlock()
	select {
	case <-w.done:
	case <-time.After(time.Second):
	}
}

// run writes lines until Close: all that waits in one call, and then lets lines gather: a call for
// each of them costs more than the line.
func (w *lineWriter) run() {
	defer close(w.done)
	torn := false
	for batch := w.take(nil); batch != nil; batch = w.take(batch) {
		torn = w.write(batch, torn)
		time.Sleep(gatherFor)
	}
}

var lineEnd = []byte("\n")

// take waits for lines and returns all, behind a line end; nil after Close. The
// batch before is used again.
func (w *lineWriter) take(before []byte) []byte {
	if cap(before) > keptRoom {
		before = nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.waiting == 0 {
		if w.closed {
			return nil
		}
		w.idle = true
		w.mu.Unlock()
		<-w.wake // sent by Write or Close
		w.mu.Lock()
	}
	batch := w.pending
	w.pending, w.writing = append(before[:0], '\n'), w.waiting
	return batch
}

// write reports whether the log now ends within a line. If it does already, what
// follows begins on a line of its own. What cannot be written is counted.
func (w *lineWriter) write(batch []byte, torn bool) bool {
	start := 1
	if torn {
		start = 0
	}
	n, err := w.out.Write(batch[start:])
	if err != nil {
		w.errors.Add(1)
		w.lost(bytes.Count(batch[max(start+n, 1):], lineEnd), err)
	}
	w.mu.Lock()
	w.waiting -= w.writing
	w.mu.Unlock()
	if n > 0 {
		torn = batch[start+n-1] != '\n'
	}
	return torn
}

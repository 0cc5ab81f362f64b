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

	"proxyd/internal/config"
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

// log is the logger as the configuration in force wants it.
func (d *Daemon) log() *zap.Logger { return d.logger.Load() }

func (d *Daemon) setLogger(c *config.Config) {
	d.logger.Store(newLogger(d.lines, d.level, console(c.Log.Format, d.options.Terminal)))
}

func console(format string, terminal bool) bool {
	return format == "console" || (format != "json" && terminal)
}

// logLevel is the zap level of a checked configuration's word.
func logLevel(word string) zapcore.Level {
	l, err := zapcore.ParseLevel(word)
	if err != nil {
		return zapcore.InfoLevel
	}
	return l
}

// lineWriter hands lines to one goroutine that writes them, so that a log that
// nobody reads never holds up a tunnel: when logLines wait, lines are dropped
// and counted.
type lineWriter struct {
	out     io.Writer
	lines   chan []byte
	dropped atomic.Uint64 // lines that were lost, because nothing took them or they could not be written
	errors  atomic.Uint64 // failed writes
	losses  losses
	done    chan struct{}
	close   sync.Once
	mu      sync.RWMutex // closed is set under it, so that nobody sends on a closed channel
	closed  bool
}

// newLineWriter starts the goroutine; Close ends it.
func newLineWriter(out io.Writer) *lineWriter {
	w := &lineWriter{out: out, lines: make(chan []byte, logLines), done: make(chan struct{})}
	go w.run()
	return w
}

// Write takes one line and never blocks.
func (w *lineWriter) Write(line []byte) (int, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return len(line), nil
	}
	select {
	case w.lines <- append([]byte(nil), line...): // zap uses its buffer again
	default:
		w.lost(1, errBlocked)
	}
	return len(line), nil
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
	recent lately // lines
	why    error  // of the last
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

// reason is what status says of it; "" when no line was lost lately.
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
	w.close.Do(func() {
		w.mu.Lock()
		w.closed = true
		close(w.lines)
		w.mu.Unlock()
	})
	select {
	case <-w.done:
	case <-time.After(time.Second):
	}
}

// run writes what is there in one call, up to 64 KiB at a time. What cannot be
// written is counted; what follows a line that was written in part begins on a
// line of its own.
func (w *lineWriter) run() {
	defer close(w.done)
	const most = 64 << 10
	batch := make([]byte, 0, most)
	torn := false
	for line := range w.lines {
		batch = batch[:0]
		if torn {
			batch = append(batch, '\n')
		}
		start := len(batch)
		batch = append(batch, line...)
		for more := true; more && len(batch) < most; {
			select {
			case next := <-w.lines: // nil once closed and empty
				batch = append(batch, next...)
				more = next != nil
			default:
				more = false
			}
		}
		n, err := w.out.Write(batch)
		if err != nil {
			w.errors.Add(1)
			w.lost(bytes.Count(batch[max(n, start):], []byte("\n")), err)
		}
		if n > 0 {
			torn = batch[n-1] != '\n'
		}
	}
}

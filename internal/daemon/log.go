package daemon

import (
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
	dropped atomic.Uint64
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
		w.dropped.Add(1)
	}
	return len(line), nil
}

// Sync has nothing to do: Close waits for what is written.
func (w *lineWriter) Sync() error { return nil }

// Dropped is the number of lines that nobody took in time.
func (w *lineWriter) Dropped() uint64 { return w.dropped.Load() }

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

// run writes what is there in one call, up to 64 KiB at a time.
func (w *lineWriter) run() {
	defer close(w.done)
	const most = 64 << 10
	batch := make([]byte, 0, most)
	for line := range w.lines {
		batch = append(batch[:0], line...)
		for more := true; more && len(batch) < most; {
			select {
			case next := <-w.lines: // nil once closed and empty
				batch = append(batch, next...)
				more = next != nil
			default:
				more = false
			}
		}
		_, _ = w.out.Write(batch) // a log that cannot be written has nowhere to say so
	}
}

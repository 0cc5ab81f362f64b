package daemon

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/event"
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
	wake    chan struct{} // of 1; the goroutine waits for it while idle
	done    chan struct{}

	mu      sync.Mutex
	pending []byte // a line end, for use behind a line that was written in part, and the lines that wait
	waiting int    // lines, those that are being written included
	writing int    // lines
	idle    bool
	closed  bool
	began   time.Time // of the write in progress; zero: there is none
	failure error     // of the last write; nil: it succeeded
	failed  time.Time // when that was
	missing int       // lines that were lost since all was well
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
		w.lost(1)
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

// lost counts lines that were lost. The caller holds mu.
func (w *lineWriter) lost(lines int) {
	w.dropped.Add(uint64(lines)) //nolint:gosec // a count
	w.missing += lines
}

// blockedFor is how long a write may last before the log counts as blocked.
const blockedFor = 5 * time.Second

// findings returns what is wrong with the log: it cannot be written, or nothing reads it.
func (w *lineWriter) findings(now time.Time) []finding {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := finding{
		key: "log", severity: event.Error, typ: event.LogLost, hint: "see what reads proxyd's standard error",
		over: fmt.Sprintf("the log is complete again, %d lines were lost", w.missing),
	}
	switch half := w.waiting >= logLines/2; {
	case w.failure != nil:
		f.text = fmt.Sprintf("the log loses lines: %d so far, %v", w.missing, w.failure)
		f.hint = "make room for it, or send proxyd's standard error elsewhere"
	case w.missing > 0:
		f.text = fmt.Sprintf("the log loses lines: %d so far, nothing reads it", w.missing)
	case half || !w.began.IsZero() && now.Sub(w.began) >= blockedFor:
		f.severity, f.over = event.Warn, "the log is read again"
		f.text = fmt.Sprintf("the log is blocked: nothing reads it, %d of %d lines wait, further ones are lost", w.waiting, logLines)
		if half {
			f.after = time.Second
		}
	default:
		return nil
	}
	return []finding{f}
}

// tryAgain reports whether the log needs a line to find out that it can be written
// again: nothing was written since a write failed some seconds ago. lines is how many
// are missing.
func (w *lineWriter) tryAgain(now time.Time) (lines int, due bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	due = w.failure != nil && w.waiting == 0 && now.Sub(w.failed) >= 4*time.Second
	return w.missing, due
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
	w.pending, w.writing, w.began = append(before[:0], '\n'), w.waiting, time.Now()
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
	w.mu.Lock()
	w.waiting -= w.writing
	w.began, w.failure = time.Time{}, err
	if err != nil {
		w.errors.Add(1)
		w.failed = time.Now()
		w.lost(bytes.Count(batch[max(start+n, 1):], lineEnd))
	} else if w.waiting < logLines/2 {
		w.missing = 0
	}
	w.mu.Unlock()
	if n > 0 {
		torn = batch[start+n-1] != '\n'
	}
	return torn
}

// unusedProxy returns the variable that names a proxy where proxyd has no
// configuration: it is for clients, as proxyd itself uses no such variable. One that
// leads to proxyd is none.
func unusedProxy(o Options, c *config.Config) string {
	if o.ConfigPath != "" {
		return ""
	}
	return ProxyVariable(o.Environ, c, c.Listen...)
}

// ProxyVariable returns the variable that names a proxy, if configuration c, of no file,
// sends direct what clients ask for. One that leads to a listener is none.
func ProxyVariable(environ []string, c *config.Config, listeners ...config.Listener) string {
	if c.Default != (config.Outbounds{}) {
		return ""
	}
	for _, want := range []string{"HTTPS_PROXY", "ALL_PROXY", "HTTP_PROXY", "WSS_PROXY", "WS_PROXY"} {
		for _, kv := range environ {
			name, value, _ := strings.Cut(kv, "=")
			if !strings.EqualFold(name, want) || value == "" || slices.ContainsFunc(listeners, func(l config.Listener) bool { return strings.HasSuffix(strings.TrimSuffix(value, "/"), l.Address) }) {
				continue
			}
			return name
		}
	}
	return ""
}

// announce writes the first lines: which configuration is in force, where
// proxyd listens and for whom, what goes direct, and what to do next.
func (d *Daemon) announce() {
	snap := d.snapshot.Load()
	c := snap.Config()
	d.log().Info("proxyd", zap.String("version", d.options.Version), zap.String("go", runtime.Version()),
		zap.String("catalogue", catalog.Date()), zap.String("config", d.fileName()), zap.Int("generation", d.generation))
	d.journal.Add(startEvent(d.options.Version, d.generation, d.fileName(), d.upgrade.parent != nil))
	if why := d.listening.Load().noAdmin; why != "" {
		d.journal.Add(noAdminEvent(why))
	}
	for _, l := range c.Listen {
		b := d.listening.Load().at(l.Address)
		if b == nil {
			d.log().Info("not listening", zap.String("address", l.Address), zap.String("why", "this machine has no IPv6 loopback"))
			continue
		}
		d.log().Info("listening", zap.String("address", b.ln.Addr().String()), zap.String("for", audience(l, b.ln.Addr())))
	}
	d.logAdmin()
	d.log().Info("limits", zap.Uint64("open_files", d.descriptors.limit), zap.Int("max_tunnels", d.descriptors.tunnelLimit(snap)))
	d.warn(d.warnings(snap))
	if name := unusedProxy(d.options, c); name != "" {
		d.log().Warn(name+" is set, and is not used: proxyd has no configuration, and what it dials goes direct", zap.String("next", "to make one of it: env | proxyd import --from env - > proxyd.yaml"))
	}
	d.log().Info("ready", zap.String("next", d.next(c)))
}

// next returns the line to paste into the shell of a client.
func (d *Daemon) next(c *config.Config) string {
	if d.options.Next == nil {
		return `eval "$(proxyd env)"`
	}
	chosen := ""
	first := c.Listen[0].Address
	if i := slices.IndexFunc(c.Listen, func(l config.Listener) bool { return !l.Transparent }); i > 0 {
		first = c.Listen[i].Address
	}
	if host, port, err := net.SplitHostPort(first); err == nil && port == "0" {
		if b := d.listening.Load().at(first); b != nil {
			_, port, _ = net.SplitHostPort(b.ln.Addr().String())
			chosen = net.JoinHostPort(host, port)
		}
	}
	return d.options.Next(chosen)
}

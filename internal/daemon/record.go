package daemon

import (
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"proxyd/internal/failure"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
)

// recorder writes records into the log, and passes them on to be counted.
type recorder struct {
	observe  func(*tunnel.Record)
	snapshot func() *router.Router
	log      func() *zap.Logger
}

// record takes one record. It logs tunnels at info, refusals at warn, plain
// requests and clients that left at debug.
func (o *recorder) record(r *tunnel.Record) {
	o.observe(r)
	if r.Event == tunnel.Ended {
		o.ended(r)
	}
	level, msg := zapcore.InfoLevel, ""
	switch r.Event {
	case tunnel.Opened:
		msg = "tunnel open"
	case tunnel.Ended:
		msg = "tunnel"
	case tunnel.Moved:
		level, msg = zapcore.DebugLevel, "tunnel moved" // the new process says how it ends
	case tunnel.Served:
		level, msg = zapcore.DebugLevel, "request"
		if r.Class != "" && r.Class != failure.ClientGone { // its answer was cut short
			level = zapcore.WarnLevel
		}
	case tunnel.Unlisted:
		msg = "host not in the catalogue"
	case tunnel.Refused:
		level, msg = zapcore.WarnLevel, "refused"
		if r.Class == failure.ClientGone {
			level = zapcore.DebugLevel
		}
	}
	if r.Quiet {
		return
	}
	if core := o.log().Core(); core.Enabled(level) {
		logRecord(core, level, msg, r)
	}
}

// logRecord writes a line past the logger: its Check and Write take 2 KiB of
// stack, with which the goroutine of a tunnel that ends would have to grow its own.
func logRecord(core zapcore.Core, level zapcore.Level, msg string, r *tunnel.Record) {
	l := recordLines.Get().(*recordLine)
	l.Record = *r
	_ = core.Write(zapcore.Entry{Level: level, Time: time.Now(), Message: msg}, l.fields[:]) // lineWriter has no error
	l.Record = tunnel.Record{}                                                               // the pool would hold what it refers to
	recordLines.Put(l)
}

// ended lets the upstream know how a tunnel ended that the exchange or the
// client has closed.
func (o *recorder) ended(r *tunnel.Record) {
	u := o.snapshot().Set().Upstream(r.Upstream)
	if u == nil || r.Exchange == "" || r.Reason == tunnel.ReasonAbandoned || r.ClosedBy == tunnel.ByProxyd || r.ClosedBy == tunnel.ByUpstream {
		return
	}
	u.Ended(r.Exchange, r.Kind, r.Lasted, r.Up, r.Down)
}

// recordLine is a record that is being logged. It is used again: a line
// allocates nothing.
type recordLine struct {
	tunnel.Record
	fields [1]zap.Field // the line itself
	text   [64]byte     // the client's address
}

var recordLines = sync.Pool{New: func() any {
	l := new(recordLine)
	l.fields[0] = zap.Inline(l)
	return l
}}

// MarshalLogObject adds the fields of the line, in the order in which people
// read it.
func (l *recordLine) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	r := &l.Record
	enc.AddString("id", r.ID)
	enc.AddByteString("client", r.Client.AppendTo(l.text[:0]))
	enc.AddString("user", r.Label)
	enc.AddString("exchange", r.Exchange)
	enc.AddString("kind", r.Kind.String())
	enc.AddString("host", r.Host)
	enc.AddUint16("port", r.Port)
	enc.AddString("protocol", r.Protocol)
	enc.AddString("rule", r.Rule)
	enc.AddString("pool", r.Pool)
	enc.AddString("upstream", r.Upstream)
	enc.AddInt("attempts", attempts(r))
	enc.AddFloat64("dial_ms", float64(r.Dial.Microseconds())/1000)
	if r.Via != "" {
		enc.AddString("via", r.Via)
	}
	if len(r.Attempts) > 0 {
		enc.AddString("tried", tried(r))
	}
	if r.Queued > 0 {
		enc.AddFloat64("queued_ms", float64(r.Queued.Microseconds())/1000)
	}
	switch r.Event {
	case tunnel.Ended, tunnel.Served:
		enc.AddFloat64("duration_s", float64(r.Duration.Milliseconds())/1000)
		enc.AddInt64("bytes_up", r.Up)
		enc.AddInt64("bytes_down", r.Down)
		enc.AddString("closed_by", r.ClosedBy)
		enc.AddString("reason", string(r.Reason))
		enc.AddString("class", string(r.Class))
	case tunnel.Refused:
		enc.AddString("class", string(r.Class))
		enc.AddString("step", r.Step)
	}
	if r.Text != "" {
		enc.AddString("text", r.Text)
	}
	if r.Hint != "" {
		enc.AddString("hint", r.Hint)
	}
	if r.Repeated > 0 {
		enc.AddInt("repeated", r.Repeated)
	}
	if r.Hidden > 0 {
		enc.AddInt("hidden", r.Hidden)
	}
	return nil
}

// attempts returns the number of tries: the failed ones and, unless all failed, the one
// that opened the connection.
func attempts(r *tunnel.Record) int {
	if r.Event == tunnel.Refused {
		return len(r.Attempts)
	}
	return len(r.Attempts) + 1
}

func tried(r *tunnel.Record) string {
	parts := make([]string, len(r.Attempts))
	for i, a := range r.Attempts {
		parts[i] = a.Upstream + " " + string(a.Class)
	}
	return strings.Join(parts, ", ")
}

package daemon

import (
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"proxyd/internal/failure"
	"proxyd/internal/relay"
	"proxyd/internal/tunnel"
)

// record writes one record into the log: tunnels at info, refusals at warn,
// plain requests and clients that left at debug.
func (d *Daemon) record(r tunnel.Record) {
	d.metrics.Observe(r)
	if r.Event == tunnel.Ended {
		d.ended(&r)
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
	entry := d.log().Check(level, msg)
	if entry == nil {
		return
	}
	entry.Write(recordFields(r)...)
}

// ended lets the upstream know how a tunnel ended that the exchange or the
// client has closed.
func (d *Daemon) ended(r *tunnel.Record) {
	u := d.snapshot.Load().Set().Upstream(r.Upstream)
	if u == nil || r.Exchange == "" || r.ClosedBy == string(relay.Proxyd) || r.Reason == tunnel.ReasonAbandoned {
		return
	}
	if n := u.Ended(r.Exchange, r.Kind, r.Duration, r.Up, r.Down); n > 0 {
		d.log().Warn("websocket tunnels end at once", zap.String("upstream", r.Upstream), zap.String("exchange", r.Exchange),
			zap.Int("in_a_row", n), zap.String("next", "perhaps the exchange turns this exit away; run: proxyd probe "+r.Exchange))
	}
}

// recordFields are the fields of a line, in the order in which people read it.
func recordFields(r tunnel.Record) []zap.Field {
	fields := make([]zap.Field, 0, 24)
	fields = append(fields,
		zap.String("id", r.ID), zap.Stringer("client", r.Client), zap.String("user", r.Label),
		zap.String("exchange", r.Exchange), zap.Stringer("kind", r.Kind),
		zap.String("host", r.Host), zap.Uint16("port", r.Port), zap.String("protocol", r.Protocol),
		zap.String("rule", r.Rule), zap.String("pool", r.Pool), zap.String("upstream", r.Upstream),
		zap.Int("attempts", attempts(r)), zap.Float64("dial_ms", float64(r.Dial.Microseconds())/1000))
	if r.Via != "" {
		fields = append(fields, zap.String("via", r.Via))
	}
	if len(r.Attempts) > 0 {
		fields = append(fields, zap.String("tried", tried(r)))
	}
	if r.Queued > 0 {
		fields = append(fields, zap.Float64("queued_ms", float64(r.Queued.Microseconds())/1000))
	}
	switch r.Event {
	case tunnel.Ended, tunnel.Served:
		fields = append(fields, zap.Float64("duration_s", float64(r.Duration.Milliseconds())/1000),
			zap.Int64("bytes_up", r.Up), zap.Int64("bytes_down", r.Down),
			zap.String("closed_by", r.ClosedBy), zap.String("reason", string(r.Reason)), zap.String("class", string(r.Class)))
	case tunnel.Refused:
		fields = append(fields, zap.String("class", string(r.Class)), zap.String("step", r.Step))
	}
	if r.Text != "" {
		fields = append(fields, zap.String("text", r.Text))
	}
	if r.Hint != "" {
		fields = append(fields, zap.String("hint", r.Hint))
	}
	if r.Repeated > 0 {
		fields = append(fields, zap.Int("repeated", r.Repeated))
	}
	if r.Hidden > 0 {
		fields = append(fields, zap.Int("hidden", r.Hidden))
	}
	return fields
}

// attempts counts the tries: the failed ones and, unless all failed, the one
// that opened the way.
func attempts(r tunnel.Record) int {
	if r.Event == tunnel.Refused {
		return len(r.Attempts)
	}
	return len(r.Attempts) + 1
}

func tried(r tunnel.Record) string {
	parts := make([]string, len(r.Attempts))
	for i, a := range r.Attempts {
		parts[i] = a.Upstream + " " + string(a.Class)
	}
	return strings.Join(parts, ", ")
}

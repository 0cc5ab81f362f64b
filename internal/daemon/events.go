package daemon

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"proxyd/internal/event"
)

// logEvent writes an event as a line of the log, msg=event, and counts it.
func (d *Daemon) logEvent(e event.Event) {
	if d.metrics != nil { // there are none before Run
		d.metrics.Event(e.Severity, e.Type)
	}
	level := zapcore.InfoLevel
	switch e.Severity {
	case event.Warn:
		level = zapcore.WarnLevel
	case event.Error:
		level = zapcore.ErrorLevel
	}
	line := d.log().Check(level, "event")
	if line == nil {
		return
	}
	fields := []zap.Field{zap.String("id", e.ID), zap.String("type", string(e.Type)), zap.Time("at", e.Time)}
	for _, f := range [...]struct{ name, value string }{{"exchange", e.Exchange}, {"kind", e.Kind}, {"upstream", e.Upstream}} {
		if f.value != "" {
			fields = append(fields, zap.String(f.name, f.value))
		}
	}
	if e.Count > 0 {
		fields = append(fields, zap.Int("count", e.Count))
	}
	fields = append(fields, zap.String("text", e.Text))
	if e.Hint != "" {
		fields = append(fields, zap.String("hint", e.Hint))
	}
	line.Write(fields...)
}

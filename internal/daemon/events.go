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
	if line := d.log().Check(level, "event"); line != nil {
		line.Write(zap.String("id", e.ID), zap.String("type", string(e.Type)), zap.String("exchange", e.Exchange), zap.String("kind", e.Kind),
			zap.String("upstream", e.Upstream), zap.Int("count", e.Count), zap.String("text", e.Text), zap.String("hint", e.Hint))
	}
}

package daemon

import (
	"cmp"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/health"
	"proxyd/internal/router"
)

// prober logs what health.Run finds.
type prober struct {
	snapshot func() *router.Router
	log      func() *zap.Logger
}

// observe keeps what a probe has found, and logs what is new in it.
func (o *prober) observe(p health.Pair, found health.Result) {
	r, before, changed := p.Apply(found)
	if r.Verdict == health.Unknown {
		o.log().Debug("probe", zap.String("upstream", p.Member.Name()), zap.String("exchange", p.Exchange), zap.String("text", r.Text))
	}
	if !changed {
		return
	}
	level := o.log().Warn
	if r.Verdict == health.OK {
		level = o.log().Info
	}
	level("verdict", zap.String("upstream", p.Member.Name()), zap.String("exchange", p.Exchange), zap.Stringer("kind", p.Kind),
		zap.String("verdict", string(r.Verdict)), zap.String("before", cmp.Or(string(before), "unknown")), zap.String("text", r.Text), zap.String("next", r.Hint))
}

// logEjected logs which upstreams are ejected and which come back since it was
// called before; out holds those that were. Choosing has nothing to log thus.
func (o *prober) logEjected(out map[string]bool) {
	for _, u := range o.snapshot().Set().Upstreams() {
		_, _, ejected := u.Ejected()
		switch {
		case ejected && !out[u.Name()]:
			e := u.Status().Ejection
			if e == nil { // back already
				continue
			}
			out[u.Name()] = true
			o.log().Warn("upstream ejected", zap.String("upstream", u.Name()), zap.String("class", string(e.Cause)),
				zap.Float64("for_s", e.Until.Sub(e.Since).Round(time.Millisecond).Seconds()))
		case !ejected && out[u.Name()]:
			delete(out, u.Name())
			o.log().Info("upstream back", zap.String("upstream", u.Name()))
		}
	}
}

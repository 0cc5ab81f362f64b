package daemon

import (
	"cmp"
	"context"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/health"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

// verdictTime is how long a verdict holds that no later check confirms, at least.
const verdictTime = 5 * time.Minute

// prober keeps what health.Run finds: in the upstreams, and in the log.
type prober struct {
	snapshot func() *router.Router
	log      func() *zap.Logger
}

// known is what the prober should know of a pair before it asks.
func (*prober) known(p health.Pair) (k health.Known) {
	until, _, ejected := p.Member.Ejected()
	k.Ejected, k.Back = ejected, until
	if p.Exchange == "" {
		return k
	}
	k.Opened, k.Carried = p.Member.Seen(p.Exchange, p.Kind)
	if v, ok := p.Member.Verdict(p.Exchange, p.Kind); ok && v.Word == upstream.WordRateLimited {
		k.Until = v.Until
	}
	return k
}

// observe remembers what a probe has found, and logs what is new in it.
func (o *prober) observe(p health.Pair, r health.Result) {
	if feedLives(p) {
		r = r.BesideFeed(p.Exchange)
	}
	if r.Verdict == health.Unknown {
		o.log().Debug("probe", zap.String("upstream", p.Member.Name()), zap.String("exchange", p.Exchange), zap.String("text", r.Text))
		return
	}
	word, isClass := r.Verdict, classWord(r.Verdict)
	found := upstream.Result{Exchange: p.Exchange, Kind: p.Kind, Blamed: !r.Unsure}
	switch {
	case isClass && r.Err != nil:
		found.Err = r.Err
	case isClass: // the way was open, and then the exchange was silent or left
		found.Err = &failure.Error{Class: failure.Class(word), Text: r.Text, Unsure: true}
	default:
		for _, s := range r.Steps {
			if s.Name == health.StepTCP || s.Name == health.StepProxy {
				found.Dial += s.Took
			}
		}
	}
	p.Member.Observe(found)
	if p.Exchange == "" || isClass && r.Unsure {
		return
	}
	before, had := p.Member.Verdict(p.Exchange, p.Kind)
	if r.Method != health.Exchange && !isClass && !(had && classWord(before.Word)) {
		return // a way that opens says nothing of what the exchange answers
	}
	until := r.Until
	if until.IsZero() && word != upstream.WordOK { // where checks are taken out of the file, what they found ends
		until = time.Now().Add(max(verdictTime, 3*p.Health.Interval))
	}
	p.Member.SetVerdict(p.Exchange, p.Kind, upstream.Verdict{Word: word, Until: until, Text: r.Text})
	if had && before.Word == word || !had && word == upstream.WordOK {
		return
	}
	level := o.log().Warn
	if word == upstream.WordOK {
		level = o.log().Info
	}
	level("verdict", zap.String("upstream", p.Member.Name()), zap.String("exchange", p.Exchange), zap.Stringer("kind", p.Kind),
		zap.String("verdict", string(word)), zap.String("before", cmp.Or(string(before.Word), "unknown")), zap.String("text", r.Text), zap.String("next", r.Hint))
}

// feedLives reports whether a websocket of the pair's exchange is open through
// its member, or has carried a moment ago.
func feedLives(p health.Pair) bool {
	if p.Exchange == "" {
		return false
	}
	_, carried := p.Member.Seen(p.Exchange, catalog.KindWebsocket)
	return !carried.IsZero() && time.Since(carried) < time.Second
}

// classWord reports whether a verdict is a class, and not what an exchange said.
func classWord(w upstream.Word) bool {
	switch w {
	case upstream.WordOK, upstream.WordGeoblocked, upstream.WordRateLimited, upstream.WordBlocked:
		return false
	}
	return true
}

// logEjections says who is taken out of use and who comes back, at most a second
// late, so that choosing has nothing to log. It runs until ctx ends.
func (p *prober) logEjections(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	out := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.logEjected(out)
		}
	}
}

func (p *prober) logEjected(out map[string]bool) {
	for _, u := range p.snapshot().Set().Upstreams() {
		_, _, ejected := u.Ejected()
		switch {
		case ejected && !out[u.Name()]:
			e := u.Status().Ejection
			if e == nil { // back already
				continue
			}
			out[u.Name()] = true
			p.log().Warn("upstream ejected", zap.String("upstream", u.Name()), zap.String("class", string(e.Cause)),
				zap.Float64("for_s", e.Until.Sub(e.Since).Round(time.Millisecond).Seconds()))
		case !ejected && out[u.Name()]:
			delete(out, u.Name())
			p.log().Info("upstream back", zap.String("upstream", u.Name()))
		}
	}
}

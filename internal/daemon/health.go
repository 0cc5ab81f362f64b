package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/admin"
	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/health"
	"proxyd/internal/upstream"
)

// verdictTime is how long a verdict holds that no later check confirms, at least.
const verdictTime = 5 * time.Minute

// known is what the prober should know of a pair before it asks.
func (d *Daemon) known(p health.Pair) (k health.Known) {
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
func (d *Daemon) observe(p health.Pair, r health.Result) {
	if d.feedLives(p) {
		r = r.BesideFeed(p.Exchange)
	}
	if r.Verdict == health.Unknown {
		d.log().Debug("probe", zap.String("upstream", p.Member.Name()), zap.String("exchange", p.Exchange), zap.String("text", r.Text))
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
	level := d.log().Warn
	if word == upstream.WordOK {
		level = d.log().Info
	}
	level("verdict", zap.String("upstream", p.Member.Name()), zap.String("exchange", p.Exchange), zap.Stringer("kind", p.Kind),
		zap.String("verdict", string(word)), zap.String("before", cmp.Or(string(before.Word), "unknown")), zap.String("text", r.Text), zap.String("next", r.Hint))
}

// feedLives reports whether a websocket of the pair's exchange is open through
// its member, or has carried a moment ago.
func (d *Daemon) feedLives(p health.Pair) bool {
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
func (d *Daemon) logEjections(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	out := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			d.logEjected(out)
		}
	}
}

func (d *Daemon) logEjected(out map[string]bool) {
	for _, u := range d.snapshot.Load().Set().Upstreams() {
		_, _, ejected := u.Ejected()
		switch {
		case ejected && !out[u.Name()]:
			e := u.Status().Ejection
			if e == nil { // back already
				continue
			}
			out[u.Name()] = true
			d.log().Warn("upstream ejected", zap.String("upstream", u.Name()), zap.String("class", string(e.Cause)),
				zap.Float64("for_s", e.Until.Sub(e.Since).Round(time.Millisecond).Seconds()))
		case !ejected && out[u.Name()]:
			delete(out, u.Name())
			d.log().Info("upstream back", zap.String("upstream", u.Name()))
		}
	}
}

// outlook says in words what is known of a member for a target, "" if nothing is
// against it.
func (d *Daemon) outlook(p *upstream.Pool, m upstream.Member, t upstream.Target) string {
	var words []string
	if !m.Enabled {
		words = append(words, "disabled")
	}
	if m.Drained(t.Exchange) {
		words = append(words, "drained")
	}
	s := m.Status()
	words = append(words, ejectionWords(s.Ejection)...)
	for _, p := range s.Pairs {
		if p.Degraded != nil && p.Exchange == t.Exchange && p.Kind == t.Kind.String() {
			words = append(words, "degraded for "+slowWords(p))
		}
	}
	if v, ok := m.Verdict(t.Exchange, t.Kind); ok && v.Word != upstream.WordOK {
		text := string(v.Word)
		if v.Word == upstream.WordRateLimited {
			text += " (" + admin.Duration(time.Until(v.Until)) + " left)"
		}
		words = append(words, text)
	}
	for _, r := range p.BudgetRows(m.Name(), t) {
		if !r.Limits.Watch || r.Remaining == 0 {
			words = append(words, r.String())
		}
	}
	return strings.Join(words, ", ")
}

func ejectionWords(e *upstream.Ejection) []string {
	if e == nil {
		return nil
	}
	end := "until a probe succeeds"
	if left := time.Until(e.Until); left > 0 {
		end = "at least " + admin.Duration(left) + " left"
	}
	return []string{fmt.Sprintf("ejected (for %s, %s): %s", admin.Duration(time.Since(e.Since)), end, e.Cause)}
}

// slowWords says for what an upstream is degraded, why and for how long.
func slowWords(p upstream.PairStatus) string {
	to := "other hosts"
	if p.Exchange != "" {
		to = p.Exchange + " " + p.Kind
	}
	return fmt.Sprintf("%s (%s left; a dial took %.0f ms, usually %.0f ms)", to, admin.Duration(time.Until(p.Degraded.Until)), p.Degraded.TookMS, p.Degraded.UsualMS)
}

// setDrained begins or ends a drain for an operator. Names compare without case,
// as in the file.
func (d *Daemon) setDrained(name, exchange string, on bool) error {
	name, exchange = strings.ToLower(name), strings.ToLower(exchange)
	set := d.snapshot.Load().Set()
	u := set.Upstream(name)
	if u == nil {
		var names []string
		for _, have := range set.Upstreams() {
			names = append(names, have.Name())
		}
		return fmt.Errorf("there is no upstream %q; there are: %s", name, strings.Join(names, ", "))
	}
	if exchange != "" {
		id, ok := d.snapshot.Load().Config().Known().Resolve(exchange)
		if !ok && !slices.ContainsFunc(d.snapshot.Load().Config().Exchanges, func(e config.Exchange) bool { return e.ID == exchange }) {
			return fmt.Errorf("there is no exchange %q; see: proxyd exchanges", exchange)
		}
		exchange = cmp.Or(id, exchange)
	}
	u.SetDrained(exchange, on)
	msg := "drained"
	if !on {
		msg = "resumed"
	}
	d.log().Info(msg, zap.String("upstream", name), zap.String("exchange", exchange))
	return nil
}

package health

import (
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/upstream"
)

// verdictTime is how long a verdict holds that no later check confirms, at least.
const verdictTime = 5 * time.Minute

// Known returns what the pair's member remembers of it.
func (p Pair) Known() (k Known) {
	until, _, ejected := p.Member.Ejected()
	k.Ejected, k.Back = ejected, until
	if p.Exchange == "" {
		return k
	}
	k.Opened, k.Carried = p.Member.LastSeen(p.Exchange, p.Kind)
	if v, ok := p.Member.Verdict(p.Exchange, p.Kind); ok && v.Word == RateLimited {
		k.Until = v.Until
	}
	return k
}

// Apply keeps in the pair's member what a probe has found. It returns the result
// as it counts beside the member's feeds, and, if the verdict is another than
// before, the one before.
func (p Pair) Apply(found Result) (r Result, before Verdict, changed bool) {
	r = found
	if p.feedLives() {
		r = r.BesideFeed(p.Exchange)
	}
	if r.Verdict == Unknown {
		return r, "", false
	}
	isClass := classWord(r.Verdict)
	p.Member.Observe(p.outcome(r, isClass))
	if p.Exchange == "" || isClass && r.Unsure {
		return r, "", false
	}
	old, had := p.Member.Verdict(p.Exchange, p.Kind)
	if r.Method != Exchange && !isClass && !(had && classWord(old.Word)) {
		return r, "", false // a connection that opens says nothing of what the exchange answers
	}
	until := r.Until
	if until.IsZero() && r.Verdict != OK { // where checks are taken out of the file, what they found ends
		until = time.Now().Add(max(verdictTime, 3*p.Health.Interval))
	}
	p.Member.SetVerdict(p.Exchange, p.Kind, upstream.Verdict{Word: r.Verdict, Until: until, Text: r.Text})
	if had && old.Word == r.Verdict || !had && r.Verdict == OK {
		return r, "", false
	}
	return r, old.Word, true
}

// outcome returns a result as the member counts it.
func (p Pair) outcome(r Result, isClass bool) upstream.Result {
	o := upstream.Result{Exchange: p.Exchange, Kind: p.Kind, Blamed: !r.Unsure}
	switch {
	case isClass && r.Err != nil:
		o.Err = r.Err
	case isClass: // the connection was open, and then the exchange was silent or left
		o.Err = &failure.Error{Class: failure.Class(r.Verdict), Text: r.Text, Unsure: true}
	default:
		for _, s := range r.Steps {
			if s.Name == StepTCP || s.Name == StepProxy {
				o.Dial += s.Took
			}
		}
	}
	return o
}

// feedLives reports whether a websocket of the pair's exchange is open through
// its member, or has carried messages in the last second.
func (p Pair) feedLives() bool {
	if p.Exchange == "" {
		return false
	}
	_, carried := p.Member.LastSeen(p.Exchange, catalog.KindWebsocket)
	return !carried.IsZero() && time.Since(carried) < time.Second
}

// classWord reports whether a verdict is a class, and not what an exchange said.
func classWord(w Verdict) bool {
	switch w {
	case OK, Geoblocked, RateLimited, Blocked:
		return false
	}
	return true
}

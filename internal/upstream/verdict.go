package upstream

import (
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
)

// Word is what is known of an upstream for one exchange and kind: one of these
// words or, where the way itself fails, a Class.
type Word string

// The words.
const (
	WordOK          Word = "ok"
	WordGeoblocked  Word = "geoblocked"   // the exchange does not serve the region of the exit
	WordRateLimited Word = "rate_limited" // the exchange wants no more from the exit, until Verdict.Until
	WordBlocked     Word = "blocked"      // the exchange turns the exit away for another reason
)

// Verdict is what was found out, and when. A member with a bad one for a pair of
// exchange and kind is avoided there while another is usable; one that is rate
// limited is not used before Until.
type Verdict struct {
	Word  Word      `json:"word"`
	Until time.Time `json:"until,omitzero"` // it ends by itself; zero: when another takes its place
	At    time.Time `json:"at"`
	Since time.Time `json:"since,omitzero"` // when it was first found; At is when it was last confirmed
	Text  string    `json:"text,omitempty"` // in words, free of credentials
}

// PairVerdict is a verdict and what it is about. One that is over, or that a
// living feed contradicts, does not hold.
type PairVerdict struct {
	Exchange string
	Kind     catalog.Kind
	Verdict  Verdict
	Holds    bool
}

// remembered is a verdict, and how often in a row traffic came to it.
type remembered struct {
	Verdict
	times int
}

// bad reports whether the verdict speaks against a pair now.
func (v *remembered) bad(now time.Time) bool {
	return v != nil && v.Word != WordOK && v.Word != "" && (v.Until.IsZero() || now.Before(v.Until))
}

// contradicted reports whether websocket tunnels of a pair are open: whatever
// was found, the exchange serves it. Nobody counts what lives on other kinds,
// whose connections say nothing of the next one.
func (pr *exchangeState) contradicted(kind catalog.Kind) bool {
	return kind == catalog.KindWebsocket && pr.live.Load() > 0
}

// SetVerdict remembers what was found out for an exchange and a kind in place of
// what was known before. At is now unless set.
func (u *Upstream) SetVerdict(exchange string, kind catalog.Kind, v Verdict) {
	if v.At.IsZero() {
		v.At = u.shared.now()
	}
	u.remember(u.exchange(exchange, kind), &remembered{Verdict: v})
}

func (u *Upstream) remember(pr *exchangeState, v *remembered) {
	u.state.mu.Lock()
	defer u.state.mu.Unlock()
	if v != nil {
		v.Since = v.At
		if old := pr.verdict.Load(); old != nil && old.Word == v.Word && u.goesOn(old, v.At) {
			v.Since = old.Since
		}
	}
	pr.verdict.Store(v)
	u.markPairs()
}

// goesOn reports whether a verdict that is found again is still the same state:
// nothing else was found since, though one that ended by itself long ago is over.
func (u *Upstream) goesOn(old *remembered, now time.Time) bool {
	switch old.Word {
	case WordOK, Word(failure.UpstreamDenied): // what ends a denial is a connection that is not denied
		return true
	}
	return old.bad(now) || now.Sub(old.Until) < u.rules.Max
}

// markPairs sets the mark of bad pairs anew, after something has changed about
// one. u.state.mu is held.
func (u *Upstream) markPairs() {
	defer u.shared.epoch.Add(1)
	for _, pr := range *u.state.pairsSeen.Load() {
		if pr == nil {
			continue
		}
		if v := pr.verdict.Load(); pr.drained.Load() || pr.degraded.Load() != 0 || v != nil && v.Word != WordOK {
			u.mark(markPairs, true)
			return
		}
	}
	u.mark(markPairs, false)
}

// Verdict is what is known for an exchange and a kind; ok is false when nothing
// is, or nothing that holds.
func (u *Upstream) Verdict(exchange string, kind catalog.Kind) (v Verdict, ok bool) {
	pr := u.known(exchange, kind)
	if pr == nil {
		return Verdict{}, false
	}
	known := pr.verdict.Load()
	if known == nil || !u.holds(kind, pr, known) {
		return Verdict{}, false
	}
	return known.Verdict, true
}

func (u *Upstream) holds(kind catalog.Kind, pr *exchangeState, v *remembered) bool {
	return v.Word == WordOK || v.bad(u.shared.now()) && !pr.contradicted(kind)
}

// Verdicts lists what is known, of all pairs.
func (u *Upstream) Verdicts() (list []PairVerdict) {
	u.eachPair(func(k pairKey, pr *exchangeState) {
		if v := pr.verdict.Load(); v != nil {
			list = append(list, PairVerdict{k.exchange, k.kind, v.Verdict, u.holds(k.kind, pr, v)})
		}
	})
	return list
}

// deny remembers that u refused a client's request for an exchange. It is tried
// again there after a time that grows as an ejection's does, or when the upstream
// has said.
func (u *Upstream) deny(t *Target, e *failure.Error) {
	if t.Exchange == "" { // who else will be asked for says nothing about one
		return
	}
	now, pr := u.shared.now(), u.exchange(t.Exchange, t.Kind)
	v := &remembered{Verdict: Verdict{Word: Word(e.Class), At: now, Text: e.Text}}
	if old := pr.verdict.Load(); old != nil && old.Word == v.Word {
		if v.times = old.times; !old.bad(now) {
			v.times++
		}
	} else if old.bad(now) {
		return // what the exchange itself said of it tells more
	}
	v.Until = now.Add(max(e.RetryAfter, u.rules.period(v.times)))
	u.remember(pr, v)
}

// allowed ends a denial: the way was opened after all. What an exchange says is
// not heard here, so its verdicts stay.
func (u *Upstream) allowed(t *Target) {
	pr := u.exchange(t.Exchange, t.Kind)
	if v := pr.verdict.Load(); v != nil && v.Word == Word(failure.UpstreamDenied) {
		u.remember(pr, nil)
	}
}

package upstream

import (
	"slices"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
)

// Word is what is known of an upstream for one exchange and kind: one of these
// words or, if the connection itself fails, a failure.Class.
type Word string

// The words.
const (
	WordOK          Word = "ok"
	WordGeoblocked  Word = "geoblocked"   // the exchange does not serve the region of the exit
	WordRateLimited Word = "rate_limited" // the exchange wants no more from the exit, until Verdict.Until
	WordBlocked     Word = "blocked"      // the exchange rejects the exit for another reason
)

// Verdict is what was found, and when. A member with a bad one for a pair of
// exchange and kind is avoided there while another is usable; one that is rate
// limited is not used before Until.
type Verdict struct {
	Word  Word      `json:"word"`
	Until time.Time `json:"until,omitzero"` // it ends by itself; zero: when it is replaced
	At    time.Time `json:"at"`
	Since time.Time `json:"since,omitzero"` // when it was first found; At is when it was last confirmed
	Text  string    `json:"text,omitempty"` // in words, free of credentials
	From  string    `json:"from,omitempty"` // the host of the fleet that found it; "": this process
}

// PairVerdict is a verdict with its exchange and kind. One that is over, or that a
// live feed contradicts, does not hold.
type PairVerdict struct {
	Exchange string
	Kind     catalog.Kind
	Verdict  Verdict
	Holds    bool
}

// storedVerdict is a verdict, and how often in a row traffic led to it.
type storedVerdict struct {
	Verdict
	times int
}

// bad reports whether the verdict speaks against a pair now.
func (v *storedVerdict) bad(now time.Time) bool {
	return v != nil && v.Word != WordOK && v.Word != "" && (v.Until.IsZero() || now.Before(v.Until))
}

// contradicted reports whether websocket tunnels of a pair are open: whatever was
// found, the exchange serves it. Connections of other kinds say nothing of the next
// one.
func (pr *exchangeState) contradicted(kind catalog.Kind) bool {
	return kind == catalog.KindWebsocket && pr.live.Load() > 0
}

// contradicts reports whether the pair's tunnels show that v is wrong. What another
// host has found is newer than they are, unless it may be about that host's probe alone.
func (pr *exchangeState) contradicts(v *storedVerdict, kind catalog.Kind) bool {
	return (v.From == "" || v.Word == WordBlocked) && pr.contradicted(kind)
}

// ByExchange reports whether w is what an exchange says against an exit.
func (w Word) ByExchange() bool {
	return w == WordGeoblocked || w == WordRateLimited || w == WordBlocked
}

// SetVerdict replaces the verdict for an exchange and a kind by what this process has
// found. At is now unless set.
func (u *Upstream) SetVerdict(exchange string, kind catalog.Kind, v Verdict) {
	if v.At.IsZero() {
		v.At = u.shared.now()
	}
	u.storeVerdict(u.exchange(exchange, kind), &storedVerdict{Verdict: v})
	if found := u.shared.found.Load(); found != nil && v.Word.ByExchange() {
		(*found)(u, PairVerdict{exchange, kind, v, true})
	}
}

// OfferVerdict takes over what another host, v.From, has found, unless what this
// process has found speaks against the pair too. At is now unless set.
func (u *Upstream) OfferVerdict(exchange string, kind catalog.Kind, v Verdict) {
	if v.At.IsZero() {
		v.At = u.shared.now()
	}
	pr := u.exchange(exchange, kind)
	u.state.mu.Lock()
	defer u.state.mu.Unlock()
	old := pr.verdict.Load()
	if old.bad(u.shared.now()) && (old.From == "" || old.Word == v.Word && old.From == v.From && old.Text == v.Text && old.Until.Equal(v.Until)) {
		return
	}
	u.replaceVerdict(pr, &storedVerdict{Verdict: v})
}

// WithdrawVerdict ends a verdict that another host has found.
func (u *Upstream) WithdrawVerdict(exchange string, kind catalog.Kind) {
	pr := u.known(exchange, kind)
	if pr == nil {
		return
	}
	u.state.mu.Lock()
	defer u.state.mu.Unlock()
	if v := pr.verdict.Load(); v != nil && v.From != "" {
		u.replaceVerdict(pr, nil)
	}
}

// storeVerdict replaces the verdict of a pair; nil removes it.
func (u *Upstream) storeVerdict(pr *exchangeState, v *storedVerdict) {
	u.state.mu.Lock()
	defer u.state.mu.Unlock()
	u.replaceVerdict(pr, v)
}

// replaceVerdict is storeVerdict. u.state.mu is held.
func (u *Upstream) replaceVerdict(pr *exchangeState, v *storedVerdict) {
	if v != nil {
		v.Since = v.At
		if old := pr.verdict.Load(); old != nil && old.Word == v.Word && u.continues(old, v.At) {
			v.Since = old.Since
		}
	}
	pr.verdict.Store(v)
	u.markPairs()
}

// continues reports whether a verdict that is found again is still the same state,
// which it is not if it ended by itself long ago.
func (u *Upstream) continues(old *storedVerdict, now time.Time) bool {
	switch old.Word {
	case WordOK, Word(failure.UpstreamDenied): // what ends a denial is a connection that is not denied
		return true
	}
	return old.bad(now) || now.Sub(old.Until) < u.rules.Max
}

// markPairs updates the mark of bad pairs after a change of one. u.state.mu is held.
func (u *Upstream) markPairs() {
	defer u.shared.epoch.Add(1)
	for _, pr := range *u.state.pairs.Load() {
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

// Verdict returns the verdict for an exchange and a kind; ok is false if there is
// none, or none that holds.
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

// Turned returns what an exchange was found to say against u, "" for nothing, also
// while tunnels are open that may show the contrary: those that the exchange ends at once
// do not.
func (u *Upstream) Turned(exchange string, kind catalog.Kind) Word {
	pr := u.known(exchange, kind)
	if pr == nil {
		return ""
	}
	if v := pr.verdict.Load(); v.bad(u.shared.now()) && v.Word.ByExchange() {
		return v.Word
	}
	return ""
}

// holds reports whether a verdict counts now.
func (u *Upstream) holds(kind catalog.Kind, pr *exchangeState, v *storedVerdict) bool {
	return v.Word == WordOK || v.bad(u.shared.now()) && !pr.contradicts(v, kind)
}

// Verdicts returns the verdicts of all pairs.
func (u *Upstream) Verdicts() (list []PairVerdict) {
	u.eachPair(func(k pairKey, pr *exchangeState) {
		if v := pr.verdict.Load(); v != nil {
			list = append(list, PairVerdict{k.exchange, k.kind, v.Verdict, u.holds(k.kind, pr, v)})
		}
	})
	return list
}

// BadVerdicts returns those of Verdicts that hold and speak against u.
func (u *Upstream) BadVerdicts() (list []PairVerdict) {
	if u.state.marks.Load()&markPairs == 0 {
		return nil
	}
	return slices.DeleteFunc(u.Verdicts(), func(v PairVerdict) bool { return !v.Holds || v.Verdict.Word == WordOK })
}

// deny records that u refused a client's request for an exchange. It is tried again
// there after a time that grows like an ejection's, or at the upstream's Retry-After.
func (u *Upstream) deny(t *Target, e *failure.Error) {
	if t.Exchange == "" { // a refusal of one host says nothing about others
		return
	}
	now, pr := u.shared.now(), u.exchange(t.Exchange, t.Kind)
	v := &storedVerdict{Verdict: Verdict{Word: Word(e.Class), At: now, Text: e.Text}}
	if old := pr.verdict.Load(); old != nil && old.Word == v.Word {
		if v.times = old.times; !old.bad(now) {
			v.times++
		}
	} else if old.bad(now) {
		return // the exchange's own verdict says more
	}
	v.Until = now.Add(max(e.RetryAfter, u.rules.period(v.times)))
	u.storeVerdict(pr, v)
}

// allowed ends a denial: a connection was opened. Verdicts of the exchange itself
// stay.
func (u *Upstream) allowed(t *Target) {
	pr := u.exchange(t.Exchange, t.Kind)
	if v := pr.verdict.Load(); v != nil && v.Word == Word(failure.UpstreamDenied) {
		u.storeVerdict(pr, nil)
	}
}

// turnedAwayTime is how long it holds that an exchange has answered a plain request with
// 451, if no check says otherwise.
const turnedAwayTime = 5 * time.Minute

// turnedAway records that the exchange has answered a plain request with 451: no other
// status is about the exit alone.
func (u *Upstream) turnedAway(t *Target) {
	if t.Exchange == "" { // what one host answers says nothing about others
		return
	}
	now, pr := u.shared.now(), u.exchange(t.Exchange, t.Kind)
	if v := pr.verdict.Load(); v.bad(now) && v.From == "" && (v.Word == WordRateLimited || v.Word.ByExchange() && v.Until.Sub(now) > turnedAwayTime-10*time.Second) {
		return // it says more, or was found a moment ago
	}
	u.SetVerdict(t.Exchange, t.Kind, Verdict{Word: WordGeoblocked, Until: now.Add(turnedAwayTime), Text: "HTTP 451 to a plain request"})
}

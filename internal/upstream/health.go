package upstream

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/dialer"
	"proxyd/internal/failure"
)

// health is how an upstream itself did of late, whatever the exchange.
type health struct {
	streak int           // failures of its own in a row
	cause  failure.Class // of the last one
	first  time.Time     // when the first one of that class in a row was
	last   time.Time     // when that was
	wins   int           // successes in a row since it was ejected
	times  int           // ejections in a row: each is longer
	since  time.Time     // ejected since; zero: it is not
	until  time.Time     // when it may come back, and a probe is due
	back   time.Time     // when it came back
}

// rules are when an upstream is ejected and comes back: those of the first pool
// of the file that has it.
type rules struct {
	config.Eject
	rise, fall int
}

const usualRise = 2 // where no health_check says

func rulesOf(p config.Pool) rules {
	r := rules{p.Eject, usualRise, p.Eject.After}
	if p.Health.Method != "" {
		r.rise, r.fall = p.Health.Rise, p.Health.Fall
	}
	r.After, r.rise, r.fall = max(1, r.After), max(1, r.rise), max(1, r.fall)
	return r
}

// period is how long the n-th ejection in a row lasts, from 0 on: base, twice
// that, and so on to max, less a random part of up to a fifth, so that those that failed
// together are not probed together.
func (r *rules) period(n int) time.Duration {
	d := r.Base
	for ; n > 0 && d < r.Max; n-- {
		d *= 2
	}
	d = max(min(d, r.Max), time.Millisecond)
	return d - rand.N(d/5+1) //nolint:gosec // spreads load, guards nothing
}

// ownFailure reports whether a failure is the upstream's own, and whether it is so
// plain that one is enough.
func ownFailure(e *failure.Error) (own, plain bool) {
	switch e.Class {
	case failure.UpstreamRefused:
		return true, true
	case failure.UpstreamProtocol, failure.UpstreamTLS:
		return true, dialer.IsReset(e.Err)
	case failure.UpstreamDNS, failure.UpstreamUnreachable, failure.UpstreamAuth, failure.UpstreamTimeout:
		return true, false
	default:
		return false, false
	}
}

// recordUpstreamError records a failure of u itself; as many as after in a row eject
// it.
func (u *Upstream) recordUpstreamError(c failure.Class, after int) {
	st, now := u.state, u.shared.now()
	st.mu.Lock()
	h := &st.health
	if h.streak == 0 && h.since.IsZero() || h.cause != c {
		h.first = now
	}
	h.streak++
	h.wins, h.cause, h.last = 0, c, now
	u.mark(markStreak, true)
	out := st.marks.Load()&markEjected != 0
	due := out && !now.Before(h.until) || !out && h.streak >= after
	st.mu.Unlock()
	if due && u.eject(now) {
		u.shared.idle.closeIdle(func(k idleKey) bool { return k.epoch == u.epoch })
	}
}

// eject takes u out of use, or leaves it out for longer, unless too many of a
// pool would be out. It reports whether u was in use.
func (u *Upstream) eject(now time.Time) bool {
	u.shared.ejecting.Lock() // one at a time, so that those that are out can be counted
	defer u.shared.ejecting.Unlock()
	was := u.state.marks.Load()&markEjected != 0
	if !was {
		for _, p := range u.pools {
			if !p.maySpare() {
				return false
			}
		}
	}
	u.state.mu.Lock()
	defer u.state.mu.Unlock()
	h := &u.state.health
	switch {
	case was && now.Before(h.until): // a concurrent failure came first
		return false
	case was:
		h.times++
	case !h.back.IsZero() && now.Sub(h.back) < u.rules.Max:
		h.times, h.since = h.times+1, now
	default:
		h.times, h.since = 0, now
	}
	h.until = now.Add(u.rules.period(h.times))
	u.mark(markEjected, true)
	return !was
}

// maySpare reports whether max_percent lets one more member be ejected.
func (p *Pool) maySpare() bool {
	in, out := 0, 1
	for i := range p.members {
		if m := &p.members[i]; m.Enabled {
			in++
			if m.state.marks.Load()&markEjected != 0 {
				out++
			}
		}
	}
	return out*100 <= in*p.maxPercent
}

// recordSuccess records a success of u. An ejected upstream comes back when its time
// is over and the last rise results were successes. Once that many were, its time
// shrinks to the base period: clients use it where no other is left, and a long
// period is for one that goes on failing.
func (u *Upstream) recordSuccess() {
	st := u.state
	if st.marks.Load()&(markEjected|markStreak) == 0 {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	h := &st.health
	h.streak, st.unanswered = 0, unanswered{}
	u.mark(markStreak, false)
	if st.marks.Load()&markEjected == 0 {
		return
	}
	h.wins++
	now := u.shared.now()
	switch soon := now.Add(u.rules.period(0)); {
	case h.wins < u.rules.rise:
	case !now.Before(h.until):
		h.wins, h.since, h.until, h.back = 0, time.Time{}, time.Time{}, now
		u.mark(markEjected, false)
	case soon.Before(h.until):
		h.until = soon
	}
}

// Ejected reports whether u is out of use for its own failures, since when, and when
// a probe is due. It stays out until rise probes in a row have succeeded.
func (u *Upstream) Ejected() (until, since time.Time, ejected bool) {
	u.state.mu.Lock()
	defer u.state.mu.Unlock()
	h := &u.state.health
	return h.until, h.since, !h.since.IsZero()
}

// Failing is what is wrong with an upstream itself.
type Failing struct {
	Cause   failure.Class // of the last failure
	Since   time.Time     // of the first one with that cause in a row
	Ejected time.Time     // since when it is ejected; zero: it is not
}

// Failing returns what is wrong with u itself; ok is false if nothing is.
func (u *Upstream) Failing() (f Failing, ok bool) {
	if u.state.marks.Load()&(markEjected|markStreak) == 0 {
		return Failing{}, false
	}
	u.state.mu.Lock()
	defer u.state.mu.Unlock()
	h := &u.state.health
	return Failing{h.cause, h.first, h.since}, h.streak > 0 || !h.since.IsZero()
}

// Result is what a probe of an upstream found.
type Result struct {
	Err      error         // nil: it succeeded; else a *failure.Error, as DialMember and Ping return it
	Blamed   bool          // other members succeed where u failed: if either may be to blame, u is
	Exchange string        // the target's, if it was an exchange
	Kind     catalog.Kind  // and its kind
	Dial     time.Duration // how long the dial took; 0: none succeeded
}

// Observe records a probe. fall failures of u itself in a row eject it; an answer
// that blames the target shows that u works. An error of a hop before it, or of this
// machine, says nothing of u. What the exchange answered is for SetVerdict.
func (u *Upstream) Observe(r Result) {
	if r.Dial > 0 {
		u.observeDial(r.Exchange, r.Kind, r.Dial, u.shared.elapsed(u.shared.now()))
	}
	slow := func(p *Pool) bool {
		return p.tooSlow(u, &selection{shared: u.shared, target: &Target{Exchange: r.Exchange, Kind: r.Kind}}, r.Dial)
	}
	e, failed := errors.AsType[*failure.Error](r.Err)
	switch {
	case r.Err == nil && slices.ContainsFunc(u.pools, slow):
		u.recordUpstreamError(failure.UpstreamTimeout, u.rules.fall)
	case r.Err == nil:
		u.recordSuccess()
	case !failed: // the caller gave up
	case e.Unsure || e.Class == failure.TargetTimeout:
		if r.Blamed {
			u.recordUpstreamError(e.Class, u.rules.fall)
		} else {
			u.deferProbe()
		}
	default:
		own, _ := ownFailure(e)
		switch {
		case own:
			u.recordUpstreamError(e.Class, u.rules.fall)
		case e.Hop, e.Class == failure.Local, e.Class == failure.Denied, e.Class == failure.NoUpstream, e.Class == failure.Budget:
		default:
			u.recordSuccess()
		}
	}
}

// FellSilent records that a tunnel through u was closed because its exchange sent
// next to nothing in it, while it went on through other upstreams.
func (u *Upstream) FellSilent() {
	if !u.IsDirect() {
		u.recordUpstreamError(failure.UpstreamTimeout, u.rules.After)
	}
}

// deferProbe postpones the next probe of an ejected upstream.
func (u *Upstream) deferProbe() {
	u.state.mu.Lock()
	defer u.state.mu.Unlock()
	if h := &u.state.health; !h.since.IsZero() {
		if now := u.shared.now(); !now.Before(h.until) {
			h.until = now.Add(u.rules.period(h.times))
		}
	}
}

// clearAuthFailure forgets that the credentials were refused: they have changed.
func (u *Upstream) clearAuthFailure() {
	u.state.mu.Lock()
	defer u.state.mu.Unlock()
	if u.state.health.cause == failure.UpstreamAuth {
		u.state.health = health{}
		u.mark(markEjected|markStreak, false)
	}
	for _, pr := range *u.state.pairs.Load() {
		if pr == nil {
			continue
		}
		if v := pr.verdict.Load(); v != nil && v.Word == Word(failure.UpstreamAuth) {
			pr.verdict.Store(nil)
		}
	}
	u.markPairs()
}

// tooSlow reports whether a dial to l's target through u that ended well took so
// long that it counts as a failure of u: more than attempt_seconds, and no other
// member is known to be as slow there, which would be the target's doing.
func (p *Pool) tooSlow(u *Upstream, l *selection, took time.Duration) bool {
	if took <= p.set.attempt || u.IsDirect() {
		return false
	}
	others := 0
	for i := range p.members {
		m := &p.members[i]
		if !m.Enabled || m.Upstream == u {
			continue
		}
		others++
		if known := p.knownLatency(i, l); known != math.MaxInt64 && known > int64(p.set.attempt) {
			return false
		}
	}
	return others > 0
}

// unattributed is a failure that was the upstream's own if another one succeeds.
type unattributed struct {
	*Upstream
	class failure.Class
}

// recordFailure records a failed attempt. It reports whether it is unclear who is to
// blame.
func (p *Pool) recordFailure(u *Upstream, t *Target, e *failure.Error, took time.Duration) (doubtful bool) {
	u.state.failed(e.Class)
	own, plain := ownFailure(e)
	switch timeout := e.Class == failure.UpstreamTimeout || e.Class == failure.TargetTimeout; {
	case e.Class == failure.UpstreamDenied:
		u.deny(t, e)
	case timeout && took < min(p.set.attempt, leastLeft): // the time was spent elsewhere
	case plain && !e.Hop:
		u.recordUpstreamError(e.Class, 1)
	case own:
		u.recordUpstreamError(e.Class, u.rules.After)
	default:
		return e.Unsure
	}
	return false
}

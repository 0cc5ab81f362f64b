package feed

import (
	"cmp"
	"slices"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// pair is the row of an exchange and kind.
type pair struct {
	counts
	key        pairKey
	feeds      []*feedRow
	configured bool
	outbound   string
	pool       *upstream.Pool         // nil: there is none to ask
	noMember   []upstream.Unavailable // why no member of it can be used; nil: one can
	memberless time.Time              // since when that is so

	state     State
	since     time.Time // when it began
	turned    time.Time // when that was noticed
	announced bool      // that it is lost

	// What has failed in a row: requests, and tunnels that ended at once. An open
	// ends the first; a tunnel that lasts, or a request that is answered, both.
	failures, shorts int
	failedSince      time.Time // when the first of them failed
	failedLast       time.Time // and the last one; of a tunnel, when it opened
	served           time.Time // when the last tunnel opened that has lasted
	byClient         bool      // its clients closed all of shorts
	opened           time.Time // when a request last succeeded that showed more than that it opens
	gaveUp           time.Time // when a client that had waited last left
	steady           int       // tunnels that are open and have lasted
	partial          partial
	causes           []cause // of the latest, the first ones first

	// high tunnels were open until fell; the zero time: they still are.
	high int
	fell time.Time

	inherited int       // tunnels that the process before this one had
	carrying  time.Time // when it began to work: a tunnel opened, or a request was answered
	risen     time.Time // when a tunnel last opened
	answered  time.Time // when a plain request was last answered
	ended     time.Time // when its last tunnel ended
	cutBy     string    // the upstream through which that went
}

// cause is one of the causes of failures.
type cause struct {
	class    failure.Class // "" for a tunnel that ended at once
	upstream string
	by       string    // who closed the tunnel
	last     time.Time // when it was last seen
}

const (
	lostAfter   = 3                // in a row
	maxCauses   = 16               // that are kept
	causeGoesOn = 5 * time.Second  // a cause that was seen so shortly before the last one goes on
	causesFor   = time.Minute      // a cause that is older than the last one by more is not named
	settledFall = 10 * time.Second // a fall that stopped halfway is over then
	requestsFor = time.Minute      // an exchange without tunnels is in use so long after a request
	justNow     = time.Second      // requests that have failed since one succeeded so shortly before are no loss yet
	curedAfter  = 5 * time.Second  // so long after the last failure a cure counts that no client has tried
	retryAfter  = time.Second      // tunnels that are open so long after the last failure are worth saying
	doubtFor    = 10 * time.Minute // what its clients closed at once, and did not open again, is no loss then
)

// rose notes that a tunnel has opened.
func (p *pair) rose(now time.Time) {
	p.carrying, p.risen = cmp.Or(p.carrying, now), now
	if p.live > p.high || p.live == p.high && p.fell.IsZero() {
		p.high, p.fell = p.live, time.Time{}
	}
	if p.shorts == 0 {
		p.opened = now
		p.worked()
	}
}

// succeeded notes that a plain request was answered.
func (p *pair) succeeded(now time.Time) {
	p.carrying = cmp.Or(p.carrying, now)
	p.answered, p.opened = latest(p.answered, now), now
	p.worked()
}

// lasted notes that a tunnel which opened at a time has shown that it is served.
func (p *pair) lasted(opened time.Time) {
	p.served = latest(p.served, opened)
	if p.live >= p.high { // as many as before: those that open and end at once are not
		p.high, p.fell = p.live, time.Time{}
	}
	if opened.After(p.failedLast) || p.failures == 0 && p.byClient {
		p.worked()
	}
}

// worked ends a row of failures.
func (p *pair) worked() {
	p.failures, p.shorts, p.byClient, p.failedSince = 0, 0, false, time.Time{}
	p.causes = p.causes[:0]
}

// fall notes that a tunnel ended at a time, of so many.
func (p *pair) fall(before int, now time.Time) {
	p.ended = latest(p.ended, now)
	halfway := before > p.high/2 && now.Sub(p.fell) > settledFall
	if p.fell.IsZero() || halfway && !p.state.Bad() {
		p.high, p.fell = before, now
	}
}

// failure notes that a request failed.
func (p *pair) failure(r *tunnel.Record, now time.Time) {
	if r.Class == failure.ClientGone {
		if now.Sub(p.gaveUp) < leaveTogether { // a bot that stops leaves all of its requests at once
			return
		}
		p.gaveUp = now
	}
	if p.failures == 0 && !p.opened.IsZero() {
		p.partial.relapse(now)
	}
	p.failures++
	p.failedSince, p.failedLast = cmp.Or(p.failedSince, now), now
	for i := range r.Attempts {
		p.note(cause{class: r.Attempts[i].Class, upstream: r.Attempts[i].Upstream, last: now})
	}
	if len(r.Attempts) == 0 {
		p.note(cause{class: r.Class, upstream: r.Upstream, last: now})
	}
}

// short notes that a tunnel ended at once.
func (p *pair) short(r *tunnel.Record, now time.Time) {
	opened := now
	if !r.Start.IsZero() {
		opened = r.Start.Add(r.Dial)
	}
	byClient := r.ClosedBy == tunnel.ByClient
	switch {
	case opened.Before(p.served): // its client has closed it late: a later tunnel has shown that it is served
		return
	case byClient && p.steady > 0 && 2*p.steady >= p.high: // this client wanted no more: the feeds go on
		return
	}
	p.byClient = byClient && (p.shorts == 0 || p.byClient)
	p.shorts++
	p.failedSince, p.failedLast = cmp.Or(p.failedSince, now), latest(p.failedLast, opened)
	p.note(cause{upstream: r.Upstream, by: r.ClosedBy, last: now})
}

func (p *pair) note(c cause) {
	for i := range p.causes {
		if old := &p.causes[i]; old.class == c.class && old.upstream == c.upstream && old.by == c.by {
			old.last = c.last
			return
		}
	}
	if len(p.causes) == maxCauses {
		p.causes = slices.Delete(p.causes, 0, 1)
	}
	p.causes = append(p.causes, c)
}

// checkPool notes whether a member of the pair's pool can be used. That all have
// just refused one request says little of others: three in a row do. One that is
// ejected and carries connections again is used where there is no other.
func (p *pair) checkPool(now time.Time) {
	before := p.noMember
	p.noMember = nil
	if p.pool != nil && !p.pool.Usable(p.key.exchange, p.key.kind) {
		list := p.pool.Unavailable(p.key.exchange, p.key.kind)
		if slices.ContainsFunc(list, func(u upstream.Unavailable) bool { return !u.Soon }) &&
			!slices.ContainsFunc(list, func(u upstream.Unavailable) bool { return u.Answers }) {
			p.noMember = list
		}
	}
	if before == nil && p.noMember != nil {
		p.memberless = now
	}
}

// silence returns the worst silence of its feeds, nil if there is none.
func (p *pair) silence() (worst *Silence) {
	for _, f := range p.feeds {
		if s := f.silence.now(); s != nil && (worst == nil || s.Tunnels > worst.Tunnels) {
			worst = s
		}
	}
	return worst
}

// failing reports whether so much has failed in a row that the pair is lost.
func (p *pair) failing(now time.Time) bool {
	switch {
	case p.key.exchange == "" || p.failures+p.shorts < lostAfter:
		return false
	case p.shorts == 0 && p.key.kind != catalog.KindWebsocket && now.Sub(p.opened) < justNow: // of many requests at the same time, some fail in a row
		return false
	case p.failures == 0 && p.byClient && p.live == 0:
		return now.Sub(p.used) <= doubtFor
	}
	return true
}

// retrying reports whether tunnels of a pair that is lost have opened since the last
// failure, and it is to be seen whether they last.
func (p *pair) retrying(now time.Time) bool {
	last := p.lastFailure()
	return p.state == Lost && p.live > 0 && p.failing(now) && !p.risen.Before(last) && now.Sub(last) >= retryAfter
}

// silentTunnels returns how many tunnels of its silent feeds are silent.
func (p *pair) silentTunnels() (n int) {
	for _, f := range p.feeds {
		if s := f.silence.now(); s != nil {
			n += s.Tunnels
		}
	}
	return n
}

// judge returns the state of a pair now, and when it began if it is a new one.
func (p *pair) judge(now time.Time) (State, time.Time) {
	silence := p.silence()
	asked := !p.answered.IsZero() && now.Sub(p.answered) < requestsFor
	switch {
	case p.failing(now):
		return Lost, p.failedSince
	case p.noMember != nil && p.live == 0 && !(asked && p.answered.After(p.memberless)): // they are tried where none is left
		return Lost, now
	case silence != nil:
		return Silent, silence.Since
	case p.live > 0, asked:
		return OK, p.carrying
	case p.ended.IsZero() && p.answered.IsZero():
		return NoTraffic, now
	}
	return Idle, latest(p.ended, p.answered)
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

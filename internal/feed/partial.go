package feed

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
)

// partial is what is known of a pair that is not lost, and not well: requests fail
// while others succeed, or tunnels are ended and opened again, over and over.
type partial struct {
	relapses [partlyAfter]time.Time // when the latest requests failed after one that had succeeded, a ring
	next     int

	cuts, cutsBefore int       // tunnels that were ended for the clients, in this and in the last half minute
	half             time.Time // when this half minute began
	cut              time.Time // when the last one was
}

const (
	partlyAfter = 3 // relapses within partlyFor are worth a line
	partlyFor   = time.Minute
	partlyUntil = 8 * time.Second // after the last one
	partlyShare = 20              // one in so many requests at least
	churnTimes  = 2               // as often is each tunnel ended in half a minute to a minute
	churnLeast  = 6               // tunnels

	desertedAfter = 30 * time.Second // clients that come back have done so, or tried to
)

// relapse notes that a request failed after one that had succeeded.
func (x *partial) relapse(now time.Time) {
	x.relapses[x.next] = now
	x.next = (x.next + 1) % partlyAfter
}

// relapsing reports whether requests fail while others succeed.
func (x *partial) relapsing(now time.Time) bool {
	oldest, last := x.relapses[x.next], x.relapses[(x.next+partlyAfter-1)%partlyAfter]
	return !oldest.IsZero() && now.Sub(oldest) < partlyFor && now.Sub(last) < partlyUntil
}

// ended counts a tunnel that was ended for its client.
func (x *partial) ended(r *tunnel.Record, now time.Time) {
	if r.Kind != catalog.KindWebsocket || r.ClosedBy == tunnel.ByClient || r.ClosedBy == tunnel.ByProxyd {
		return
	}
	switch passed := now.Sub(x.half); {
	case passed >= time.Minute:
		x.cuts, x.cutsBefore, x.half = 0, 0, now
	case passed >= time.Minute/2:
		x.cuts, x.cutsBefore, x.half = 0, x.cuts, x.half.Add(time.Minute/2)
	}
	x.cuts++
	x.cut = now
}

// churning reports whether the tunnels of a pair are ended over and over.
func (p *pair) churning(now time.Time) bool {
	n := p.partial.cuts + p.partial.cutsBefore
	return now.Sub(p.partial.cut) < partlyUntil && n >= churnLeast && n >= churnTimes*max(p.live, p.high)
}

// unwell returns what is wrong in a second with a pair that is in use and not lost, and the cause of it;
// "" if nothing is.
func (p *pair) unwell(sec int64, now time.Time) (text, why string) {
	if p.state != OK && p.state != Idle || p.key.exchange == "" {
		return "", ""
	}
	if p.deserted(now) {
		c := causeWords([]cause{{by: tunnel.ByUpstream, upstream: p.cutBy}})
		return fmt.Sprintf("%s, and not opened again: %s", p.openWords(now), c), c
	}
	if p.partial.relapsing(now) && p.failsOften(sec) {
		c := causeWords([]cause{{class: failure.Class(p.lastFailed.Class), upstream: p.lastFailed.Upstream}})
		return fmt.Sprintf("%d refused in 1 min while others succeed: %s", p.failedLately(sec), c), c
	}
	if p.churning(now) {
		c := "closed by " + who(p.lastClose.By)
		if names := p.carriers(); len(names) > 0 {
			c += " through " + namesOf(names)
		}
		return fmt.Sprintf("%s, %d reconnects in 1 min: %s", printable.Count(p.live, "tunnel", "tunnels"), p.reconnects(sec), c), c
	}
	return "", ""
}

// deserted reports whether an upstream has ended the last tunnels of a pair, and its
// clients have not come back for them.
func (p *pair) deserted(now time.Time) bool {
	gone := now.Sub(p.ended)
	return p.state == Idle && p.key.kind == catalog.KindWebsocket && p.lastClose.By == tunnel.ByUpstream && gone > desertedAfter && gone < keepFor
}

// failsOften reports whether at least one in partlyShare requests of the last minute
// or two failed.
func (p *pair) failsOften(sec int64) bool {
	if p.stats == nil {
		return false
	}
	s := p.at(sec)
	now, before := s.minutes[sec/60%minutes], s.minutes[(sec/60+minutes-1)%minutes]
	return (now.failed+before.failed)*partlyShare >= now.failed+before.failed+now.opened+before.opened
}

// cured reports whether what made the requests of a pair fail is seen to be over,
// though its clients have given up and none of them tries: a member of the pool that
// was out of use is back, a limit has room again, or the configuration does not refuse
// the exchange any more. snap is the configuration in force since configured, nil for none.
func (p *pair) cured(snap *router.Router, configured time.Time) bool {
	return len(p.causes) > 0 && !slices.ContainsFunc(p.causes, func(c cause) bool {
		switch c.class {
		case failure.UpstreamRefused, failure.UpstreamUnreachable, failure.UpstreamDNS: // a probe would see the same
			return p.noMember != nil || p.memberless.Before(p.failedSince)
		case failure.NoUpstream:
			return p.noMember != nil
		case failure.Budget:
			return snap == nil || !p.hasRoom(snap)
		case failure.Denied:
			return p.outbound == "" || p.outbound == "reject" || !c.last.Before(configured)
		}
		return true
	})
}

// hasRoom reports whether the limits on the pair's outbound have room for a connection.
func (p *pair) hasRoom(snap *router.Router) bool {
	pool := p.pool
	if p.outbound == "" { // it has no entry
		_, pool = outboundOf(snap, snap.Config().Default.Of(p.key.kind))
	}
	return cmp.Or(pool, snap.Set().Direct()).HasRoom(p.key.exchange, p.key.kind)
}

// carriers returns the upstreams that carry tunnels of the pair.
func (p *pair) carriers() (names []string) {
	for _, f := range p.feeds {
		if f.live > 0 {
			names = append(names, f.upstream)
		}
	}
	slices.Sort(names)
	return names
}

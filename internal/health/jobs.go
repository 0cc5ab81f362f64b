package health

import (
	"math/rand/v2"
	"time"

	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

func randomly() float64 { return rand.Float64() } //nolint:gosec // spreads load, guards nothing

// renew follows a new snapshot: what is still wanted keeps its plan.
func (l *loop) renew(r *router.Router, now time.Time) {
	l.seen = r
	before := l.jobs
	l.jobs = map[jobKey]*job{}
	l.pairs = Pairs(r, Configured(r.Config()))
	add := func(p Pair, m Method) {
		if p.Health.Interval <= 0 {
			p.Health.Interval = defaultInterval
		}
		key := keyOf(p)
		if have := l.jobs[key]; have != nil { // in two pools
			have.every = min(have.every, p.Health.Interval)
			return
		}
		j := &job{pair: p, method: m, set: r.Set(), every: p.Health.Interval, next: now.Add(l.part(min(p.Health.Interval/2, firstWait)))}
		if old := before[key]; old != nil {
			j.good = old.good
			j.next = earlier(j.next, old.next)
			if old.running {
				j.next = now.Add(j.every)
			}
		}
		l.jobs[key] = j
	}
	for _, p := range l.pairs {
		switch m := Method(p.Health.Method); m {
		case "":
		case TCP:
			add(Pair{Member: p.Member, Pool: p.Pool, Health: p.Health}, TCP)
		default:
			add(p, m)
		}
	}
	for _, c := range r.Config().Pools { // no exchange's way, but a health_check all the same
		if c.Health.Method == "" {
			continue
		}
		pool := r.Set().Pool(c.Name)
		for _, m := range pool.Members() {
			if m.Enabled && !l.has(m.Upstream) {
				add(Pair{Member: m.Upstream, Pool: pool, Health: c.Health}, TCP)
			}
		}
	}
}

// has reports whether anything asks a member.
func (l *loop) has(u *upstream.Upstream) bool {
	for _, j := range l.jobs {
		if j.pair.Member == u {
			return true
		}
	}
	return false
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func keyOf(p Pair) jobKey {
	return jobKey{member: p.Member.Name(), url: p.Member.URL(), exchange: p.Exchange, kind: uint8(p.Kind)}
}

// returning plans the probes through which ejected members come back, and drops
// those of members that are.
func (l *loop) returning(now time.Time) {
	for _, u := range l.seen.Set().Upstreams() {
		key := keyOf(Pair{Member: u})
		key.back = true
		k := l.Known(Pair{Member: u})
		j := l.jobs[key]
		switch {
		case !k.Ejected && j != nil && !j.running:
			delete(l.jobs, key)
		case k.Ejected && j == nil:
			p, m := l.wayBack(u, now)
			l.jobs[key] = &job{pair: p, method: m, set: l.seen.Set(), next: later(k.Back, now)}
		case k.Ejected && !j.running:
			j.next = later(j.next, k.Back)
		}
	}
}

// wayBack is how to find out whether a member is fit again: by a way to an
// exchange that it serves and that does not mind being asked, or else by
// whether it accepts.
func (l *loop) wayBack(u *upstream.Upstream, now time.Time) (Pair, Method) {
	for _, p := range l.pairs {
		if p.Member == u && !now.Before(l.Known(p).Until) {
			return p, Connect
		}
	}
	p := Pair{Member: u}
	for _, c := range l.seen.Config().Pools {
		pool := l.seen.Set().Pool(c.Name)
		for _, m := range pool.Members() {
			if m.Upstream == u {
				p.Pool, p.Health = pool, c.Health
			}
		}
	}
	return p, TCP
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

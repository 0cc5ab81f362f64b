package health

import (
	"math/rand/v2"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

func randomly() float64 { return rand.Float64() } //nolint:gosec // spreads load, guards nothing

// renew follows a new snapshot: what is still wanted keeps its plan, since that a
// file was saved is no reason to ask anybody.
func (l *loop) renew(r *router.Router, now time.Time) {
	l.seen = r
	before := l.jobs
	l.want(r)
	for key, j := range l.jobs {
		first := now.Add(l.part(min(j.every/2, firstWait)))
		old := before[key]
		if old == nil {
			j.next = first
			continue
		}
		if j.every < old.every || j.method != old.method {
			old.next = later(earlier(old.next, first), old.until)
		}
		old.pair, old.method, old.set, old.every = j.pair, j.method, j.set, j.every
		l.jobs[key] = old
	}
}

// want makes jobs of what a snapshot wants to be probed, without plans.
func (l *loop) want(r *router.Router) {
	c := r.Config()
	l.jobs = map[jobKey]*job{}
	l.pairs = Pairs(r, Configured(c))
	l.used = membersInUse(r)
	add := func(p Pair, m Method) {
		if p.Health.Interval <= 0 {
			p.Health.Interval = defaultInterval
		}
		key := keyOf(p)
		if have := l.jobs[key]; have != nil { // in two pools
			have.every = min(have.every, p.Health.Interval)
			return
		}
		l.jobs[key] = &job{pair: p, method: m, set: r.Set(), every: p.Health.Interval}
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
	for _, p := range c.Pools { // no exchange's way, but a health_check all the same
		if p.Health.Method == "" {
			continue
		}
		pool := r.Set().Pool(p.Name)
		for _, m := range pool.Members() {
			if m.Enabled && l.used[m.Upstream] && !l.has(m.Upstream) {
				add(Pair{Member: m.Upstream, Pool: pool, Health: p.Health}, TCP)
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
		if !l.used[u] {
			continue
		}
		key := keyOf(Pair{Member: u})
		key.back = true
		k := l.Known(Pair{Member: u})
		j := l.jobs[key]
		switch {
		case !k.Ejected && j != nil && !j.running:
			delete(l.jobs, key)
		case k.Ejected && j == nil:
			l.jobs[key] = &job{set: l.seen.Set(), next: later(k.Back, now)}
			l.aim(l.jobs[key], u, now)
		case k.Ejected && !j.running:
			if j.next = later(j.next, k.Back); !now.Before(j.next) {
				l.aim(j, u, now)
			}
		}
	}
}

// aim chooses how to find out whether a member is fit again: by a way to an
// exchange that it serves and that does not mind being asked, or else by
// whether it accepts.
func (l *loop) aim(j *job, u *upstream.Upstream, now time.Time) {
	if ways := l.waysBack(u, now); len(ways) > 0 {
		j.pair, j.method = ways[j.turn%len(ways)], Connect
		return
	}
	j.pair, j.method = Pair{Member: u}, TCP
	for _, c := range l.seen.Config().Pools {
		pool := l.seen.Set().Pool(c.Name)
		for _, m := range pool.Members() {
			if m.Upstream == u {
				j.pair.Pool, j.pair.Health = pool, c.Health
			}
		}
	}
}

// waysBack are the pairs through which a member may come back.
func (l *loop) waysBack(u *upstream.Upstream, now time.Time) (ways []Pair) {
	for _, p := range l.pairs {
		if p.Member == u && !now.Before(l.Known(p).Until) && !u.Drained(p.Exchange) {
			ways = append(ways, p)
		}
	}
	return ways
}

// mostTurns is how many exchanges are tried before it is said of a member that
// nobody can tell.
const mostTurns = 3

// turnsOver says whether a member that wants to come back should be tried through
// no other exchange now, because of the one that did not do nobody knows whose
// fault it was.
func (l *loop) turnsOver(j *job, now time.Time) bool {
	j.turn++
	n := min(mostTurns, len(l.waysBack(j.pair.Member, now)))
	return n == 0 || j.turn%n == 0
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// membersInUse are the members that something leads to: a way of the
// configuration, or one whose hop before they are.
func membersInUse(r *router.Router) map[*upstream.Upstream]bool {
	c, set := r.Config(), r.Set()
	used := map[*upstream.Upstream]bool{}
	for _, m := range set.Direct().Members() {
		used[m.Upstream] = true
	}
	pools := map[string]config.Pool{}
	for _, p := range c.Pools {
		pools[p.Name] = p
	}
	seen := map[string]bool{}
	var add func(w *config.Outbound)
	add = func(w *config.Outbound) {
		if w == nil || w.Action != config.Use || seen[w.Pool] {
			return
		}
		seen[w.Pool] = true
		for _, m := range set.Pool(w.Pool).Members() {
			if m.Enabled {
				used[m.Upstream] = true
			}
		}
		for _, m := range pools[w.Pool].Proxies {
			if m.Enabled {
				add(m.Via)
			}
		}
	}
	if c.Enabled {
		for _, w := range ways(c) {
			add(w)
		}
	}
	return used
}

// ways are all that a configuration sends anything, those that are not set
// among them.
func ways(c *config.Config) []*config.Outbound {
	list := []*config.Outbound{c.Default.HTTP, c.Default.Websocket}
	for i := range c.Exchanges {
		list = append(list, c.Exchanges[i].Outbounds.HTTP, c.Exchanges[i].Outbounds.Websocket)
	}
	for i := range c.Routes {
		list = append(list, &c.Routes[i].Outbound)
	}
	for i := range c.Listen {
		list = append(list, c.Listen[i].Use)
	}
	return list
}

package health

import (
	"math/rand/v2"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

func randomly() float64 { return rand.Float64() } //nolint:gosec // spreads load, guards nothing

// renew replaces the jobs for a new snapshot: what is still wanted keeps its plan: a saved
// file is no reason to probe.
func (l *loop) renew(r *router.Router, now time.Time) {
	l.seen = r
	before := l.jobs
	l.buildJobs(r)
	for key, j := range l.jobs {
		first := now.Add(l.jitter(min(j.every/2, firstWait)))
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

// buildJobs makes jobs of what a snapshot wants to be probed, without plans.
func (l *loop) buildJobs(r *router.Router) {
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
	for _, p := range c.Pools { // no exchange uses it, but it has a health_check
		if p.Health.Method == "" {
			continue
		}
		pool := r.Set().Pool(p.Name)
		for _, m := range pool.Members() {
			if m.Enabled && l.used[m.Upstream] && !l.probes(m.Upstream) {
				add(Pair{Member: m.Upstream, Pool: pool, Health: p.Health}, TCP)
			}
		}
	}
}

// probes reports whether anything asks a member.
func (l *loop) probes(u *upstream.Upstream) bool {
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
			l.jobs[key] = &job{set: l.seen.Set(), next: later(k.Back, now), back: k.Back}
			l.chooseReturnProbe(l.jobs[key], u, now)
		case k.Ejected && !j.running:
			if k.Back.Before(j.back) { // clients have opened connections through it
				j.next = later(k.Back, now)
			}
			j.back = k.Back
			if j.next = later(j.next, k.Back); !now.Before(j.next) {
				l.chooseReturnProbe(j, u, now)
			}
		}
	}
}

// chooseReturnProbe chooses how to find out whether a member is fit again: by a connection
// to an exchange that it serves and that is not rate-limited, or else by whether
// the member accepts.
func (l *loop) chooseReturnProbe(j *job, u *upstream.Upstream, now time.Time) {
	if pairs := l.returnPairs(u, now); len(pairs) > 0 {
		j.pair, j.method = pairs[j.turn%len(pairs)], Connect
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

// returnPairs returns the pairs through which a member may come back.
func (l *loop) returnPairs(u *upstream.Upstream, now time.Time) (pairs []Pair) {
	for _, p := range l.pairs {
		if p.Member == u && !now.Before(l.Known(p).Until) && !u.Drained(p.Exchange) {
			pairs = append(pairs, p)
		}
	}
	return pairs
}

// maxTried is how many exchanges are tried before the result for a member is
// that it cannot be known.
const maxTried = 3

// allTried reports whether a member that may come back has been tried through
// enough exchanges, after one that failed for reasons that cannot be told apart.
func (l *loop) allTried(j *job, now time.Time) bool {
	j.turn++
	n := min(maxTried, len(l.returnPairs(j.pair.Member, now)))
	return n == 0 || j.turn%n == 0
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// membersInUse returns the members that the configuration leads to, directly or
// as the hop before another one.
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
		for _, w := range outbounds(c) {
			add(w)
		}
	}
	return used
}

// outbounds returns all outbounds of a configuration, with nil for those that are
// not set.
func outbounds(c *config.Config) []*config.Outbound {
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

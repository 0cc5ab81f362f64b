package convert

import (
	"cmp"
	"slices"
	"strings"

	"proxyd/internal/config"
	"proxyd/internal/target"
)

// decide makes a route for each pattern of the acls, the narrowest first, and the
// default. Of two patterns one holds the other, or they have nothing in common: so a
// target belongs to the first that matches it, and all acls agree about what is in it.
func (q *squid) decide() {
	hosts := q.patterns()
	q.def = q.outbound(nil)
	for i := 0; i < len(hosts); i++ {
		p := hosts[i]
		names := []string{p.String()}
		if p.Kind == target.Wildcard { // .x is x too
			names = []string{p.Name, p.String()}
		}
		q.route(q.outbound(&p), names...)
	}
	if q.def == "direct" {
		q.defNotes = append(q.defNotes, "squid asks no peer for the rest")
	}
}

// patterns returns the patterns of all acls that are used, each once, the narrowest
// first.
func (q *squid) patterns() (list []target.Pattern) {
	rules := slices.Concat(q.always, q.never)
	for _, p := range q.peers {
		rules = append(rules, p.access...)
	}
	for _, r := range rules {
		for _, name := range r.acls {
			a := q.acls[strings.TrimPrefix(name, "!")]
			if a == nil {
				continue
			}
			for _, p := range a.patterns {
				if !slices.Contains(list, p) {
					list = append(list, p)
				}
			}
		}
	}
	slices.SortStableFunc(list, func(a, b target.Pattern) int { return cmp.Compare(narrowness(b), narrowness(a)) })
	return list
}

// narrowness is larger for a pattern that another one holds.
func narrowness(p target.Pattern) int {
	switch p.Kind {
	case target.Exact:
		return 1000 + len(p.Name)
	case target.Wildcard:
		return len(p.Name)
	}
	return p.Prefix.Bits()
}

// outbound returns where the targets of a pattern go, those of none for nil. Where no
// peer is left because rules are lost, they do not go direct: they go to the peers whose
// lost rules ask for the client alone, else are rejected.
func (q *squid) outbound(p *target.Pattern) string {
	if q.allowed(q.always, p, false, nothing, everything) {
		return "direct"
	}
	peers := func(l leniency) (list []*squidPeer) {
		for _, peer := range q.peers {
			if q.allowed(peer.access, p, true, l, nothing) {
				list = append(list, peer)
			}
		}
		return list
	}
	list := peers(nothing)
	if len(list) == 0 {
		list = peers(clients)
	}
	switch {
	case len(list) > 0:
		return q.pool(list)
	case len(peers(everything)) > 0, q.allowed(q.never, p, false, everything, nothing):
		return "reject"
	}
	return "direct"
}

// leniency is which acls that proxyd does not know are taken to match in a lost rule.
// With nothing, such a rule never matches.
type leniency int

const (
	nothing leniency = iota
	clients          // those that do not ask for the target
	everything
)

// allowed returns what an access list says: the first rule that matches, else the
// opposite of the last one, else what holds without a list. allow and deny are for lost
// rules.
func (q *squid) allowed(rules []squidRule, p *target.Pattern, without bool, allow, deny leniency) bool {
	last := !without
	for _, r := range rules {
		l := deny
		if last = r.allow; r.allow {
			l = allow
		}
		if r.lost && l == nothing {
			continue
		}
		if !slices.ContainsFunc(r.acls, func(name string) bool {
			plain, not := strings.CutPrefix(name, "!")
			a := q.acls[plain]
			if a == nil || a.unknown {
				return l != everything && (a == nil || a.named)
			}
			return a.holds(p) == not
		}) {
			return r.allow
		}
	}
	return !last
}

// holds reports whether an acl matches the targets of a pattern.
func (a *squidACL) holds(p *target.Pattern) bool {
	if a.all || p == nil {
		return a.all
	}
	return slices.ContainsFunc(a.patterns, func(x target.Pattern) bool {
		switch {
		case x == *p:
			return true
		case x.Kind == target.CIDR || p.Kind == target.CIDR:
			return x.Kind == p.Kind && x.Prefix.Bits() <= p.Prefix.Bits() && x.Prefix.Contains(p.Prefix.Addr())
		}
		return x.Kind == target.Wildcard && (p.Name == x.Name || strings.HasSuffix(p.Name, "."+x.Name))
	})
}

// pool returns the pool of peers. squid asks round-robin peers before others, and
// those with default last.
func (q *squid) pool(peers []*squidPeer) string {
	var ids []string
	for _, p := range peers {
		ids = append(ids, p.name)
	}
	key := strings.Join(ids, " ")
	if q.pools[key] != "" {
		return q.pools[key]
	}
	name, strategy := "peers", string(config.Failover)
	if len(peers) == 1 {
		name, strategy = peers[0].name, ""
	}
	has := func(option string) func(*squidPeer) bool {
		return func(p *squidPeer) bool { _, ok := p.options[option]; return ok }
	}
	all := func(option string) bool {
		return !slices.ContainsFunc(peers, func(p *squidPeer) bool { return !has(option)(p) })
	}
	switch {
	case len(peers) == 1:
	case all("round-robin"), all("sourcehash"), all("userhash"):
		strategy = string(config.RoundRobin)
	case all("weighted-round-robin"):
		strategy = string(config.LowestLatency)
	case all("carp"):
		strategy = string(config.Hash)
	}
	rank := func(p *squidPeer) int {
		switch {
		case has("round-robin")(p), has("weighted-round-robin")(p), has("carp")(p):
			return 0
		case has("default")(p):
			return 2
		}
		return 1
	}
	peers = slices.Clone(peers)
	slices.SortStableFunc(peers, func(a, b *squidPeer) int { return cmp.Compare(rank(a), rank(b)) })
	pool := q.newPool(name, strategy)
	for _, p := range peers {
		pool.add(p.member)
		if strategy == string(config.RoundRobin) && len(peers) > 1 && !has("round-robin")(p) {
			pool.comment(q.lose(p.line, "cache_peer: the client that a peer serves by sourcehash or userhash"))
		}
	}
	q.pools[key] = pool.name
	return pool.name
}

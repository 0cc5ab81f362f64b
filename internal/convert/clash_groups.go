package convert

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
)

// clashGroup is an entry of proxy-groups.
type clashGroup struct {
	name  string
	node  *yaml.Node
	state int // 1: being read, 2: read
	out   string
	ok    bool
	pool  *pool // nil for select
}

// outbound returns the outbound that stands for a proxy or a group. ok is false if it
// cannot be carried over.
func (c *clash) outbound(name string) (out string, ok bool) {
	switch strings.ToUpper(name) {
	case clashDirect, "COMPATIBLE":
		return "direct", true
	case clashReject, "REJECT-DROP", "REJECT-TINYGIF":
		return "reject", true
	}
	if g := c.groups[name]; g != nil {
		c.group(g)
		return g.out, g.ok
	}
	x := c.proxies[name]
	if x == nil {
		return "", false
	}
	if x.pool == nil {
		m, ok := c.copyOf(x)
		if !ok {
			return "", false
		}
		if m.url == (config.URL{Scheme: config.SchemeDirect}) {
			return "direct", true
		}
		x.pool = c.newPool(x.label, "")
		x.pool.add(m)
	}
	return x.pool.name, true
}

// group reads a group once, and what it is made of before.
func (c *clash) group(g *clashGroup) {
	if g.state != 0 || c.nested > maxNested {
		return // of one that leads back to itself, nothing is usable
	}
	g.state = 1
	c.nested++
	defer func() { g.state, c.nested = 2, c.nested-1 }()
	strategy := ""
	switch kind := text(g.node, "type"); kind {
	case "select":
		c.selectGroup(g)
		return
	case "fallback":
		strategy = string(config.Failover)
	case "url-test", "smart":
		strategy = string(config.LowestLatency)
	case "load-balance":
		strategy = string(config.RoundRobin)
	default:
		c.poolComment(c.lose(g.node.Line, "group %s: type %s", quote(g.name), kind))
		return
	}
	c.poolGroup(g, strategy)
}

// names returns the members of a group: those that it names, and then those of its
// providers and of all proxies that pass its filters. lost reports whether some of them
// are not known here.
func (c *clash) names(g *clashGroup) (list []string, lost bool) {
	list = words(g.node, "proxies")
	var more []string
	all := truth(g.node, "include-all")
	if all || truth(g.node, "include-all-proxies") {
		more = append(more, c.order...)
	}
	for _, p := range c.used(g, all) {
		if p.why != "" {
			lost = true
			c.poolComment(c.lose(g.node.Line, "group %s: provider %s: %s", quote(g.name), quote(p.name), p.why))
		}
		more = append(more, p.proxies...)
	}
	if len(more) == 0 {
		return list, lost
	}
	wanted, ok := filters(text(g.node, "filter"))
	var unwanted []*regexp.Regexp
	also := true
	if x := text(g.node, "exclude-filter"); x != "" {
		unwanted, also = filters(x)
	}
	if !ok || !also || text(g.node, "exclude-type") != "" {
		c.poolComment(c.lose(g.node.Line, "group %s: its filter", quote(g.name)))
		return list, true
	}
	for _, re := range wanted {
		for _, name := range more {
			matches := func(re *regexp.Regexp) bool { return re.MatchString(name) }
			if matches(re) && !slices.ContainsFunc(unwanted, matches) && !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
	}
	return list, lost
}

// filters returns the expressions of a filter of a group; ok is false if one is none of
// Go's. That of no filter matches every name.
func filters(text string) (list []*regexp.Regexp, ok bool) {
	for part := range strings.SplitSeq(text, "`") {
		re, err := regexp.Compile(part)
		if err != nil {
			return nil, false
		}
		list = append(list, re)
	}
	return list, true
}

// selectGroup has a group stand for its first usable member. If one before it is lost
// and it is direct, the group is rejected: nothing goes direct for want of a proxy.
func (c *clash) selectGroup(g *clashGroup) {
	lost := ""
	names, _ := c.names(g)
	for _, name := range names {
		out, ok := c.outbound(name)
		if !ok {
			if lost == "" {
				lost = name
			}
			continue
		}
		g.out, g.ok = out, true
		if out == "direct" && lost != "" {
			g.out = "reject"
			c.poolComment(c.lose(g.node.Line, "group %s: its choice %s; the next is direct, and is written as reject", quote(g.name), quote(c.show(lost))))
			return
		}
		c.poolComment(fmt.Sprintf("Group %s (select) stands for its first usable member: %s.", quote(g.name), out))
		return
	}
	c.poolComment(c.lose(g.node.Line, "group %s: none of its members is usable", quote(g.name)))
}

// poolGroup makes a pool of a group. Groups within it add their members; within a
// fallback, each is a tier of its own if all have one strategy.
func (c *clash) poolGroup(g *clashGroup, strategy string) {
	p := &pool{doc: c.document, strategy: strategy}
	var inner []string // the strategies of groups with several members
	tiers := 0
	names, lost := c.names(g)
	for _, name := range names {
		if s := c.strategyOf(name); s != "" && s != strategy {
			inner = append(inner, s)
		}
	}
	uniform := strategy == string(config.Failover) && len(inner) > 0
	for _, s := range inner {
		uniform = uniform && s == inner[0]
	}
	if uniform {
		p.strategy, tiers = inner[0], 1
	} else if len(inner) > 0 {
		p.comment(c.lose(g.node.Line, "group %s: the strategies of the groups within it", quote(g.name)))
	}
	for _, name := range names {
		if !c.addTo(p, name, tiers) {
			p.comment("not carried over: " + clean(c.show(name)))
			lost = true
		}
		if tiers > 0 {
			tiers++
		}
	}
	proxied := false
	for _, m := range p.proxies() {
		proxied = proxied || m.url.Scheme != config.SchemeDirect
	}
	switch {
	case p.members() == 0, lost && !proxied:
		c.poolComment(c.lose(g.node.Line, "group %s: none of its proxies is usable", quote(g.name)))
		return
	}
	p.name = c.document.names.free(g.name, "group")
	if p.name != clean(g.name) {
		p.notes = append(p.notes, clean(g.name)+" ("+text(g.node, "type")+")")
	}
	if s := text(g.node, "strategy"); s != "" && s != "round-robin" {
		p.notes = append(p.notes, "its strategy is "+clean(s)+": to keep a target at one member, write strategy: hash")
	}
	c.pools = append(c.pools, p)
	g.pool, g.out, g.ok = p, p.name, true
}

// strategyOf returns the strategy of a group that is a pool of several members, ""
// for all else.
func (c *clash) strategyOf(name string) string {
	out, _ := c.outboundOfGroup(name)
	for _, p := range c.pools {
		if p.name == out && p.members() > 1 {
			if p.strategy == "" {
				return string(config.RoundRobin)
			}
			return p.strategy
		}
	}
	return ""
}

// outboundOfGroup is outbound for groups; for a proxy, which needs no pool here, it
// returns nothing.
func (c *clash) outboundOfGroup(name string) (out string, ok bool) {
	if c.groups[name] == nil {
		return "", false
	}
	return c.outbound(name)
}

// addTo adds a proxy, or the members of a group, to a pool. It reports false if
// nothing of it can be carried over.
func (c *clash) addTo(p *pool, name string, tier int) bool {
	if x := c.proxies[name]; x != nil && c.groups[name] == nil {
		m, ok := c.copyOf(x)
		if m.tier = tier; ok {
			p.add(m)
		}
		return ok
	}
	out, ok := c.outbound(name)
	switch {
	case !ok || out == "reject":
		return false
	case out == "direct":
		p.add(member{url: config.URL{Scheme: config.SchemeDirect}, tier: tier})
		return true
	}
	for _, q := range c.pools {
		if q.name == out {
			for _, m := range q.proxies() {
				with := *m
				if tier > 0 {
					with.tier = tier
				}
				p.add(with)
			}
		}
	}
	return true
}

package router

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/target"
)

// NewlyDirect lists what prev sent through a proxy, or refused, and next would
// send direct although direct is written nowhere for it, one sentence each
// without a full stop: a file that was saved half would do that. What next says
// direct of, be it by enabled: false, is not listed. Without prev nothing is.
func NewlyDirect(prev, next *Router) []string {
	if prev == nil || next == nil {
		return nil
	}
	l := leaks{prev: prev, next: next, ways: map[leak]*[2]string{}}
	l.names()
	l.addresses()
	list := l.sentences()
	for _, u := range prev.config.Listen {
		use := prev.listeners[u.Address].use
		if now, kept := next.listeners[u.Address]; kept && now.use == nil && prev.held(use) && next.other.unwrittenFor(catalog.KindWebsocket, true) {
			list = append(list, fmt.Sprintf("what enters at %s %s and unlisted hosts would go direct, though direct is written nowhere: say default: direct, or give the listener its use", u.Address, prev.wentBy(use)))
		}
	}
	return list
}

// leak is what goes direct, for people and for the remedy.
type leak struct {
	of      int
	subject string // an exchange's id, or the pattern of a route; "" for the default
}

// What a leak was held by, in the order of the sentences.
const (
	ofDefault = iota
	ofExchange
	ofRoute
)

// leaks collects how each leak was held before, for http and for websocket.
type leaks struct {
	prev, next *Router
	ways       map[leak]*[2]string
}

// note adds a leak, unless it is none.
func (l *leaks) note(was *decision, unwritten bool, k catalog.Kind, who func() leak) {
	if !unwritten || !l.prev.held(was) {
		return
	}
	key := who()
	if l.ways[key] == nil {
		l.ways[key] = &[2]string{}
	}
	i := 0
	if k == catalog.KindWebsocket {
		i = 1
	}
	if l.ways[key][i] == "" {
		l.ways[key][i] = l.prev.wentBy(was)
	}
}

// held reports whether a decision kept a connection from going direct.
func (r *Router) held(d *decision) bool {
	return d != nil && (d.pool == nil || d.pool != r.set.Direct())
}

// unwrittenFor reports whether what was of a kind would go direct because
// nothing is written. Where the name told the kind and no longer does, it may be
// taken as http.
func (n *node) unwrittenFor(k catalog.Kind, told bool) bool {
	if n.route != nil {
		return false
	}
	unwritten := func(k catalog.Kind) bool { return n.way(k) != nil && n.way(k).unwritten }
	if n.tells() {
		return unwritten(n.kind)
	}
	return unwritten(k) || told && unwritten(catalog.KindHTTP)
}

// tells reports whether the name alone says of which kind a connection is.
func (n *node) tells() bool {
	return n.kind == catalog.KindHTTP || n.kind == catalog.KindWebsocket
}

// names compares every name that either of them lists, and those that none does.
func (l *leaks) names() {
	l.name("", l.prev.other, l.next.other)
	for _, n := range sortedKeys(l.prev.exact, l.next.exact) {
		l.name(n, l.prev.lookup(n), l.next.lookup(n))
	}
	for _, n := range sortedKeys(l.prev.below, l.next.below) {
		below := "*." + n // no name has a *: it is found by what covers all below n
		l.name(below, l.prev.lookup(below), l.next.lookup(below))
	}
}

func sortedKeys(a, b map[string]*node) []string {
	list := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(list)
	return slices.Compact(list)
}

func (l *leaks) name(name string, was, now *node) {
	for _, k := range kinds {
		before := was.route
		if before == nil {
			before = was.way(k)
		}
		l.note(before, now.unwrittenFor(k, was.tells()), k, func() leak {
			e := l.prev.entry(was.exchange)
			switch {
			case was.route != nil:
				return leak{ofRoute, l.routed(name)}
			case e != nil && e.Ways.Of(k) != nil:
				return leak{ofExchange, was.exchange}
			}
			return leak{ofDefault, ""}
		})
	}
}

// routed is the pattern of prev's routes that covers a name, as it is written.
func (l *leaks) routed(name string) string {
	host, wild := strings.CutPrefix(name, "*.")
	for _, r := range l.prev.config.Routes {
		for _, p := range r.Hosts {
			switch {
			case p.Kind == target.Any,
				p.Kind == target.Exact && p.Name == name,
				p.Kind == target.Wildcard && (strings.HasSuffix(host, "."+p.Name) || wild && host == p.Name):
				return p.String()
			}
		}
	}
	return name
}

// addresses compares the CIDRs that prev lists, at their first and their last
// address.
func (l *leaks) addresses() {
	for _, r := range l.prev.config.Routes {
		for _, p := range r.Hosts {
			if p.Kind != target.CIDR {
				continue
			}
			for _, ip := range []netip.Addr{p.Prefix.Addr(), lastOf(p.Prefix)} {
				was := l.prev.addresses.match(ip)
				for _, k := range kinds {
					now := l.next.addresses.match(ip)
					if now == nil {
						now = l.next.addresses.last(k)
					}
					l.note(was, now.unwritten, k, func() leak { return leak{ofRoute, p.String()} })
				}
			}
		}
	}
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

// sentences says each leak, the default's first.
func (l *leaks) sentences() (list []string) {
	order := slices.SortedFunc(maps.Keys(l.ways), func(a, b leak) int {
		return cmp.Or(cmp.Compare(a.of, b.of), cmp.Compare(a.subject, b.subject))
	})
	for _, key := range order {
		w := l.ways[key]
		if w[0] == w[1] {
			list = append(list, l.sentence(key, "", w[0]))
			continue
		}
		for i, k := range kinds {
			if w[i] != "" {
				list = append(list, l.sentence(key, k.String(), w[i]))
			}
		}
	}
	return list
}

// sentence says one leak; kind is "" when both kinds leak alike.
func (l *leaks) sentence(key leak, kind, went string) string {
	subject, do := key.subject, ""
	switch key.of {
	case ofDefault:
		subject = "what nothing lists"
	case ofExchange:
		do = l.remedy(key.subject, kind)
	case ofRoute:
		do = `, or routes: [{hosts: ["` + key.subject + `"], use: direct}]`
	}
	switch {
	case kind == "":
	case key.of == ofExchange:
		subject += "." + kind
	default:
		subject += " (" + kind + ")"
	}
	all := "default: direct"
	if d := l.next.config.Default; kind != "" && d != (config.Ways{}) {
		all = "default." + kind + ": direct"
		if d.HTTP == nil {
			all = "default.http: direct"
		}
	}
	return subject + " " + went + " and would go direct, though direct is written nowhere: say " + all + do
}

// remedy is what to write for an exchange alone.
func (l *leaks) remedy(id, kind string) string {
	at := "exchanges." + id
	e := l.next.entry(id)
	if _, known := l.next.config.Known().Get(id); !known && e == nil {
		return ", or " + at + ": direct with its hosts"
	}
	if e != nil && e.Ways != (config.Ways{}) && kind != "" {
		at += "." + kind
	}
	return ", or " + at + ": direct"
}

// wentBy says how a decision kept a connection from going direct.
func (r *Router) wentBy(d *decision) string {
	if d.pool == nil {
		return "was refused"
	}
	for i := range r.config.Pools {
		p := &r.config.Pools[i]
		switch {
		case p.Name != d.pool.Name():
		case !p.Inline:
			return "went through pool " + p.Name
		case len(p.Proxies) == 1:
			return "went through " + p.Proxies[0].Name
		}
	}
	return "went through the pool at " + d.pool.Name()
}

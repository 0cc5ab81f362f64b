package router

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/target"
)

// NewlyDirect lists what prev sent through a proxy or refused and next would
// send direct although nothing in it says so, as after a file was half saved or
// has lost a line. Each is one sentence without a full stop. What an exchange's
// entry, a route or a listener's use covered must be set to direct itself; what
// default covered, in default; enabled: false covers everything. If prev is
// nil, nothing is listed.
func NewlyDirect(prev, next *Router) []string {
	if prev == nil || next == nil {
		return nil
	}
	l := leaks{prev: prev, next: next, before: map[leak]*[2]string{}}
	l.names()
	l.addresses()
	list := l.sentences()
	return append(list, l.listeners()...)
}

// listeners returns the sentences of listeners that held what entered them: by a use,
// or by refusing what nothing lists. One that is gone is looked for among those that
// are new, as after its address was changed.
func (l *leaks) listeners() (list []string) {
	f := l.next.fall(l.next.unlisted, catalog.KindWebsocket, true)
	if f == stays {
		return nil
	}
	var added []string // those that hold nothing
	for _, n := range l.next.config.Listen {
		if _, old := l.prev.listeners[n.Address]; !old && l.next.listeners[n.Address].open() {
			added = append(added, n.Address)
		}
	}
	for _, u := range l.prev.config.Listen {
		was := l.prev.listeners[u.Address]
		what, held := "what enters at "+u.Address, was.use
		if was.unlisted != nil {
			what, held = what+" and nothing lists", was.unlisted
		}
		now, kept := l.next.listeners[u.Address]
		switch would := "unlisted hosts would go direct" + f.why() + ": give the "; {
		case !l.prev.held(held) || kept && !now.open() || !kept && len(added) == 0:
		case kept:
			list = append(list, what+" "+l.prev.wentThrough(held)+" and "+would+"listener its use, or use: direct")
		default:
			list = append(list, what+" "+l.prev.wentThrough(held)+"; it is gone, and at "+strings.Join(added, ", ")+", which is new, "+would+"new listener its use, or use: direct")
		}
	}
	return list
}

// open reports whether a listener leaves to the rules where its clients go.
func (l listener) open() bool { return l.use == nil && l.unlisted == nil }

// Loosened lists where default sent unlisted hosts through a proxy or refused
// them and now is direct: that is explicit, but ends a kill switch. The
// sentences are as NewlyDirect's.
func Loosened(prev, next *Router) (list []string) {
	if prev == nil || next == nil {
		return nil
	}
	was, now := prev.config.Default, next.config.Default
	loosened := func(k catalog.Kind) bool {
		a, b := was.Of(k), now.Of(k)
		return a != nil && b != nil && b.Action == config.Direct && (a.Action == config.Reject || a.Action == config.Use && prev.config.Enabled)
	}
	say := func(key string, w *config.Outbound) {
		word, named := outboundWord(prev.config, w)
		if !named {
			word = "a proxy"
		}
		list = append(list, key+" was "+word+" and is direct now: what nothing lists leaves from this machine's own address")
	}
	http, ws := loosened(catalog.KindHTTP), loosened(catalog.KindWebsocket)
	switch {
	case http && ws && prev.sameOutbound(was.HTTP, was.Websocket):
		say("default", was.HTTP)
		return list
	case http:
		say("default.http", was.HTTP)
	}
	if ws {
		say("default.websocket", was.Websocket)
	}
	return list
}

// fall is why next sends something direct.
type fall uint8

const (
	stays          fall = iota // it does not, or explicitly
	byDefault                  // default is direct
	byAny                      // a route for * is direct
	implicitDirect             // nothing does
)

// why returns what follows "would go direct".
func (f fall) why() string {
	switch f {
	case byDefault:
		return " by default"
	case byAny:
		return " by the route for *"
	}
	return ", though direct is written nowhere"
}

// leak is what goes direct.
type leak struct {
	of      int
	fall    fall
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
	before     map[leak]*[2]string
}

// note adds a leak if f is one.
func (l *leaks) note(was *decision, f fall, k catalog.Kind, who func() leak) {
	if f == stays || !l.prev.held(was) {
		return
	}
	key := who()
	if f == byDefault && key.of == ofDefault || f == byAny && key.of != ofRoute {
		return // default, or the new route, is explicit
	}
	key.fall = f
	if l.before[key] == nil {
		l.before[key] = &[2]string{}
	}
	i := 0
	if k == catalog.KindWebsocket {
		i = 1
	}
	if l.before[key][i] == "" {
		l.before[key][i] = l.prev.wentThrough(was)
	}
}

// held reports whether a decision kept a connection from going direct.
func (r *Router) held(d *decision) bool {
	return d != nil && (d.pool == nil || d.pool != r.set.Direct())
}

// fall returns how a name would go direct. If its kind was known before and no
// longer is, it may be taken as http.
func (r *Router) fall(n *node, k catalog.Kind, kindKnown bool) fall {
	if n.route != nil {
		if n.route.any && !r.held(n.route) {
			return byAny
		}
		return stays
	}
	if n.tellsKind() {
		return n.decision(n.kind).fall()
	}
	f := n.decision(k).fall()
	if kindKnown {
		f = max(f, n.decision(catalog.KindHTTP).fall())
	}
	return f
}

func (d *decision) fall() fall {
	switch {
	case d == nil:
		return stays
	case d.implicitDirect:
		return implicitDirect
	case d.byDefault:
		return byDefault
	}
	return stays
}

// tellsKind reports whether the name alone determines the kind of a connection.
func (n *node) tellsKind() bool {
	return n.kind == catalog.KindHTTP || n.kind == catalog.KindWebsocket
}

// names compares every name that either router lists, and the unlisted ones.
func (l *leaks) names() {
	l.name("", l.prev.unlisted, l.next.unlisted)
	for _, n := range sortedKeys(l.prev.exact, l.next.exact) {
		l.name(n, l.prev.lookup(n), l.next.lookup(n))
	}
	for _, n := range sortedKeys(l.prev.suffixes, l.next.suffixes) {
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
	for _, k := range catalog.Kinds {
		before := was.route
		if before == nil {
			before = was.decision(k)
		}
		f := l.next.fall(now, k, was.tellsKind())
		if f == byDefault && was.route == nil && was.domain != nil {
			continue // of no exchange's listed hosts; those are looked at
		}
		l.note(before, f, k, func() leak {
			e, still := l.prev.entry(was.exchange), l.next.entry(was.exchange)
			switch {
			case was.route != nil:
				return leak{of: ofRoute, subject: l.routed(name)}
			case e != nil && e.Outbounds.Of(k) != nil && still != nil && still.Outbounds.Of(k) != nil:
				return leak{of: ofRoute, subject: name} // the host is no longer the exchange's
			case e != nil && e.Outbounds.Of(k) != nil:
				return leak{of: ofExchange, subject: was.exchange}
			}
			return leak{of: ofDefault}
		})
	}
}

// routed returns the pattern of prev's routes that covers a name, as written.
func (l *leaks) routed(name string) string {
	for _, r := range l.prev.config.Routes {
		for _, p := range r.Hosts {
			if p.Kind == target.Any || p.Covers(name) { // "" is every name that nothing lists
				return p.String()
			}
		}
	}
	return name
}

// addresses compares what happens to addresses that prev's CIDRs list. It changes
// only where one of them begins or ends, or where one of next's ends.
func (l *leaks) addresses() {
	was, now := prefixesOf(l.prev.config.Routes), prefixesOf(l.next.config.Routes)
	for _, p := range was {
		l.address(p.Addr(), was)
	}
	for _, p := range slices.Concat(was, now) {
		l.address(lastOf(p).Next(), was)
	}
}

// address compares what happens to one address; listed are prev's CIDRs.
func (l *leaks) address(ip netip.Addr, listed []netip.Prefix) {
	was := l.prev.addresses.match(ip)
	if !l.prev.held(was) {
		return
	}
	i := slices.IndexFunc(listed, func(p netip.Prefix) bool { return p.Contains(ip) })
	if i < 0 {
		return
	}
	for _, k := range catalog.Kinds {
		now := l.next.addresses.match(ip)
		if now == nil {
			now = l.next.addresses.last(k)
		}
		l.note(was, now.fall(), k, func() leak { return leak{of: ofRoute, subject: listed[i].String()} })
	}
}

// prefixesOf returns the CIDRs of routes, in their order.
func prefixesOf(routes []config.Route) (list []netip.Prefix) {
	for _, r := range routes {
		for _, p := range r.Hosts {
			if p.Kind == target.CIDR {
				list = append(list, p.Prefix)
			}
		}
	}
	return list
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

// sentences returns a sentence for each leak, the default's first.
func (l *leaks) sentences() (list []string) {
	order := slices.SortedFunc(maps.Keys(l.before), func(a, b leak) int {
		return cmp.Or(cmp.Compare(a.of, b.of), cmp.Compare(a.subject, b.subject), cmp.Compare(a.fall, b.fall))
	})
	for _, key := range order {
		w := l.before[key]
		if w[0] == w[1] {
			list = append(list, l.sentence(key, "", w[0]))
			continue
		}
		for i, k := range catalog.Kinds {
			if w[i] != "" {
				list = append(list, l.sentence(key, k.String(), w[i]))
			}
		}
	}
	return list
}

// sentence returns the sentence for one leak. kind is "" when both kinds leak
// alike.
func (l *leaks) sentence(key leak, kind, went string) string {
	subject, do := key.subject, ""
	switch key.of {
	case ofDefault:
		subject, do = "what nothing lists", l.defaultRemedy(kind)
	case ofExchange:
		do = l.remedy(key.subject, kind)
	case ofRoute:
		do = `routes: [{hosts: ["` + key.subject + `"], use: direct}]`
	}
	switch {
	case kind == "":
	case key.of == ofExchange:
		subject += "." + kind
	default:
		subject += " (" + kind + ")"
	}
	return subject + " " + went + " and would go direct" + key.fall.why() + ": say " + do
}

// defaultRemedy returns what to write for unlisted hosts.
func (l *leaks) defaultRemedy(kind string) string {
	d := l.next.config.Default
	switch {
	case kind == "" || d == (config.Outbounds{}):
		return "default: direct"
	case d.HTTP == nil:
		return "default.http: direct"
	}
	return "default." + kind + ": direct"
}

// remedy returns what to write for an exchange.
func (l *leaks) remedy(id, kind string) string {
	at := "exchanges." + id
	e := l.next.entry(id)
	if _, known := l.next.config.Known().Get(id); !known && e == nil {
		return at + ": direct with its hosts"
	}
	if e != nil && e.Outbounds != (config.Outbounds{}) && kind != "" {
		at += "." + kind
	}
	return at + ": direct"
}

// wentThrough returns how a decision kept a connection from going direct.
func (r *Router) wentThrough(d *decision) string {
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

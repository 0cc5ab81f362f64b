package router

import (
	"net/netip"
	"strconv"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/target"
)

// routeHit is a route that matches by one of its patterns.
type routeHit struct {
	order    int // of the route; the smallest wins
	any      bool
	decision *decision
}

// before reports whether h is matched before o. In one route a pattern that
// names the host goes before *, since it says more.
func (h *routeHit) before(o *routeHit) bool {
	switch {
	case h == nil || o == nil:
		return h != nil
	case h.order != o.order:
		return h.order < o.order
	default:
		return !h.any && o.any
	}
}

// routeIndex finds the first route that matches without trying them in turn.
type routeIndex struct {
	exact, suffixes map[string]*routeHit
	any             *routeHit
	prefixes        []prefixHit // in order
	single          map[netip.Addr]*routeHit
	anyAddress      *routeHit // the first * that holds for addresses
}

type prefixHit struct {
	prefix netip.Prefix
	hit    *routeHit
}

func (b *builder) indexRoutes() routeIndex {
	x := routeIndex{exact: map[string]*routeHit{}, suffixes: map[string]*routeHit{}, single: map[netip.Addr]*routeHit{}}
	flags := 0
	for i := range b.config.Routes {
		r := &b.config.Routes[i]
		name := "routes[" + strconv.Itoa(i-flags) + "]"
		if r.Flag != "" { // those of the file are counted as in the file
			name = r.Flag
			flags++
		}
		for _, p := range r.Hosts {
			h := &routeHit{order: i, any: p.Kind == target.Any, decision: b.routeDecision(name, p, &r.Outbound)}
			switch p.Kind {
			case target.Exact:
				keepFirst(x.exact, p.Name, h)
			case target.Wildcard:
				keepFirst(x.suffixes, p.Name, h)
			case target.Any:
				x.addAny(h, b.holds(&r.Outbound))
			case target.CIDR:
				if p.Prefix.IsSingleIP() {
					keepFirst(x.single, p.Prefix.Addr(), h)
				} else {
					x.prefixes = append(x.prefixes, prefixHit{p.Prefix, h})
				}
			default:
				b.fail("routes[%d]: a host without a kind", i)
			}
		}
	}
	return x
}

func keepFirst[K comparable](m map[K]*routeHit, key K, h *routeHit) {
	if h.before(m[key]) {
		m[key] = h
	}
}

// addAny adds a route for *. It applies to addresses too unless it is direct
// (also by enabled: false): an address hides the name that another rule may be
// about, and must not go direct because of a *.
func (x *routeIndex) addAny(h *routeHit, holds bool) {
	if h.before(x.any) {
		x.any = h
	}
	if holds && h.before(x.anyAddress) {
		x.anyAddress = h
	}
}

// first returns the first route for a name, or for the names below it.
func (x *routeIndex) first(name string, below bool) *routeHit {
	best := x.any
	consider := func(h *routeHit) {
		if h.before(best) {
			best = h
		}
	}
	if below {
		consider(x.suffixes[name])
	} else {
		consider(x.exact[name])
	}
	for rest, ok := parent(name); ok; rest, ok = parent(rest) {
		consider(x.suffixes[rest])
	}
	return best
}

func (b *builder) routeDecision(name string, p target.Pattern, w *config.Outbound) *decision {
	rule := name + " " + p.String()
	if w.Source == name { // a flag, which has the host already
		rule = name
	}
	return b.decide(w, decision{
		rule:    rule,
		trusted: w.Action == config.Direct && p.Kind != target.Any,
		any:     p.Kind == target.Any,
		named:   w.Action != config.Reject && p.Kind != target.Any,
		why:     "is refused: " + rule + " says reject",
		hint:    "to let it out, change " + name + " or put a route before it",
	})
}

// addressRules decides for targets that are addresses.
type addressRules struct {
	index     routeIndex
	fallbacks [2]*decision // for http, for websocket
}

// match returns the decision of the first route for an address, nil if there is
// none.
func (a *addressRules) match(ip netip.Addr) *decision {
	best := a.index.anyAddress
	if h := a.index.single[ip]; h.before(best) {
		best = h
	}
	for i := range a.index.prefixes {
		p := &a.index.prefixes[i]
		if !p.hit.before(best) {
			if best != nil && p.hit.order > best.order {
				break
			}
			continue
		}
		if p.prefix.Contains(ip) {
			best = p.hit
			break
		}
	}
	if best == nil {
		return nil
	}
	return best.decision
}

func (a *addressRules) last(k catalog.Kind) *decision {
	if k == catalog.KindWebsocket {
		return a.fallbacks[1]
	}
	return a.fallbacks[0]
}

// addressRules returns the rules for addresses that no CIDR lists. The exchange
// of an address is unknown, so it takes a default that is not direct, and goes
// direct only where everything does.
func (b *builder) addressRules() addressRules {
	a := addressRules{index: b.routes}
	for i, k := range catalog.Kinds {
		w := b.config.Default.Of(k)
		switch {
		case w != nil && b.holds(w):
			a.fallbacks[i] = b.decide(w, decision{
				rule: orElse(w.Source, "default"),
				why:  "is refused: no CIDR under routes lists it and " + orElse(w.Source, "default") + " is reject",
				hint: "use socks5h:// or http:// in the client, so that it sends the name, or list the CIDR under routes",

				whyNameless: "is refused: no CIDR under routes lists it, " + orElse(w.Source, "default") + " is reject, and ",
			})
		case b.anyHolds():
			a.fallbacks[i] = &decision{
				rule: "an address without a name",
				why:  "has no name: this client resolved it itself",
				hint: "use socks5h:// or http://, or list the CIDR under routes",

				whyNameless: "has no name: ",
			}
		default:
			a.fallbacks[i] = b.fallback("", k)
		}
	}
	return a
}

// holds reports whether an outbound is not direct.
func (b *builder) holds(w *config.Outbound) bool {
	return w != nil && (w.Action == config.Reject || w.Action == config.Use && b.config.Enabled)
}

// anyHolds reports whether some name has an outbound other than direct. A
// listener's use is left out, since it applies to addresses as to names.
func (b *builder) anyHolds() bool {
	for _, k := range catalog.Kinds {
		if b.holds(b.config.Default.Of(k)) {
			return true
		}
		for _, e := range b.config.Exchanges {
			if b.holds(e.Outbounds.Of(k)) {
				return true
			}
		}
	}
	for i := range b.config.Routes {
		if b.holds(&b.config.Routes[i].Outbound) {
			return true
		}
	}
	return false
}

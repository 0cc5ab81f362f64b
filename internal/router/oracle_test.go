package router_test

import (
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/target"
)

// verdict is what the oracle says of a look-up.
type verdict struct {
	refused  bool
	pool     string
	timeout  time.Duration
	exchange string
	kind     catalog.Kind
	trusted  bool
}

// judge decides slowly and one rule after the other, as the documentation
// describes it: no index, no precomputed names.
func judge(c *config.Config, h target.Host, port uint16, hint router.Hint) verdict {
	var listen config.Listener
	for _, l := range c.Listen {
		if l.Address == hint.Listener {
			listen = l
		}
	}
	exchange, serves := "", catalog.KindUnknown
	if !h.IsIP() {
		exchange, serves = owner(c, h)
	}
	labels, byDomain := "", false
	if !h.IsIP() && !listed(c, h) {
		exchange, labels, byDomain = domainOf(c, h.Name)
	}
	v := verdict{exchange: exchange, kind: catalog.KindHTTP}
	for _, k := range []catalog.Kind{hint.Kind, listen.Kind, serves} { // the last word counts
		if single(k) {
			v.kind = k
		}
	}
	unasked := v.kind
	if asked := single(hint.Kind) || single(listen.Kind); byDomain && !asked {
		v.kind = guessed(c, exchange, labels)
	}
	route := firstRoute(c, h)
	if route != nil && route.Outbound.Action == config.Direct {
		for _, p := range route.Hosts {
			v.trusted = v.trusted || p.Kind != target.Any && p.Covers(h.Name)
		}
	}
	switch {
	case port == 25:
		v.refused = true
	case route != nil && (route.Outbound.Action == config.Reject || listen.Use == nil):
		v.take(c, &route.Outbound)
	case listen.Use != nil:
		v.take(c, listen.Use)
	case h.IsIP():
		fallback := c.Default.Of(v.kind)
		if !leavesDirect(c, fallback) || allDirect(c) {
			v.take(c, fallback)
		} else {
			v.refused = true
		}
	default:
		out := c.Default.Of(v.kind)
		for _, e := range c.Exchanges {
			if e.ID == exchange && e.Outbounds.Of(v.kind) != nil {
				out = e.Outbounds.Of(v.kind)
			}
		}
		if byDomain && (leavesDirect(c, out) || rank(c, out) > rank(c, c.Default.Of(unasked))) {
			out = c.Default.Of(v.kind)
			if rank(c, out) > rank(c, c.Default.Of(unasked)) || entryOf(c, exchange).Of(v.kind) != nil {
				out = c.Default.Of(unasked)
			}
		}
		v.take(c, out)
	}
	return v
}

// take notes an outbound; nil is direct.
func (v *verdict) take(c *config.Config, w *config.Outbound) {
	v.pool, v.timeout = "direct", 4*time.Second
	if w == nil {
		return
	}
	if w.Timeout != 0 {
		v.timeout = w.Timeout
	}
	switch {
	case w.Action == config.Reject:
		v.refused, v.pool, v.timeout = true, "", 0
	case w.Action == config.Use && c.Enabled:
		v.pool = w.Pool
	}
}

func single(k catalog.Kind) bool { return k == catalog.KindHTTP || k == catalog.KindWebsocket }

func leavesDirect(c *config.Config, w *config.Outbound) bool {
	return w == nil || w.Action == config.Direct || w.Action == config.Use && !c.Enabled
}

// allDirect reports whether no rule about names leads elsewhere than direct.
func allDirect(c *config.Config) bool {
	all := []*config.Outbound{c.Default.HTTP, c.Default.Websocket}
	for i := range c.Exchanges {
		all = append(all, c.Exchanges[i].Outbounds.HTTP, c.Exchanges[i].Outbounds.Websocket)
	}
	for i := range c.Routes {
		all = append(all, &c.Routes[i].Outbound)
	}
	for _, w := range all {
		if !leavesDirect(c, w) {
			return false
		}
	}
	return true
}

// firstRoute tries the routes in order. A * that leads direct is none for an
// address.
func firstRoute(c *config.Config, h target.Host) *config.Route {
	for i := range c.Routes {
		r := &c.Routes[i]
		for _, p := range r.Hosts {
			if p.Covers(h.Name) && !(h.IsIP() && p.Kind == target.Any && leavesDirect(c, &r.Outbound)) {
				return r
			}
		}
	}
	return nil
}

// owner says whose a name is, and for what kind it is listed: the user's exact
// host, else the user's longest wildcard against what the catalogue says.
func owner(c *config.Config, h target.Host) (string, catalog.Kind) {
	var exchange, pattern string
	var kind catalog.Kind
	for _, e := range c.Exchanges {
		for _, l := range e.Hosts {
			switch p := l.Pattern; {
			case !p.Covers(h.Name):
			case p.String() == pattern: // listed twice: the first exchange, both kinds
				if e.ID == exchange && kind != l.Kind {
					kind = catalog.KindBoth
				}
			case pattern == "" || p.Kind == target.Exact || strings.HasPrefix(pattern, "*") && len(p.Name)+2 > len(pattern):
				exchange, pattern, kind = e.ID, p.String(), l.Kind
			}
		}
	}
	knownExchange, knownKind, ok := catalog.Embedded().Lookup(h.Name)
	switch {
	case !ok:
		return exchange, kind
	case pattern == "":
		return knownExchange, knownKind
	// A wildcard of the same exchange that says nothing of the kind: the
	// catalogue knows the hosts below it better.
	case pattern[0] == '*' && exchange == knownExchange && kind == catalog.KindBoth && catalogued(knownExchange, h.Name) > len(pattern):
		return knownExchange, knownKind
	}
	return exchange, kind
}

// catalogued returns the length of the exchange's longest host of the catalogue
// that covers a name.
func catalogued(exchange, name string) (longest int) {
	x, _ := catalog.Embedded().Get(exchange)
	for _, host := range x.Hosts {
		if p, err := target.ParsePattern(host.Name); err == nil && p.Covers(name) {
			longest = max(longest, len(host.Name)+map[bool]int{true: 2}[p.Kind == target.Exact]) // an exact host is longer than *. and its name
		}
	}
	return longest
}

// listed reports whether a row lists a name.
func listed(c *config.Config, h target.Host) bool {
	for _, e := range c.Exchanges {
		for _, l := range e.Hosts {
			if l.Pattern.Covers(h.Name) {
				return true
			}
		}
	}
	_, _, ok := catalog.Embedded().Lookup(h.Name)
	return ok
}

func entryOf(c *config.Config, id string) config.Outbounds {
	for _, e := range c.Exchanges {
		if e.ID == id {
			return e.Outbounds
		}
	}
	return config.Outbounds{}
}

// domainOf says whose a name is that no row lists, and what stands before the
// domain.
func domainOf(c *config.Config, name string) (exchange, labels string, ok bool) {
	for d := range catalog.Embedded().Domains() {
		if name != d.Name && !strings.HasSuffix(name, "."+d.Name) {
			continue
		}
		exchange = d.Owner
		var others []string
		for _, id := range d.Others {
			if entryOf(c, id) != (config.Outbounds{}) {
				others = append(others, id)
			}
		}
		if entryOf(c, d.Owner) == (config.Outbounds{}) && len(others) == 1 {
			exchange = others[0]
		}
		for _, e := range c.Exchanges {
			if e.UnlistedDefault && (e.ID == exchange || e.ID == d.Owner) {
				return "", "", false
			}
		}
		return exchange, strings.TrimSuffix(name, d.Name), true
	}
	return "", "", false
}

// guessed is the kind of a connection to an unlisted host whose kind is not stated.
func guessed(c *config.Config, exchange, labels string) catalog.Kind {
	for _, word := range []string{"stream", "ws", "push", "feed"} {
		if strings.Contains(labels, word) {
			return catalog.KindWebsocket
		}
	}
	out := func(k catalog.Kind) *config.Outbound {
		if w := entryOf(c, exchange).Of(k); w != nil {
			return w
		}
		return c.Default.Of(k)
	}
	if leavesDirect(c, out(catalog.KindHTTP)) && !leavesDirect(c, out(catalog.KindWebsocket)) {
		return catalog.KindWebsocket
	}
	return catalog.KindHTTP
}

// rank is how directly a connection leaves: refused, by a proxy, direct.
func rank(c *config.Config, w *config.Outbound) int {
	switch {
	case leavesDirect(c, w):
		return 2
	case w.Action == config.Reject:
		return 0
	}
	return 1
}

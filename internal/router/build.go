package router

import (
	"fmt"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/target"
	"proxyd/internal/upstream"
)

// unsetTimeout is the time budget where nothing is written (timeout_seconds).
const unsetTimeout = 4 * time.Second

// New returns the router of c over the upstreams of s.
func New(c *config.Config, s *upstream.Set) (*Router, error) {
	r, err := build(c, s.Direct(), s.Pool)
	if err != nil {
		return nil, err
	}
	r.set = s
	return r, nil
}

// builder holds what is needed only while a router is built.
type builder struct {
	config  *config.Config
	direct  *upstream.Pool
	pool    func(string) *upstream.Pool
	entries map[string]*config.Exchange
	routes  routeIndex
	unset   map[unsetKey]*decision
	domains map[string]*domain
	mixed   map[string]bool // by pool: whether some member is direct
	err     error           // the first error
}

// unsetKey identifies the decision for hosts whose exchange has no outbound for
// a kind.
type unsetKey struct {
	exchange string
	kind     catalog.Kind
}

func build(c *config.Config, direct *upstream.Pool, pool func(string) *upstream.Pool) (*Router, error) {
	b := &builder{
		config: c, direct: direct, pool: pool,
		entries: make(map[string]*config.Exchange, len(c.Exchanges)),
		unset:   map[unsetKey]*decision{},
		domains: map[string]*domain{}, mixed: map[string]bool{},
	}
	for i := range c.Exchanges {
		b.entries[c.Exchanges[i].ID] = &c.Exchanges[i]
	}
	r := &Router{config: c, pools: config.PoolsByName(c), listeners: make(map[string]listener, len(c.Listen))}
	for _, l := range c.Listen {
		r.listeners[l.Address] = listener{use: b.listenerUse(l), unlisted: listenerUnlisted(l), kind: l.Kind}
	}
	b.routes = b.indexRoutes()
	r.addresses = b.addressRules()
	rows := b.hostRows()
	b.addDomains(rows)
	r.exact, r.suffixes, r.unlisted = b.nodes(rows)
	if b.err != nil {
		return nil, b.err
	}
	return r, nil
}

// nodes returns the node of every listed name, with all rules considered.
func (b *builder) nodes(rows hostRows) (exact, below map[string]*node, other *node) {
	exact = make(map[string]*node, len(rows.exact)+len(b.routes.exact))
	below = make(map[string]*node, len(rows.suffixes)+len(b.routes.suffixes))
	add := func(name string, wild bool) {
		m := exact
		if wild {
			m = below
		}
		if m[name] == nil {
			m[name] = b.node(rows.find(name, wild), b.routes.first(name, wild))
		}
	}
	for name := range rows.exact {
		add(name, false)
	}
	for name := range b.routes.exact {
		add(name, false)
	}
	for name := range rows.suffixes {
		add(name, true)
	}
	for name := range b.routes.suffixes {
		add(name, true)
	}
	return exact, below, b.node(hostRow{}, b.routes.any)
}

// node returns the node of one name from the row that lists it and its route.
func (b *builder) node(row hostRow, route *routeHit) *node {
	n := &node{exchange: row.exchange, host: row.pattern, listed: row.users, kind: row.kind}
	if route != nil {
		n.route = route.decision
	}
	if row.domain != "" {
		n.domain = b.domain(row)
		n.decisions = n.domain.decisions
		return n
	}
	for i, k := range catalog.Kinds {
		if row.kind == otherKind(k) {
			continue // never asked for
		}
		n.decisions[i] = b.exchangeDecision(row, k)
	}
	return n
}

func otherKind(k catalog.Kind) catalog.Kind {
	if k == catalog.KindHTTP {
		return catalog.KindWebsocket
	}
	return catalog.KindHTTP
}

// exchangeDecision returns the decision for a name that no route matches.
func (b *builder) exchangeDecision(row hostRow, k catalog.Kind) *decision {
	entry := b.entries[row.exchange]
	if row.exchange == "" || entry == nil || entry.Outbounds.Of(k) == nil {
		return b.unsetDecision(row.exchange, k)
	}
	w := entry.Outbounds.Of(k)
	source := orElse(w.Source, "exchanges."+entry.ID+"."+k.String())
	whose := "catalogue host "
	if row.users {
		whose = "host "
	}
	return b.decide(w, decision{
		rule:   "exchange " + row.exchange + " (" + whose + row.pattern + ", " + k.String() + ") " + source,
		why:    "is refused: " + source + " says reject",
		hint:   "to let it out, change " + source,
		listed: true,
	})
}

// unsetDecision returns fallback, built once for each exchange and kind.
func (b *builder) unsetDecision(exchange string, k catalog.Kind) *decision {
	key := unsetKey{exchange, k}
	if b.unset[key] == nil {
		b.unset[key] = b.fallback(exchange, k)
	}
	return b.unset[key]
}

// fallback returns the decision where neither a route nor an exchange's entry
// applies: the default for the kind, else direct.
func (b *builder) fallback(exchange string, k catalog.Kind) *decision {
	lack := ""
	switch entry := b.entries[exchange]; {
	case exchange == "":
	case entry == nil:
		lack = "exchange " + exchange + " has no entry"
	case entry.Outbounds == config.Outbounds{}:
		lack = "exchange " + exchange + " has no outbound"
	default:
		lack = "exchange " + exchange + " has no " + k.String() + " outbound"
	}
	w := b.config.Default.Of(k)
	if w == nil {
		rule := "nothing matches and no default is set"
		if lack != "" {
			rule = lack + " and no default is set"
		}
		return &decision{rule: rule, pool: b.direct, timeout: unsetTimeout, implicitDirect: true}
	}
	rule := orElse(w.Source, "default")
	why := "is refused: nothing lists it and " + rule + " is reject"
	if lack != "" {
		why = "is refused: " + lack + " and " + rule + " is reject"
		rule += " (" + lack + ")"
	}
	return b.decide(w, decision{rule: rule, why: why, hint: b.howToList(exchange, k), byDefault: w.Action == config.Direct && b.config.Enabled})
}

// listenerUnlisted returns the decision for unlisted hosts at a listener, nil
// if the other rules apply.
func listenerUnlisted(l config.Listener) *decision {
	if !l.UnlistedReject {
		return nil
	}
	rule := "listener " + l.Address + " unlisted"
	return &decision{
		rule: rule,
		why:  "is refused: no entry under exchanges and no route lists it, and " + rule + " is reject",
		hint: "to let it out there, list it under exchanges or routes",
	}
}

func (b *builder) listenerUse(l config.Listener) *decision {
	if l.Use == nil {
		return nil
	}
	rule := "listener " + l.Address + " use"
	return b.decide(l.Use, decision{
		rule: rule,
		why:  "is refused: " + rule + " says reject",
		hint: "to let it out, change " + orElse(l.Use.Source, "the listener's use"),
	})
}

// decide completes d, which has the rule and the text of a refusal, for an
// outbound.
func (b *builder) decide(w *config.Outbound, d decision) *decision {
	d.source, d.timeout = w.Source, w.Timeout
	if d.timeout == 0 {
		d.timeout = unsetTimeout
	}
	switch {
	case w.Action == config.Reject:
		return &d
	case w.Action == config.Direct:
		d.pool = b.direct
	case w.Action != config.Use:
		b.fail("%s: an outbound without an action", w.Source)
	case !b.config.Enabled:
		d.pool = b.direct
		d.rule += ", direct because enabled is false"
	default:
		if d.pool = b.pool(w.Pool); d.pool == nil {
			b.fail("%s: there is no pool %q", w.Source, w.Pool)
		}
	}
	d.why, d.hint = "", ""
	return &d
}

func (b *builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// patternName returns the key of a name's pattern.
func patternName(p target.Pattern) (name string, wild bool) { return p.Name, p.Kind == target.Wildcard }

// Package router returns the route of a host. A Router is one configuration,
// immutable, without I/O and safe for concurrent use. A look-up allocates at most
// the normalised name, however many hosts are listed.
//
// It opens no connections, resolves no names and does not know whether an
// outbound works.
package router

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/target"
	"proxyd/internal/upstream"
)

// Hint is what the listener knows besides the host.
type Hint struct {
	Listener string       // the listener's Address in the configuration; its `use` is found in the same snapshot
	Kind     catalog.Kind // from the username's suffix or an Upgrade header; unknown otherwise
	Nameless string       // why a target is an address, where its client knows of no proxy and could not send a name; "" for others
}

// Route is the rule that matched a host and where it sends the connection.
type Route struct {
	Target  upstream.Target
	Rule    string         // which rule decided and why, for people
	Source  string         // the key path of the outbound, "" when nothing matched and no default is set
	Pool    *upstream.Pool // never nil without an error
	Timeout time.Duration
	Domain  string // the domain that alone gives the host to the exchange; "" if a row lists the host
}

// Denied is why a host is refused by policy.
type Denied struct {
	Target upstream.Target
	Rule   string
	Text   string // what is refused, in words that a client may see
	Hint   string // what to do about it
	Domain string // as in Route
}

// Error returns Text.
func (d *Denied) Error() string { return d.Text }

// BadTarget is a host or port that cannot be one.
type BadTarget struct{ Err error }

// Error returns the text of the cause.
func (b *BadTarget) Error() string { return b.Err.Error() }

// Unwrap returns the cause.
func (b *BadTarget) Unwrap() error { return b.Err }

// Router is one configuration's rules. Everything that can be decided before
// a host is known is decided in New, the sentences included.
type Router struct {
	config    *config.Config
	pools     map[string]*config.Pool // by name
	set       *upstream.Set
	exact     map[string]*node    // names that a route, an exchange or the catalogue lists
	suffixes  map[string]*node    // by what stands behind "*."
	unlisted  *node               // names that nothing lists
	addresses addressRules        // targets without a name
	listeners map[string]listener // by address
}

// node is what is known of a name, or of all names below one.
type node struct {
	route     *decision // the first route that matches; nil if none
	exchange  string    // "" when it is no exchange's
	host      string    // the listed host that made it the exchange's, "*." included
	listed    bool      // by the configuration, not by the catalogue
	kind      catalog.Kind
	decisions [2]*decision // where no route matches: for http, for websocket
	domain    *domain      // that alone gives it to the exchange; nil if a row lists it, or it is unknown
}

func (n *node) decision(k catalog.Kind) *decision {
	if k == catalog.KindWebsocket {
		return n.decisions[1]
	}
	return n.decisions[0]
}

type listener struct {
	use      *decision
	unlisted *decision // for what no route and no exchange's entry covers; nil: as for the rest
	kind     catalog.Kind
}

// decision is the end of a look-up.
type decision struct {
	rule, source   string
	pool           *upstream.Pool // nil: refused
	timeout        time.Duration
	trusted        bool   // a route other than * is direct
	named          bool   // a route other than * does not refuse it
	implicitDirect bool   // direct because no outbound is set
	byDefault      bool   // direct because default is
	any            bool   // a route for *
	listed         bool   // by an exchange's entry, for a listed host
	why, hint      string // of a refusal
	whyNameless    string // for why, before Hint.Nameless
}

// Config returns the configuration that the router was built from.
func (r *Router) Config() *config.Config { return r.config }

// Set returns the router's upstreams.
func (r *Router) Set() *upstream.Set { return r.set }

// Route returns the route of a host as a client wrote it. The error is a
// *BadTarget or a *Denied. It is safe for concurrent use.
func (r *Router) Route(host string, port uint16, h Hint) (Route, error) {
	var f finding
	if err := r.find(&f, host, port, h); err != nil {
		return Route{}, err
	}
	return f.route(port)
}

// finding is a look-up's outcome and how it came about.
type finding struct {
	host    target.Host
	node    *node // nil for an address
	kind    catalog.Kind
	from    kindSource
	last    *decision // where no route and no listener decides
	chosen  *decision
	trusted bool
	named   bool
	why     string // Hint.Nameless
}

var errPort = errors.New("the target's port is not between 1 and 65535")

// find looks up a host. The order is the documented one: routes (but only those
// that reject beat a listener's use), the listener's use, the exchange's entry
// for the kind, the default for the kind, direct.
func (r *Router) find(f *finding, host string, port uint16, h Hint) error {
	name, err := target.ParseHost(host)
	if err != nil {
		return &BadTarget{err}
	}
	if port == 0 {
		return &BadTarget{errPort}
	}
	var l listener
	if h.Listener != "" {
		l = r.listeners[h.Listener]
	}
	f.host = name
	var route, last *decision
	if name.IsIP() {
		f.kind, f.from = decideKind(catalog.KindUnknown, l.kind, h.Kind)
		route, last = r.addresses.match(name.IP), r.addresses.last(f.kind)
	} else {
		f.node = r.lookup(name.Name)
		f.kind, f.from = decideKind(f.node.kind, l.kind, h.Kind)
		route, last = f.node.route, f.node.decision(f.kind)
		if d := f.node.domain; d != nil && f.from == kindAssumed {
			f.kind, f.from, last = d.guess(name.Name)
		}
	}
	f.last = last
	switch {
	case port == mailPort:
		f.chosen = noMail
	case route != nil && (l.use == nil || route.pool == nil):
		f.chosen = route
	case l.use != nil:
		f.chosen = l.use
	default:
		f.chosen = last
	}
	if l.unlisted != nil && route == nil && port != mailPort {
		switch {
		case !last.listed:
			f.chosen = l.unlisted
		case last.pool == nil: // listed, to be refused
			f.chosen = last
		}
	}
	f.trusted = route != nil && route.trusted
	f.named = route != nil && route.named
	f.why = h.Nameless
	return nil
}

// ListsAddress reports whether a CIDR under routes decides about an address at a
// listener: of one with a use, only those that refuse do.
func (r *Router) ListsAddress(ip netip.Addr, listener string) bool {
	d := r.addresses.match(ip.Unmap())
	return d != nil && !d.any && (d.pool == nil || r.listeners[listener].use == nil)
}

// lookup returns the node of a normalised name. Each node was built from all
// rules that cover it, so the first one found is the answer.
func (r *Router) lookup(name string) *node {
	if n, ok := r.exact[name]; ok {
		return n
	}
	for rest := name; ; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return r.unlisted
		}
		rest = rest[dot+1:]
		if n, ok := r.suffixes[rest]; ok {
			return n
		}
	}
}

// HostKind returns what a normalised host is used for: one kind, both, or
// KindUnknown for an address and for a name that nothing lists.
func (r *Router) HostKind(host string) catalog.Kind {
	if h, err := target.ParseHost(host); err != nil || h.IsIP() {
		return catalog.KindUnknown
	}
	return r.lookup(host).kind
}

// route returns what the caller of Route gets.
func (f *finding) route(port uint16) (Route, error) {
	d := f.chosen
	if d.pool == nil {
		text, hint := "target "+f.host.Name+" "+d.why, d.hint
		if d.whyNameless != "" && f.why != "" {
			text, hint = "target "+f.host.Name+" "+d.whyNameless+f.why, "list the CIDR under routes"
		}
		return Route{}, &Denied{Target: f.target(port), Rule: d.rule, Text: text, Hint: hint, Domain: f.domain()}
	}
	return Route{Target: f.target(port), Rule: d.rule, Source: d.source, Pool: d.pool, Timeout: d.timeout, Domain: f.domain()}, nil
}

// domain returns the domain that alone gives the host to its exchange, "" if a
// row lists the host.
func (f *finding) domain() string {
	if f.node == nil || f.node.domain == nil {
		return ""
	}
	return f.node.domain.name
}

func (f *finding) target(port uint16) upstream.Target {
	exchange := ""
	if f.node != nil {
		exchange = f.node.exchange
	}
	return upstream.Target{Host: f.host.Name, IP: f.host.IP, Port: port, Exchange: exchange, Kind: f.kind, Trusted: f.trusted, Named: f.named}
}

// mailPort is refused whatever the rules say: a proxy that reaches it is
// abused for mail.
const mailPort = 25

var noMail = &decision{
	rule: "port 25",
	why:  "is refused on port 25, which is for mail",
	hint: "any other port is allowed",
}

// kindSource is how a kind was determined.
type kindSource uint8

const (
	kindOfHost kindSource = iota + 1
	kindOfListener
	kindAsked
	kindAssumed
	kindOfLabel  // a label of an unlisted host suggests websocket
	kindNoDirect // of an unlisted host: the kind that does not go direct
)

// decideKind returns the kind of a connection. The host's own kind comes first,
// then the listener's, then the client's.
func decideKind(host, listener, asked catalog.Kind) (catalog.Kind, kindSource) {
	single := func(k catalog.Kind) bool { return k == catalog.KindHTTP || k == catalog.KindWebsocket }
	switch {
	case single(host):
		return host, kindOfHost
	case single(listener):
		return listener, kindOfListener
	case single(asked):
		return asked, kindAsked
	}
	return catalog.KindHTTP, kindAssumed
}

package router

import (
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/target"
	"proxyd/internal/upstream"
)

// Explanation is the result of a look-up with its reasons and with what may be
// unexpected about it.
type Explanation struct {
	Target   upstream.Target // as far as the host could be read
	Host     string          // the listed host that made it the exchange's, such as "*.kucoin.com"; "" if none
	KindFrom string          // how the kind was decided
	Rule     string
	Source   string // the key path of the outbound
	Pool     *upstream.Pool
	Route    Route    // as Route returns it
	Err      error    // as Route returns it
	Warnings []string // sentences without a full stop
}

// Explain returns what Route would, with the reasons.
func (r *Router) Explain(host string, port uint16, h Hint) Explanation {
	var f finding
	if err := r.find(&f, host, port, h); err != nil {
		return Explanation{Err: err}
	}
	x := Explanation{Rule: f.chosen.rule, Source: f.chosen.source, Pool: f.chosen.pool}
	x.Route, x.Err = f.route(port)
	x.Target = f.target(port)
	switch f.from {
	case kindOfHost:
		x.KindFrom = "the host serves only that"
	case kindOfListener:
		x.KindFrom = "the kind of listener " + h.Listener
	case kindAsked:
		x.KindFrom = "asked for"
	case kindOfLabel:
		x.KindFrom = "assumed: a label of the host says so"
	case kindNoDirect:
		x.KindFrom = "assumed: the other kind goes direct"
	default:
		x.KindFrom = "assumed: nothing says websocket"
	}
	if f.node == nil {
		return x
	}
	x.Host = f.node.host
	if f.from == kindOfHost {
		x.KindFrom = "the catalogue's for " + f.node.host
		if f.node.listed {
			x.KindFrom = "the configuration's for " + f.node.host
		}
	}
	x.Warnings = r.warnings(&f)
	return x
}

// warnings returns what may be unexpected about the outbound of a name.
func (r *Router) warnings(f *finding) (list []string) {
	n := f.node
	if f.chosen != f.last {
		return nil // a route or a listener decides: nothing to doubt
	}
	if n.kind != catalog.KindHTTP && n.kind != catalog.KindWebsocket && !r.sameOutbound(r.effective(n.exchange, catalog.KindHTTP), r.effective(n.exchange, catalog.KindWebsocket)) {
		what := f.host.Name + " serves both kinds, which have different outbounds "
		if n.exchange == "" {
			what = f.host.Name + " is unknown, and the kinds have different outbounds "
		}
		help := kindHelp
		if n.domain != nil {
			help = strings.Replace(kindHelp, "http", f.kind.String(), 1)
			what = f.host.Name + " is not in the catalogue, and the kinds of " + n.exchange + " have different outbounds "
		}
		list = append(list, what+r.bothWords(n.exchange)+": "+help)
	}
	if e := r.entry(n.exchange); n.exchange != "" && (e == nil || e.Outbounds == config.Outbounds{}) {
		list = append(list, r.familyWarnings(n.exchange)...)
		if n.domain != nil {
			list = append(list, r.domainWarnings(n.domain.name)...)
		}
	}
	if f.chosen.source == "" && f.chosen.pool != nil && r.config.Default.Of(f.kind) == nil {
		subject := "unlisted host"
		if n.exchange != "" {
			subject = n.exchange + "." + f.kind.String()
		}
		list = append(list, subject+": "+directNoDefault)
	}
	return list
}

// kindHelp is how a client states the kind of a connection to such a host.
const kindHelp = "taken as http unless the listener's kind, +websocket in the proxy username or an Upgrade on plain HTTP says otherwise; proxyd env sets WSS_PROXY so for aiohttp and websockets, docs/clients.md has the other clients"

func (r *Router) entry(id string) *config.Exchange {
	for i := range r.config.Exchanges {
		if r.config.Exchanges[i].ID == id {
			return &r.config.Exchanges[i]
		}
	}
	return nil
}

// effective returns the outbound of an exchange ("" for hosts of none) for a
// kind, nil if none is set, which is direct.
func (r *Router) effective(exchange string, k catalog.Kind) *config.Outbound {
	if e := r.entry(exchange); e != nil && e.Outbounds.Of(k) != nil {
		return e.Outbounds.Of(k)
	}
	return r.config.Default.Of(k)
}

// sameOutbound reports whether two outbounds use the same members.
func (r *Router) sameOutbound(a, b *config.Outbound) bool { return config.SameOutbound(a, b, r.pools) }

// bothWords returns the two outbounds of an exchange in words.
func (r *Router) bothWords(exchange string) string {
	word := func(k catalog.Kind) string {
		w := r.effective(exchange, k)
		if w == nil {
			return directNoDefault
		}
		if s, ok := outboundWord(r.config, w); ok {
			return s
		}
		return w.Source
	}
	return "(http: " + word(catalog.KindHTTP) + ", websocket: " + word(catalog.KindWebsocket) + ")"
}

// servesBoth returns the live hosts of an exchange that serve both kinds. Hosts
// of a testnet are left to Explain.
func (r *Router) servesBoth(exchange string) []string {
	var live []string
	x, _ := r.config.Known().Get(exchange)
	for _, h := range x.Hosts {
		n := r.exact[h.Name]
		switch {
		case n == nil || n.kind != catalog.KindBoth || n.exchange != exchange || n.listed:
		case h.Env == "live":
			live = append(live, h.Name)
		}
	}
	var own []string
	if e := r.entry(exchange); e != nil {
		seen := map[target.Pattern]bool{}
		for _, h := range e.Hosts {
			name, wild := patternName(h.Pattern)
			n := r.exact[name]
			if wild {
				n = r.suffixes[name]
			}
			if n != nil && n.kind == catalog.KindBoth && n.exchange == exchange && !seen[h.Pattern] {
				seen[h.Pattern] = true
				own = append(own, h.Pattern.String())
			}
		}
	}
	return append(own, live...)
}

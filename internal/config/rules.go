package config

import (
	"cmp"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config/internal/raw"
	"proxyd/internal/target"
)

func (b *builder) exchanges(entries map[string]raw.Exchange) []Exchange {
	var out []Exchange
	var listed []hostOwner
	seen := map[string]string{}
	for _, name := range b.keysOf("exchanges") {
		e, key := entries[name], "exchanges."+name
		limits := takeLimits(key, &e)
		silence := b.exchangeSilence(key, &e)
		x := Exchange{ID: name, Outbounds: b.outbounds(key, &e.Outbounds), Hosts: b.hosts(key+".hosts", e.Hosts), Probe: b.probe(key+".probe", e.Probe), Silence: silence}
		if e.UnlistedHosts != nil && !b.ownsDomain(name) {
			b.warnf(key+".unlisted_hosts", "remove it", "has no effect: the catalogue has no domain of %s", name)
		}
		x.UnlistedDefault = orDefault(e.UnlistedHosts, "follow") == "default"
		if id, ok := b.known.Resolve(name); ok {
			x.ID = id
		} else if !b.hostsWritten(key+".hosts", e.Hosts) {
			b.nameErrorf(key, "list its hosts, or see: proxyd exchanges"+DidYouMean(name, b.known.IDs()), "%s is not an exchange that the catalogue knows, and it has no hosts", quoted(name))
		}
		x.Limits = b.exchangeLimits(x.ID, limits)
		if other, twice := seen[x.ID]; twice {
			i := slices.IndexFunc(out, func(o Exchange) bool { return o.ID == x.ID })
			b.duplicates = append(b.duplicates, duplicate{key, name, other, i, x})
			continue
		}
		seen[x.ID] = name
		listed = append(listed, hostOwnersOf(x.ID, key+".hosts", e.Hosts)...)
		out = append(out, x)
	}
	ownerCheck{b.report, b.known, map[string]hostOwner{}}.check(listed)
	return out
}

// ownsDomain reports whether the catalogue gives the exchange a domain.
func (b *builder) ownsDomain(name string) bool {
	id, ok := b.known.Resolve(name)
	for d := range b.known.Domains() {
		if ok && (d.Owner == id || slices.Contains(d.Others, id)) {
			return true
		}
	}
	return false
}

// duplicate is an exchange that stands there a second time, by another of its names.
type duplicate struct {
	key, name, other string
	first            int // in Config.Exchanges
	exchange         Exchange
}

// mergeDuplicates accepts an exchange under two of its names, as cryptofeed has
// for several, if both have the same settings, and drops the second. It runs
// after the members are named.
func (b *builder) mergeDuplicates(c *Config) {
	if len(b.duplicates) == 0 {
		return
	}
	pools := PoolsByName(c)
	drop := func(p Pool) bool {
		return p.Inline && slices.ContainsFunc(b.duplicates, func(t duplicate) bool { return p.Name == t.key || strings.HasPrefix(p.Name, t.key+".") })
	}
	for _, t := range b.duplicates {
		a, z := c.Exchanges[t.first], t.exchange
		same := reflect.DeepEqual(a.Hosts, z.Hosts) && a.Limits == z.Limits && a.Probe == z.Probe && a.Silence == z.Silence && a.UnlistedDefault == z.UnlistedDefault
		for _, k := range catalog.Kinds {
			w, v := a.Outbounds.Of(k), z.Outbounds.Of(k)
			same = same && (w == nil) == (v == nil) && (w == nil || w.Timeout == v.Timeout && SameOutbound(w, v, pools))
		}
		if !same {
			b.nameErrorf(t.key, "keep one of the two, or make them equal", "%s and %s are the same exchange (%s), with different settings", t.name, t.other, z.ID)
		}
	}
	c.Pools = slices.DeleteFunc(c.Pools, drop)
}

// PoolsByName returns the pools of a configuration by name.
func PoolsByName(c *Config) map[string]*Pool {
	return poolsByName(c.Pools)
}

func poolsByName(pools []Pool) map[string]*Pool {
	table := make(map[string]*Pool, len(pools))
	for i := range pools {
		table[pools[i].Name] = &pools[i]
	}
	return table
}

// SameOutbound reports whether two outbounds use the same members in the same
// manner, even if each has them inline. nil is direct. Timeouts are ignored.
// pools are those of PoolsByName.
func SameOutbound(a, z *Outbound, pools map[string]*Pool) bool {
	direct := Outbound{Action: Direct}
	a, z = cmp.Or(a, &direct), cmp.Or(z, &direct)
	if a.Action != z.Action || a.Action != Use || a.Pool == z.Pool {
		return a.Action == z.Action && a.Pool == z.Pool
	}
	p, q := pools[a.Pool], pools[z.Pool]
	if p == nil || q == nil || !p.Inline || !q.Inline {
		return false
	}
	return p.Strategy == q.Strategy && p.HashOver == q.HashOver && p.Limits == q.Limits && p.Health == q.Health && p.Eject == q.Eject &&
		slices.EqualFunc(p.Proxies, q.Proxies, func(m, n Proxy) bool {
			return m.Name == n.Name && m.Weight == n.Weight && m.Tier == n.Tier && m.Enabled == n.Enabled && m.Exit == n.Exit && m.Limits == n.Limits
		})
}

// hostsWritten reports whether there are hosts, valid or not.
func (b *builder) hostsWritten(key string, h *raw.Hosts) bool {
	return h != nil && len(h.Both)+len(h.HTTP)+len(h.Websocket) > 0 ||
		slices.ContainsFunc(b.shaped, func(f Error) bool { return strings.HasPrefix(f.Key, key) })
}

func (b *builder) hosts(key string, h *raw.Hosts) []Host {
	if h == nil {
		return nil
	}
	var out []Host
	add := func(key string, list []string, k catalog.Kind) {
		for i, s := range list {
			p, err := target.ParsePattern(s)
			if err != nil || (p.Kind != target.Exact && p.Kind != target.Wildcard) {
				b.errorf(fmt.Sprintf("%s[%d]", key, i), "write a host without scheme and port, such as api.venue.example or *.venue.example", "%s is not a host name", quoted(s))
				continue
			}
			out = append(out, Host{p, k})
		}
	}
	add(key, h.Both, catalog.KindBoth)
	add(key+".http", h.HTTP, catalog.KindHTTP)
	add(key+".websocket", h.Websocket, catalog.KindWebsocket)
	return out
}

// hostError returns why text is not a host, with the text if it may be shown.
func hostError(err error, text string) string {
	if strings.HasPrefix(quoted(text), `"`) {
		return err.Error()
	}
	return target.Reason(err)
}

func (b *builder) routes(list []raw.Route) []Route {
	var out []Route
	for i, r := range list {
		key := fmt.Sprintf("routes[%d]", i)
		route := Route{}
		if len(r.Hosts) == 0 {
			b.missingf(key, "add hosts: [name, \"*.name\", 10.0.0.0/8 or \"*\"]", "has no hosts")
		}
		for j, s := range r.Hosts {
			p, err := target.ParsePattern(s)
			if err != nil {
				b.errorf(fmt.Sprintf("%s.hosts[%d]", key, j), "write a name, *.name, an address, a CIDR, or *", "%s", hostError(err, s))
				continue
			}
			route.Hosts = append(route.Hosts, p)
		}
		if r.Use == nil {
			b.missingf(key, "add use: direct, reject, a URL or a pool's name", "has no outbound")
			continue
		}
		if w := b.outbound(key+".use", r.Use); w != nil {
			route.Outbound = *w
		}
		out = append(out, route)
	}
	return out
}

// DirectRoute returns the route by which a flag of a command line lets a host out
// directly: a name, *.name, an address or a CIDR. It goes before those of the file.
func DirectRoute(flag, host string) (Route, error) {
	p, err := target.ParsePattern(host)
	if err == nil && (p.Kind == target.Any || p.Kind == target.CIDR && p.Prefix.Bits() == 0) {
		err = fmt.Errorf("%q would let everything out directly", host)
	}
	if err != nil {
		what := strings.TrimPrefix(err.Error(), "host ")
		if !strings.Contains(what, "write") {
			what += "; write a CIDR, an address, a name or *.name"
		}
		return Route{}, fmt.Errorf("%s %s", flag, what)
	}
	flag += " " + host
	return Route{Hosts: []target.Pattern{p}, Flag: flag,
		Outbound: Outbound{Action: Direct, Timeout: time.Duration(defaultTimeout * float64(time.Second)), Source: flag}}, nil
}

// OfLoopback reports whether one of the hosts is loopback's.
func (r *Route) OfLoopback() bool {
	return slices.ContainsFunc(r.Hosts, func(p target.Pattern) bool {
		return p.Kind == target.CIDR && p.Prefix.Addr().IsLoopback() || p.Name == "localhost" || strings.HasSuffix(p.Name, ".localhost")
	})
}

// probe returns the URLs that checks of an exchange request.
func (rep *report) probe(key string, r *raw.Probe) (p Probe) {
	if r == nil {
		return p
	}
	if r.HTTP != nil {
		p.HTTP = rep.probeURL(key+".http", *r.HTTP, "https", "http")
	}
	if r.Websocket != nil {
		p.Websocket = rep.probeURL(key+".websocket", *r.Websocket, "wss", "ws")
	}
	return p
}

func (rep *report) probeURL(key, text, secure, plain string) ProbeURL {
	hint := "write it as " + secure + "://api.venue.example/time, public and without a key"
	u, err := url.Parse(strings.TrimSpace(text))
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || strings.Contains(text, "${"):
		rep.errorf(key, hint, "is not an address to ask")
	case u.Scheme != secure && u.Scheme != plain:
		rep.errorf(key, hint, "must begin with %s:// or %s://", secure, plain)
	case u.User != nil:
		rep.errorf(key, hint, "has a user: it is shown in logs and asked without one")
	case u.Fragment != "":
		rep.errorf(key, hint, "has a # in it, which is never sent")
	default:
		return ProbeURL(u.String())
	}
	return ""
}

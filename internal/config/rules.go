package config

import (
	"fmt"
	"slices"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/config/internal/raw"
	"proxyd/internal/target"
)

func (b *builder) exchanges(entries map[string]raw.Exchange) []Exchange {
	var out []Exchange
	var listed []claim
	seen := map[string]string{}
	for _, name := range b.keysOf("exchanges") {
		e, key := entries[name], "exchanges."+name
		limits := takeLimits(key, &e)
		x := Exchange{ID: name, Ways: b.ways(key, &e.Ways), Hosts: b.hosts(key+".hosts", e.Hosts), Probe: b.probe(key+".probe", e.Probe)}
		if e.UnlistedHosts != nil && !b.ownsDomain(name) {
			b.warn(key+".unlisted_hosts", "remove it", "has no effect: the catalogue has no domain of %s", name)
		}
		x.UnlistedDefault = orDefault(e.UnlistedHosts, "follow") == "default"
		if id, ok := b.known.Resolve(name); ok {
			x.ID = id
		} else if x.Custom = true; !b.hostsWritten(key+".hosts", e.Hosts) {
			b.nameFault(key, "list its hosts, or see: proxyd exchanges"+DidYouMean(name, b.known.IDs()), "%s is not an exchange that the catalogue knows, and it has no hosts", quoted(name))
		}
		if other, twice := seen[x.ID]; twice {
			b.nameFault(key, "keep one of the two", "%s and %s are the same exchange (%s)", name, other, x.ID)
		}
		seen[x.ID] = name
		x.Limits = b.exchangeLimits(x.ID, limits)
		listed = append(listed, claims(x.ID, key+".hosts", e.Hosts)...)
		out = append(out, x)
	}
	b.hostOwners(listed)
	return out
}

// ownsDomain reports whether unlisted hosts may be taken for an exchange's.
func (b *builder) ownsDomain(name string) bool {
	id, ok := b.known.Resolve(name)
	for d := range b.known.Domains() {
		if ok && (d.Owner == id || slices.Contains(d.Others, id)) {
			return true
		}
	}
	return false
}

// hostsWritten reports whether there are hosts, be it faulty ones.
func (b *builder) hostsWritten(key string, h *raw.Hosts) bool {
	return h != nil && len(h.Both)+len(h.HTTP)+len(h.Websocket) > 0 ||
		slices.ContainsFunc(b.shaped, func(f Fault) bool { return strings.HasPrefix(f.Key, key) })
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
				b.fault(fmt.Sprintf("%s[%d]", key, i), "write a host without scheme and port, such as api.venue.example or *.venue.example", "%s is not a host name", quoted(s))
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

// hostFault is why text is no host, with the text where it may be shown.
func hostFault(err error, text string) string {
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
			b.missing(key, "add hosts: [name, \"*.name\", 10.0.0.0/8 or \"*\"]", "has no hosts")
		}
		for j, s := range r.Hosts {
			p, err := target.ParsePattern(s)
			if err != nil {
				b.fault(fmt.Sprintf("%s.hosts[%d]", key, j), "write a name, *.name, an address, a CIDR, or *", "%s", hostFault(err, s))
				continue
			}
			route.Hosts = append(route.Hosts, p)
		}
		if r.Use == nil {
			b.missing(key, "add use: direct, reject, a URL or a pool's name", "has no way")
			continue
		}
		if w := b.way(key+".use", r.Use); w != nil {
			route.Way = *w
		}
		out = append(out, route)
	}
	return out
}

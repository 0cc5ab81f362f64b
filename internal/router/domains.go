package router

import (
	"cmp"
	"slices"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
)

// domain holds the decisions for hosts that no row lists, below a registrable
// domain that an exchange of the catalogue owns. If neither the client nor the
// listener states the kind, it is guessed.
type domain struct {
	name          string
	decisions     [2]*decision // where the kind is stated: for http, for websocket
	stream, plain guess        // where it is not: for names with a label such as stream, and for others
}

// guess is a kind that is not stated, and the decision for it.
type guess struct {
	kind     catalog.Kind
	from     kindSource
	decision *decision
}

// guess returns the kind of a connection to a host below the domain if the kind
// is not stated, and the decision for it.
func (d *domain) guess(host string) (catalog.Kind, kindSource, *decision) {
	g := &d.plain
	if streams(strings.TrimSuffix(host, d.name)) {
		g = &d.stream
	}
	return g.kind, g.from, g.decision
}

// streams reports whether the labels in front of a domain suggest that a host
// serves websockets, as in most such hosts of the catalogue: fstream, ws-api, wss,
// push, feed. News and aws do not count.
func streams(labels string) bool {
	for _, word := range []string{"stream", "push", "feed"} {
		if strings.Contains(labels, word) {
			return true
		}
	}
	for rest := labels; ; {
		before, after, found := strings.Cut(rest, "ws")
		if !found {
			return false
		}
		if !strings.HasSuffix(before, "ne") && !strings.HasSuffix(before, "a") { // news, aws
			return true
		}
		rest = after
	}
}

// addDomains adds a row for each domain that an exchange owns, found after all
// rows that list a host. Domains with unlisted_hosts: default are left out.
func (b *builder) addDomains(rows hostRows) {
	for d := range b.config.Known().Domains() {
		exchange, _ := b.domainOwner(d)
		if e := b.entries[exchange]; e != nil && e.UnlistedDefault {
			continue
		}
		if e := b.entries[d.Owner]; e != nil && e.UnlistedDefault {
			continue
		}
		if above, covered := rows.above(d.Name); covered && above.users {
			continue // a wildcard of the user's covers it
		}
		row := hostRow{exchange: exchange, domain: d.Name}
		if _, listed := rows.exact[d.Name]; !listed {
			rows.exact[d.Name] = row
		}
		if _, listed := rows.suffixes[d.Name]; !listed {
			rows.suffixes[d.Name] = row
		}
	}
}

// domainOwner returns the exchange that unlisted hosts of a domain belong to:
// its owner, or where that has no entry the one other exchange there that has.
// Where several have, it is the owner again, and they are returned too.
func (b *builder) domainOwner(d catalog.Domain) (exchange string, several []string) {
	return domainOwner(d, func(id string) bool {
		e := b.entries[id]
		return e != nil && e.Outbounds != config.Outbounds{}
	})
}

func domainOwner(d catalog.Domain, hasEntry func(id string) bool) (exchange string, several []string) {
	if hasEntry(d.Owner) {
		return d.Owner, nil
	}
	for _, id := range d.Others {
		if hasEntry(id) {
			several = append(several, id)
		}
	}
	if len(several) == 1 {
		return several[0], nil
	}
	return d.Owner, several
}

// domain returns the rules for the unlisted hosts of a row's domain, built once
// for each domain.
func (b *builder) domain(row hostRow) *domain {
	if d := b.domains[row.domain]; d != nil {
		return d
	}
	d := &domain{name: row.domain}
	for i, k := range catalog.Kinds {
		d.decisions[i] = b.unlisted(row, k, k)
	}
	streaming := b.unlisted(row, catalog.KindWebsocket, catalog.KindHTTP)
	d.stream = guess{catalog.KindWebsocket, kindOfLabel, streaming}
	d.plain = guess{catalog.KindHTTP, kindAssumed, d.decisions[0]}
	direct := func(k catalog.Kind) bool { return b.directness(b.effective(row.exchange, k)) == wholly }
	if direct(catalog.KindHTTP) && !direct(catalog.KindWebsocket) {
		d.plain = guess{catalog.KindWebsocket, kindNoDirect, streaming}
	}
	b.domains[row.domain] = d
	return d
}

// effective returns the outbound of an exchange for a kind, nil if none is set.
func (b *builder) effective(exchange string, k catalog.Kind) *config.Outbound {
	if e := b.entries[exchange]; e != nil && e.Outbounds.Of(k) != nil {
		return e.Outbounds.Of(k)
	}
	return b.config.Default.Of(k)
}

// unlisted returns the decision for unlisted hosts of an exchange and a kind:
// its entry's, but never more direct than the default for a connection of kind
// without, which an unknown host is taken for.
func (b *builder) unlisted(row hostRow, k, without catalog.Kind) *decision {
	base := b.config.Default.Of(without)
	entry := b.entries[row.exchange]
	if entry == nil || entry.Outbounds.Of(k) == nil {
		if b.directness(b.config.Default.Of(k)) > b.directness(base) {
			k = without
		}
		return b.unsetDecision(row.exchange, k)
	}
	w := entry.Outbounds.Of(k)
	source := orElse(w.Source, "exchanges."+entry.ID+"."+k.String())
	rule := "domain " + row.domain + " (host not in the catalogue)"
	d := b.directness(w)
	if d != wholly && d <= b.directness(base) {
		return b.decide(w, decision{
			rule: rule,
			why:  "is refused: the catalogue does not list it, it is taken for " + row.exchange + "'s by its domain, and " + source + " says reject",
			hint: "to let it out, list the host under exchanges." + entry.ID + ".hosts or under routes",
		})
	}
	if base == nil { // and the entry is direct, or enabled is false
		return &decision{rule: rule + ": no default is set", pool: b.direct, timeout: unsetTimeout}
	}
	from := orElse(base.Source, "default")
	return b.decide(base, decision{
		rule: rule + ": " + from + ", since " + source + d.word(),
		why:  "is refused: the catalogue does not list it and " + from + " is reject",
		hint: "list the host under exchanges." + entry.ID + ".hosts or under routes",
	})
}

// directness orders outbounds by how much of what they carry leaves directly.
type directness int

const (
	refused directness = iota
	proxied
	partly // a pool with a direct member
	wholly
)

// word returns why an outbound is not used.
func (d directness) word() string {
	switch d {
	case wholly:
		return " says direct"
	case partly:
		return " has a direct member"
	default:
		return " would let it out"
	}
}

func (b *builder) directness(w *config.Outbound) directness {
	switch {
	case w == nil || w.Action == config.Direct:
		return wholly
	case w.Action == config.Reject:
		return refused
	case !b.config.Enabled:
		return wholly
	}
	mixed, known := b.mixed[w.Pool]
	if !known { // once for each pool: a list has thousands of members
		i := slices.IndexFunc(b.config.Pools, func(p config.Pool) bool { return p.Name == w.Pool })
		mixed = i >= 0 && slices.ContainsFunc(b.config.Pools[i].Proxies, func(p config.Proxy) bool { return p.URL.Scheme == config.SchemeDirect })
		b.mixed[w.Pool] = mixed
	}
	if mixed {
		return partly
	}
	return proxied
}

// domainWarnings lists the domains whose unlisted hosts take the default
// because several exchanges there have an entry and the owner has none. If only
// is not "", it is limited to that domain.
func (r *Router) domainWarnings(only string) (list []string) {
	hasEntry := func(id string) bool {
		e := r.entry(id)
		return e != nil && e.Outbounds != config.Outbounds{}
	}
	domains := slices.SortedFunc(r.config.Known().Domains(), func(a, b catalog.Domain) int { return cmp.Compare(a.Name, b.Name) })
	for _, d := range domains {
		_, several := domainOwner(d, hasEntry)
		if owner := r.entry(d.Owner); len(several) == 0 || only != "" && only != d.Name || owner != nil && owner.UnlistedDefault ||
			!slices.ContainsFunc(several, func(id string) bool { return !r.followsDefault(r.entry(id)) }) {
			continue
		}
		list = append(list, "hosts of "+d.Name+" that the catalogue does not list: "+joinAnd(several)+" have an entry, "+d.Owner+", which owns the domain, has none: "+r.defaultWords()+"; add "+d.Owner)
	}
	return list
}

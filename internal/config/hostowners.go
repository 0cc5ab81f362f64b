package config

import (
	"fmt"
	"slices"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/config/internal/raw"
	"proxyd/internal/target"
)

// hostOwner is a host that an exchange of the file calls its own, and where.
type hostOwner struct {
	exchange, key string
	pattern       target.Pattern
}

// hostOwnersOf returns the hosts of an exchange with their key paths.
func hostOwnersOf(exchange, key string, h *raw.Hosts) (out []hostOwner) {
	if h == nil {
		return nil
	}
	add := func(key string, list []string) {
		for i, s := range list {
			if p, err := target.ParsePattern(s); err == nil && (p.Kind == target.Exact || p.Kind == target.Wildcard) {
				out = append(out, hostOwner{exchange, fmt.Sprintf("%s[%d]", key, i), p})
			}
		}
	}
	add(key, h.Both)
	add(key+".http", h.HTTP)
	add(key+".websocket", h.Websocket)
	return out
}

// ownerCheck compares the hosts that the exchanges of a file list.
type ownerCheck struct {
	*report
	known *catalog.Catalog
	first map[string]hostOwner // by pattern
}

// check refuses a host that two exchanges of the file list, since one of them
// would lose it silently, and warns of hosts that the catalogue gives to another
// exchange.
func (o ownerCheck) check(all []hostOwner) {
	for _, c := range all {
		host := c.pattern.String()
		if other, taken := o.first[host]; !taken {
			o.first[host] = c
		} else if other.exchange != c.exchange {
			o.errorf(c.key, "keep it in one of the two", "%s is listed by %s too, at %s%s", host, other.exchange, other.key, o.position(other.key).location())
		}
	}
	for _, c := range all {
		owners := o.takenHosts(c)
		switch {
		case len(owners) == 0:
		case c.pattern.Kind == target.Exact:
			o.warnf(c.key, "", "%s; here it is %s's", owners[0], c.exchange)
		default:
			o.warnf(c.key, "list only hosts of its own, or the others' in their own entries", "%s covers hosts of others in the catalogue: %s; here they are %s's", c.pattern, strings.Join(owners, ", "), c.exchange)
		}
	}
}

// takenHosts returns the hosts that c takes from exchanges of the catalogue, one
// for each exchange. A wildcard beats the exact hosts of the catalogue too, but
// none that the file itself lists more specifically.
func (o ownerCheck) takenHosts(c hostOwner) (list []string) {
	if c.pattern.Kind == target.Exact {
		if owner, _, ok := o.known.Lookup(c.pattern.Name); ok && owner != c.exchange {
			list = append(list, c.pattern.Name+" is "+owner+"'s in the catalogue")
		}
		return list
	}
	for _, x := range o.known.Exchanges() {
		if x.ID == c.exchange {
			continue
		}
		i := slices.IndexFunc(x.Hosts, func(h catalog.Host) bool { return c.pattern.Covers(h.Name) && !o.moreSpecific(c, h.Name) })
		if i >= 0 {
			list = append(list, fmt.Sprintf("%s (%s)", x.Hosts[i].Name, x.ID))
		}
	}
	return list
}

// moreSpecific reports whether the file lists host more specifically than the
// wildcard c does.
func (o ownerCheck) moreSpecific(c hostOwner, host string) bool {
	if _, listed := o.first[host]; listed && host != c.pattern.String() {
		return true
	}
	for _, other := range o.first {
		if other.pattern.Kind == target.Wildcard && len(other.pattern.Name) > len(c.pattern.Name) && other.pattern.Covers(host) {
			return true
		}
	}
	return false
}

// movedHosts returns the hosts that c gives to another exchange than the embedded
// catalogue does.
func movedHosts(c *catalog.Catalog) (list []string) {
	owners := map[string]string{}
	for _, x := range catalog.Embedded().Exchanges() {
		for _, h := range x.Hosts {
			owners[h.Name] = x.ID
		}
	}
	for _, x := range c.Exchanges() {
		for _, h := range x.Hosts {
			if owner, listed := owners[h.Name]; listed && owner != x.ID {
				list = append(list, h.Name+" ("+owner+" → "+x.ID+")")
			}
		}
	}
	return list
}

// warnMistypedIDs warns of rows of the catalogue's file that make a new exchange whose
// id is nearly one of proxyd's own, and that has no entry.
func (rep *report) warnMistypedIDs(c *Config) {
	if c.CatalogFile == "" {
		return
	}
	known := catalog.Embedded().IDs()
	for _, id := range c.Known().IDs() {
		if slices.Contains(known, id) || slices.ContainsFunc(c.Exchanges, func(e Exchange) bool { return e.ID == id }) {
			continue
		}
		if near := nearest(id, known); near != "" {
			rep.warnf("catalog", "correct the id, or give the exchange an entry under exchanges", "has rows of %s, which proxyd's own catalogue does not have; did you mean %s?", id, near)
		}
	}
}

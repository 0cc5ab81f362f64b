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

// hostOwnersOf lists the hosts of an exchange with their places.
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

// hostOwners refuses a host that two exchanges of the file list, since one of
// them would lose it without a word, and warns of hosts that are taken from an
// exchange of the catalogue.
func (b *builder) hostOwners(all []hostOwner) {
	first := map[string]hostOwner{}
	for _, c := range all {
		host := c.pattern.String()
		if other, taken := first[host]; !taken {
			first[host] = c
		} else if other.exchange != c.exchange {
			b.errorf(c.key, "keep it in one of the two", "%s is listed by %s too, at %s%s", host, other.exchange, other.key, b.position(other.key).location())
		}
	}
	for _, c := range all {
		owners := b.takenHosts(c, first)
		switch {
		case len(owners) == 0:
		case c.pattern.Kind == target.Exact:
			b.warnf(c.key, "", "%s; here it is %s's", owners[0], c.exchange)
		default:
			b.warnf(c.key, "list only hosts of its own, or the others' in their own entries", "%s covers hosts of others in the catalogue: %s; here they are %s's", c.pattern, strings.Join(owners, ", "), c.exchange)
		}
	}
}

// location names a place to somebody who is shown another one.
func (p position) location() string {
	switch {
	case p.env != "":
		return " (env " + p.env + ")"
	case p.line > 0:
		return fmt.Sprintf(" (line %d)", p.line)
	}
	return ""
}

// takenHosts says whose hosts of the catalogue a claim takes away, one host an
// exchange: a wildcard beats the exact hosts of the catalogue too, but none that
// the file itself lists more closely.
func (b *builder) takenHosts(c hostOwner, file map[string]hostOwner) (list []string) {
	if c.pattern.Kind == target.Exact {
		if owner, _, ok := b.known.Lookup(c.pattern.Name); ok && owner != c.exchange {
			list = append(list, c.pattern.Name+" is "+owner+"'s in the catalogue")
		}
		return list
	}
	for _, x := range b.known.Exchanges() {
		if x.ID == c.exchange {
			continue
		}
		i := slices.IndexFunc(x.Hosts, func(h catalog.Host) bool { return c.pattern.Covers(h.Name) && !moreSpecific(c, h.Name, file) })
		if i >= 0 {
			list = append(list, fmt.Sprintf("%s (%s)", x.Hosts[i].Name, x.ID))
		}
	}
	return list
}

// moreSpecific reports whether the file lists a host more closely than a wildcard does.
func moreSpecific(c hostOwner, host string, file map[string]hostOwner) bool {
	if _, listed := file[host]; listed && host != c.pattern.String() {
		return true
	}
	for _, o := range file {
		if o.pattern.Kind == target.Wildcard && len(o.pattern.Name) > len(c.pattern.Name) && o.pattern.Covers(host) {
			return true
		}
	}
	return false
}

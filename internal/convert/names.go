package convert

import (
	"fmt"
	"slices"

	"proxyd/internal/config"
)

// identity is what makes two members the same upstream with the same credentials.
type identity struct {
	config.Identity
	password, via, server string
	insecure              bool
}

func identityOf(p *pool, m *member) identity {
	u := identity{config.IdentityOf(config.Proxy{URL: m.url}), m.url.Password.Reveal(), m.via, m.server, m.insecure}
	if u.via == "" {
		u.via = p.via
	}
	return u
}

// nameMembers gives each upstream one name in all pools, and drops members that a pool
// has twice. A member without a name keeps its host:port, unless other upstreams have
// the same.
func (d *document) nameMembers() {
	names, sessions := map[identity]string{}, map[string][]identity{}
	known := map[identity]bool{}
	var order []string // of the keys of sessions
	d.each(func(p *pool, m *member) {
		u, at := identityOf(p, m), m.url.Authority()
		if sessions[at] == nil {
			order = append(order, at)
		}
		if !known[u] {
			known[u] = true
			sessions[at] = append(sessions[at], u)
		}
		if m.name != "" && names[u] == "" {
			names[u] = m.name
		}
	})
	for _, at := range order {
		for i, u := range sessions[at] {
			if len(sessions[at]) > 1 && names[u] == "" {
				names[u] = d.members.free(fmt.Sprintf("%s-%d", u.Host, i+1), "proxy")
			}
		}
	}
	d.each(func(p *pool, m *member) { m.name = names[identityOf(p, m)] })
	for _, p := range d.pools {
		seen := map[identity]bool{}
		p.entries = slices.DeleteFunc(p.entries, func(e entry) bool {
			if e.member == nil {
				return false
			}
			u := identityOf(p, e.member)
			twice := seen[u]
			seen[u] = true
			return twice
		})
	}
}

// each calls do for the members of all pools that are no direct ones.
func (d *document) each(do func(*pool, *member)) {
	for _, p := range d.pools {
		for _, m := range p.proxies() {
			if m.url.Scheme != config.SchemeDirect {
				do(p, m)
			}
		}
	}
}

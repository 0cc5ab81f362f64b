package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
)

// Identity is what makes two proxies the same upstream. The password is not
// part of it.
type Identity struct {
	Scheme    Scheme
	User      string
	Host      string
	Port      uint16
	Via       string
	TLS       TLS
	Source    netip.Addr
	Interface string
	Name      string // set only for upstreams that differ in the password alone; for those of a list, a hash of it
}

// String returns scheme and host alone, so that the user stays masked.
func (i Identity) String() string { return string(i.Scheme) + "://" + i.Host }

// IdentityOf returns the identity of a member of a loaded configuration.
func IdentityOf(p Proxy) Identity {
	scheme := p.URL.Scheme
	if scheme == SchemeSOCKS5H {
		scheme = SchemeSOCKS5 // both send the name
	}
	id := Identity{Scheme: scheme, User: p.URL.User.Reveal(), Host: p.URL.Host.Name, Port: p.URL.Port, TLS: p.TLS, Source: p.URL.Source, Interface: p.URL.Interface}
	switch {
	case p.Apart && p.Listed: // the order of a list, and so the name, may change
		sum := sha256.Sum256([]byte(p.URL.Password.Reveal()))
		id.Name = hex.EncodeToString(sum[:])
	case p.Apart:
		id.Name = p.Name
	}
	if id.Via = p.Hop; p.Hop == "" && p.Via != nil {
		id.Via = p.Via.Pool
	}
	return id
}

// hop returns the part of an identity that stands for the hop before: its pool,
// or, for a single URL, a hash of that upstream's identity, so that it is the
// same wherever it is written. The hash hides the user.
func hop(via *Outbound, pools map[string]*Pool, depth int) string {
	p := pools[via.Pool]
	if p == nil || !p.Inline || len(p.Proxies) != 1 || depth > maxDepth {
		return via.Pool
	}
	m := p.Proxies[0]
	if m.Via != nil {
		m.Hop = hop(m.Via, pools, depth+1)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", fmt.Sprintf("%#v", IdentityOf(m))))
	return hex.EncodeToString(sum[:16])
}

// autoName returns a proxy's name, or the one derived from its URL.
func autoName(p Proxy) string {
	switch {
	case p.Name != "":
		return p.Name
	case p.URL.Scheme != SchemeDirect:
		return p.URL.Authority()
	case p.URL.Source.IsValid():
		return p.URL.Source.String()
	case p.URL.Interface != "":
		return "direct-" + p.URL.Interface
	}
	return "direct"
}

// automatic reports whether a member's name is the one derived from its URL.
func automatic(p Proxy) bool {
	name := p.Name
	p.Name = ""
	return name == autoName(p)
}

// defaultExit returns a named proxy's exit where none is set. All that leaves
// from one address of this machine shares one exit, whatever it is called.
func defaultExit(p Proxy) string {
	if p.URL.Scheme == SchemeDirect {
		p.Name = ""
		return autoName(p)
	}
	return p.Name
}

// first is where an upstream stands first, and the password that it has there.
type first struct {
	password Secret
	key      string
}

// separateByPassword makes the names of members part of their identity where
// they differ in the password alone, as sessions at one gateway do. One without
// a name is an error.
//
// Members of a list are sessions at a gateway more often than not, and are named by
// the order of the list.
func (rep *report) separateByPassword(each func(func(string, *Proxy, Identity))) {
	seen, several := map[Identity]first{}, map[Identity]bool{}
	each(func(key string, p *Proxy, id Identity) {
		if f, ok := seen[id]; !ok {
			seen[id] = first{p.URL.Password, key}
		} else if f.password.Reveal() != p.URL.Password.Reveal() {
			several[id] = true
			if p.Name == "" && !p.Listed {
				rep.errorf(key, "give both a name of their own, or use one password", "is the same upstream as %s, with another password", f.key)
			}
		}
	})
	named, sessions := map[Identity]first{}, sessionNames{map[session]string{}, map[string]int{}}
	each(func(key string, p *Proxy, id Identity) {
		if !several[id] {
			return
		}
		if p.Name == "" && p.Listed {
			p.Name = sessions.name(*p, id)
		}
		if p.Name == "" && seen[id].key == key {
			rep.errorf(key, "give both a name of their own, or use one password", "is the same upstream as another, with another password")
		}
		p.Apart = true
		if f, ok := named[IdentityOf(*p)]; !ok {
			named[IdentityOf(*p)] = first{p.URL.Password, key}
		} else if f.password.Reveal() != p.URL.Password.Reveal() && p.Name != "" {
			rep.errorf(key, "give it another name, or use one password", "is called %s like %s, with another password", p.Name, f.key)
		}
	})
}

// session is an upstream that differs from others in its password.
type session struct {
	Identity
	password string
}

// sessionNames names the sessions of lists: host:port, host:port#2 and so on.
type sessionNames struct {
	names map[session]string
	last  map[string]int
}

func (s sessionNames) name(p Proxy, id Identity) string {
	key := session{id, p.URL.Password.Reveal()}
	if s.names[key] == "" {
		base := autoName(p)
		s.last[base]++
		if s.names[key] = base; s.last[base] > 1 {
			s.names[key] = fmt.Sprintf("%s#%d", base, s.last[base])
		}
	}
	return s.names[key]
}

// namePools names every member, one name for each identity, so that logs and
// metrics have one name for an upstream wherever it is used. memberKey returns the key
// of a member.
func (rep *report) namePools(pools []Pool, memberKey func(p Pool, i int) string) {
	byName := map[string]Identity{}
	names := map[Identity]string{}
	table := poolsByName(pools)
	each := func(do func(key string, p *Proxy, id Identity)) {
		for i := range pools {
			for j := range pools[i].Proxies {
				p := &pools[i].Proxies[j]
				do(memberKey(pools[i], j), p, IdentityOf(*p))
			}
		}
	}
	each(func(_ string, p *Proxy, _ Identity) {
		if p.Via != nil {
			p.Hop = hop(p.Via, table, 0)
		}
	})
	rep.separateByPassword(each)
	each(func(key string, p *Proxy, id Identity) { // names that were given come first
		if p.Name == "" {
			return
		}
		if other, ok := names[id]; ok && other != p.Name {
			rep.errorf(key, "use one name for it", "%s is the same upstream as %s", p.Name, other)
			return
		}
		if other, ok := byName[p.Name]; ok && other != id {
			rep.errorf(key, "give it another name", "another upstream is called %s already", p.Name)
			return
		}
		byName[p.Name], names[id] = id, p.Name
	})
	last := map[string]int{} // the number that a name was last given
	each(func(key string, p *Proxy, id Identity) {
		if p.Name == "" {
			p.Name = names[id]
		}
		if p.Name == "" {
			base := autoName(*p)
			if p.Name = freeName(base, byName, last); p.Name != base && !p.Listed {
				rep.warnf(key, "give both a name", "another upstream is called %s already: this one is %s in log and metrics", base, p.Name)
			}
			byName[p.Name], names[id] = id, p.Name
		}
		if p.Exit == "" {
			p.Exit = defaultExit(*p)
		}
	})
	sessions := map[string]map[Identity]bool{} // by host:port
	each(func(_ string, p *Proxy, id Identity) {
		at := p.URL.Authority()
		if sessions[at] == nil {
			sessions[at] = map[Identity]bool{}
		}
		sessions[at][id] = true
	})
	each(func(_ string, p *Proxy, _ Identity) { // the order of a list, which numbers others, may differ between hosts
		p.ExitStable = p.ExitSet || p.Listed && len(sessions[p.URL.Authority()]) == 1
	})
}

// freeName returns base, or base#2 and so on where base is taken. last has the
// number that was last given to each base.
func freeName(base string, taken map[string]Identity, last map[string]int) string {
	name := base
	for n := max(last[base], 1); ; n++ {
		if n > 1 {
			name = fmt.Sprintf("%s#%d", base, n)
		}
		if _, ok := taken[name]; !ok {
			last[base] = n
			return name
		}
	}
}

// hops returns the pools that members of p have as their hop, those of a list that is not
// known yet included.
func (b *builder) hops(p *Pool) (names []string) {
	if via := b.listHops[p.Source]; via != nil {
		names = append(names, via.Pool)
	}
	for _, m := range p.Proxies {
		if m.Via != nil && (len(names) == 0 || names[len(names)-1] != m.Via.Pool) {
			names = append(names, m.Via.Pool)
		}
	}
	return names
}

// refuseViaCycles refuses a chain of hops that leads back to itself. poolKey returns the key
// of a pool.
func (b *builder) refuseViaCycles(pools []Pool, poolKey func(Pool) string) {
	table := poolsByName(pools)
	state := map[string]int{} // 1: being walked, 2: done
	var walk func(p *Pool, path string)
	walk = func(p *Pool, path string) {
		state[p.Name] = 1
		for _, name := range b.hops(p) {
			hop := table[name]
			if hop == nil {
				continue
			}
			switch state[hop.Name] {
			case 1:
				b.errorf(poolKey(*p), "break the circle", "via leads in a circle: %s → %s", path, hop.Name)
			case 0:
				walk(hop, path+" → "+hop.Name)
			}
		}
		state[p.Name] = 2
	}
	for i := range pools {
		if state[pools[i].Name] == 0 {
			walk(&pools[i], pools[i].Name)
		}
	}
}

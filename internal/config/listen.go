package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/config/internal/raw"
)

func (b *builder) listeners(list []raw.Listener) []Listener {
	if len(list) == 0 {
		if b.root.child("listen") != nil && b.root.child("listen").kind == listKind {
			b.errorf("listen", "name an address, such as 127.0.0.1:8877", "is an empty list")
		}
		out := make([]Listener, len(defaultListen))
		for i, a := range defaultListen {
			out[i] = Listener{Address: a, Default: true}
		}
		return out
	}
	seen := map[string]bool{}
	var out []Listener
	for i, r := range list {
		key := fmt.Sprintf("listen[%d]", i)
		if n := b.root.child("listen"); n != nil && n.kind != listKind {
			key = "listen"
		}
		l := b.listener(key, r)
		if l.Address != "" && seen[l.Address] && strings.HasPrefix(quoted(l.Address), `"`) { // its settings are found by it: also two on port 0 would be one
			b.errorf(key, "keep one of the two", "%s is listened on twice", l.Address)
		}
		seen[l.Address] = true
		out = append(out, l)
	}
	return out
}

// listKind names the list shape where a parameter is called list.
const listKind = list

func (b *builder) listener(key string, r raw.Listener) Listener {
	l := Listener{Address: orDefault(r.Text, orDefault(r.Address, ""))}
	if k, err := catalog.ParseKind(orDefault(r.Kind, "")); err == nil {
		l.Kind = k
	}
	l.Transparent = orDefault(r.Transparent, false)
	if l.Transparent {
		b.transparent(key, r)
	}
	l.UnlistedReject = orDefault(r.Unlisted, "use") == "reject"
	if r.Use != nil {
		l.Use = b.outbound(key+".use", r.Use)
	}
	if r.Auth != nil {
		l.Users = b.users(key+".auth.users", r.Auth.Users)
	}
	l.Allow = b.prefixes(key+".allow", r.Allow)
	if r.TLS != nil {
		l.TLSCert, l.TLSKey = orDefault(r.TLS.CertFile, ""), orDefault(r.TLS.KeyFile, "")
		if l.TLSCert == "" || l.TLSKey == "" {
			b.missingf(key+".tls", "", "needs both cert_file and key_file")
		} else {
			b.certificate(key+".tls", l.TLSCert, l.TLSKey)
		}
	}
	at := key
	if r.Address != nil {
		at += ".address"
	}
	if l.Address == "" {
		b.missingf(key, "add address: 127.0.0.1:8877", "has no address")
		return l
	}
	ip, port, ok := listenIP(l.Address)
	if !ok {
		b.errorf(at, "write it as 127.0.0.1:8877", "%s is not an address to listen on", quoted(l.Address))
		return l
	}
	if l.Address == "localhost:"+port {
		l.Address = net.JoinHostPort(ip.String(), port)
	}
	if !ip.IsLoopback() && len(l.Users) == 0 && len(l.Allow) == 0 {
		remedy := "listen on 127.0.0.1, or add allow: [CIDR] or auth: {users: [{name, password}]}"
		if l.Transparent {
			remedy = "listen on 127.0.0.1, or add allow: [CIDR]"
		}
		b.errorf(at, remedy, "%s can be reached from other machines, and would be an open proxy", l.Address)
	}
	return l
}

// transparent refuses what a redirected connection cannot have: its client knows of no
// proxy, so it speaks no TLS to one and presents no user.
func (b *builder) transparent(key string, r raw.Listener) {
	if b.system != "linux" {
		b.errorf(key+".transparent", "remove it; clients reach proxyd by their proxy settings there", "redirected connections are a feature of Linux, and this is %s", b.system)
	}
	for _, bad := range []struct {
		key string
		set bool
	}{{"auth", r.Auth != nil}, {"tls", r.TLS != nil}} {
		if bad.set {
			b.errorf(key+"."+bad.key, "remove it, or use a listener without transparent", "is not for a transparent listener: its clients do not know that there is a proxy")
		}
	}
}

func (b *builder) users(key string, list []raw.User) []User {
	var out []User
	seen := map[string]bool{}
	for i, u := range list {
		k := fmt.Sprintf("%s[%d]", key, i)
		name := orDefault(u.Name, "")
		if name == "" {
			b.missingf(k, "add name", "has no name")
		} else if strings.ContainsAny(name, ":+$") {
			b.errorf(k+".name", "use letters, digits and . _ ~ -", "%s is not a user name", quoted(name))
		}
		if name != "" && seen[name] {
			b.errorf(k+".name", "keep one of the two", "%s is listed twice", quoted(name))
		}
		seen[name] = true
		before := len(b.errs)
		password := b.password(k+".password", orDefault(u.Password, ""))
		if password == "" && !b.missingOK && len(b.errs) == before {
			b.missingf(k+".password", "set one, best as ${NAME} or ${file:/path}", "is empty")
		}
		out = append(out, User{name, NewSecret(password)})
	}
	if len(out) == 0 {
		b.missingf(key, "list at least one, or remove auth", "no client could connect")
	}
	return out
}

// refuseOwnAddresses refuses upstreams that are proxyd itself. Behind another hop,
// 127.0.0.1 is another machine's.
func (b *builder) refuseOwnAddresses(c *Config) {
	for _, p := range c.Pools {
		for i, m := range p.Proxies {
			if m.Via != nil {
				continue
			}
			for _, l := range c.Listen {
				if sameAddress(m.URL, l.Address) {
					b.errorf(b.memberKey(p, i), "use the address of the upstream proxy", "%s is proxyd's own listen address", l.Address)
					break
				}
			}
			switch own := sameAddress(m.URL, c.Admin.Address); {
			case own && c.Admin.Default: // dropped instead
				b.warnf("admin", `set admin to another address, or to ""`, "there is no admin server: its usual address %s is that of an upstream", c.Admin.Address)
				c.Admin.Address, c.Admin.Default = "", false
			case own:
				b.errorf(b.memberKey(p, i), "use the address of the upstream proxy", "%s is proxyd's own admin address", c.Admin.Address)
			}
		}
	}
}

func (b *builder) poolKey(p Pool) string {
	if p.Inline {
		return p.Name
	}
	return "pools." + p.Name
}

// memberKey returns the key path of a pool's member: the outbound's own where
// the pool is a single URL.
func (b *builder) memberKey(p Pool, i int) string {
	key := "pools." + p.Name
	if p.Inline {
		if key = b.members[p.Name]; key == "" {
			return p.Name
		}
	}
	if p.Proxies[i].Listed {
		return key + ".list"
	}
	return fmt.Sprintf("%s.proxies[%d]", key, b.numbers[key][i])
}

// sameAddress reports whether a proxy's URL leads to an address to listen on, as
// far as is known without DNS.
func sameAddress(u URL, listen string) bool {
	ip, port, ok := listenIP(listen)
	if !ok || u.Scheme == SchemeDirect || port != strconv.Itoa(int(u.Port)) {
		return false
	}
	switch to := u.Host.IP; {
	case u.Host.Name == "localhost" || to.IsUnspecified(): // which is this machine, too
		return ip.IsLoopback() || ip.IsUnspecified()
	case !u.Host.IsIP():
		return false
	default:
		return to == ip.Unmap() || ip.IsUnspecified() && to.IsLoopback()
	}
}

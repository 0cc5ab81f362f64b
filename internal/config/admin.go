package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"proxyd/internal/config/internal/raw"
	"proxyd/internal/target"
)

// maxSocketPath is the longest path of a unix socket that every system accepts,
// in bytes.
const maxSocketPath = 103

func (b *builder) admin(r *raw.Admin) Admin {
	a := Admin{Address: defaultAdmin, Default: true, Local: "open"}
	if r == nil {
		return a
	}
	a.Address = orDefault(r.Text, orDefault(r.Address, defaultAdmin))
	a.Default = r.Text == nil && r.Address == nil
	a.Allow, a.Hosts, a.Pprof = b.prefixes("admin.allow", r.Allow), r.Hosts, orDefault(r.Pprof, false)
	for i, h := range r.Hosts {
		name, port, err := net.SplitHostPort(h)
		if err != nil { // without a port
			name, port = h, "1"
		}
		_, badName := target.ParseHost(name)
		if _, badPort := target.ParsePort(port); badName != nil || badPort != nil {
			b.errorf(fmt.Sprintf("admin.hosts[%d]", i), "write a name as it stands in the Host header, such as proxyd.example", "%s is not a host name", quoted(h))
		}
	}
	if r.Token != nil {
		a.Token = b.token("admin.token", *r.Token)
	}
	a.Local = orDefault(r.Local, "open")
	if a.Local == "token" && r.Token == nil {
		b.errorf("admin.local", "set admin.token too, best as ${NAME} or ${file:/path}", "token asks for a token, and there is none")
	}
	b.adminAddress(adminKey(r), &a)
	return a
}

// adminKey returns the key path of the admin address, whether or not it is set.
func adminKey(r *raw.Admin) string {
	if r != nil && r.Address != nil {
		return "admin.address"
	}
	return "admin"
}

func (b *builder) token(key, text string) Secret {
	before := len(b.errs)
	token := b.password(key, text)
	switch {
	case b.missingOK || len(b.errs) > before:
	case token == "":
		b.errorf(key, "set one, best as ${NAME} or ${file:/path}, or remove the key", "is empty")
	case hasControl(token) || strings.TrimSpace(token) != token:
		b.errorf(key, "remove it", "has a control character, or a space at its beginning or end, which no request can carry")
	}
	return NewSecret(token)
}

// adminAddress checks the address that the admin server listens on, and who may
// reach it.
func (b *builder) adminAddress(key string, a *Admin) {
	const hint = `write it as 127.0.0.1:8878, unix:/path, or ""`
	if a.Address == "" {
		return
	}
	if path, ok := strings.CutPrefix(a.Address, "unix:/"); ok {
		switch {
		case path == "" || strings.HasSuffix(path, "/") || hasControl(path):
			b.errorf(key, "name a file, such as unix:/run/proxyd/admin.sock", "%s is not a socket's path", quoted(a.Address))
		case len("/")+len(path) > maxSocketPath:
			b.errorf(key, "choose a shorter path", "a socket's path may have %d bytes, and this has %d", maxSocketPath, len("/")+len(path))
		}
		return
	}
	ip, port, ok := listenIP(a.Address)
	if !ok {
		b.errorf(key, hint, "%s is not an address", quoted(a.Address))
		return
	}
	if a.Address == "localhost:"+port {
		a.Address = net.JoinHostPort(ip.String(), port)
	}
	if !ip.IsLoopback() && len(a.Allow) == 0 && a.Token.IsZero() {
		b.warnf(key, "use 127.0.0.1:"+port+", or add allow: [CIDR] for /metrics, /healthz and /readyz, and token: ${NAME} for the rest",
			"%s can be reached from other machines, and none of them will be answered", a.Address)
	}
}

// listenIP parses an address to listen on. Port "0" stands for any free port.
func listenIP(address string) (ip netip.Addr, port string, ok bool) {
	host, port, err := net.SplitHostPort(address)
	if err == nil && port != "0" {
		_, err = target.ParsePort(port)
	}
	if err != nil {
		return netip.Addr{}, "", false
	}
	switch host {
	case "localhost":
		return netip.MustParseAddr("127.0.0.1"), port, true
	case "":
		return netip.IPv6Unspecified(), port, true
	}
	ip, err = netip.ParseAddr(host)
	return ip, port, err == nil
}

// adminAmongListeners refuses an admin address that is a listener's too. The
// default address is dropped instead, with a warning.
func (b *builder) adminAmongListeners(key string, c *Config) {
	ip, port, ok := listenIP(c.Admin.Address)
	if !ok || port == "0" {
		return
	}
	for _, l := range c.Listen {
		other, otherPort, ok := listenIP(l.Address)
		if !ok || port != otherPort || ip.Unmap() != other.Unmap() && !ip.IsUnspecified() && !other.IsUnspecified() {
			continue
		}
		if c.Admin.Default {
			b.warnf("admin", `set admin to another address, or to ""`, "there is no admin server: its usual address %s is taken by listen", c.Admin.Address)
			c.Admin.Address, c.Admin.Default = "", false
			return
		}
		b.errorf(key, "give the admin server a port of its own", "%s is an address that clients are served on (%s)", c.Admin.Address, l.Address)
	}
}

// adminBehindListeners warns where other machines may connect while the admin
// server trusts local connections: a client could have an upstream on this
// machine connect back to the admin address, by a name that only the upstream
// resolves.
func (b *builder) adminBehindListeners(c *Config) {
	if c.Admin.Address == "" || strings.HasPrefix(c.Admin.Address, "unix:") || c.Admin.Local != "open" {
		return
	}
	proxies := slices.ContainsFunc(c.Pools, func(p Pool) bool {
		return slices.ContainsFunc(p.Proxies, func(m Proxy) bool { return m.URL.Scheme != SchemeDirect })
	})
	for _, l := range c.Listen {
		if ip, _, ok := listenIP(l.Address); ok && proxies && !ip.IsLoopback() {
			b.warnf("admin.local", "set admin: {local: token, token: ${NAME}}, or admin: unix:/path",
				"clients of %s that get an upstream on this machine to connect back to it could use the admin address without a token", l.Address)
			return
		}
	}
}

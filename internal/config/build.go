package config

import (
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config/internal/raw"
	"proxyd/internal/target"
)

// The defaults, all of them.
const (
	defaultAdmin      = "127.0.0.1:8878"
	defaultTimeout    = 4.0
	defaultAttempt    = 1.5
	defaultDrain      = 10.0
	defaultDrainAfter = 60.0
	defaultUpgrade    = 86400.0
)

var defaultListen = []string{"127.0.0.1:8877", "[::1]:8877"}

// notYet are the keys that are checked already and take effect later.
var notYet = []string{
	"admin", "watch", "on_removed", "drain_after_seconds", "upgrade", "stop",
}

// notYetBelow are such keys inside pools, members and exchanges.
var notYetBelow = []string{"health_check", "eject", "limits", "exit", "hash_over"}

// builder turns the raw file into a Config and collects what is wrong.
type builder struct {
	path      string
	secrets   secrets
	at        map[string]place
	root      *node
	faults    Faults
	warnings  Faults
	pools     []Pool
	byName    map[string]int // of named pools
	inline    []Pool
	poolOrder []string
}

func newBuilder(path string, environ []string, o Options, at map[string]place, root *node) *builder {
	return &builder{path: path, at: at, root: root, byName: map[string]int{}, secrets: newSecrets(environ, o.NoSecrets)}
}

// place finds where a key was written, or the nearest key around it.
func (b *builder) place(key string) place {
	for k := key; k != ""; {
		if p, ok := b.at[k]; ok {
			return p
		}
		if name, ok := strings.CutSuffix(k, nameItself); ok { // from a variable
			k = name
			continue
		}
		i := strings.LastIndexAny(k, ".[")
		if i < 0 {
			break
		}
		k = k[:i]
	}
	return place{file: b.path}
}

func (b *builder) fault(key, do, format string, args ...any) {
	b.faults = append(b.faults, b.place(key).fault(key, fmt.Sprintf(format, args...), do))
}

// nameFault is fault for a name that is itself at fault, not its value.
func (b *builder) nameFault(key, do, format string, args ...any) {
	b.faults = append(b.faults, b.place(key+nameItself).fault(key, fmt.Sprintf(format, args...), do))
}

func (b *builder) warn(key, do, format string, args ...any) {
	b.warnings = append(b.warnings, b.place(key).fault(key, fmt.Sprintf(format, args...), do))
}

// config builds everything; it is only of use if no fault came up.
func (b *builder) config(f *raw.File) *Config {
	c := &Config{
		File:              b.path,
		Enabled:           orDefault(f.Enabled, true),
		Drain:             b.seconds("drain_seconds", f.DrainSeconds, defaultDrain, 0, 86400),
		Watch:             orDefault(f.Watch, true),
		OnRemoved:         orDefault(f.OnRemoved, "keep"),
		DrainAfter:        b.seconds("drain_after_seconds", f.DrainAfterSeconds, defaultDrainAfter, 0, 86400),
		Attempt:           b.seconds("attempt_seconds", f.AttemptSeconds, defaultAttempt, 0.05, 300),
		RetryTargetErrors: orDefault(f.RetryTargetErrors, false),
		MaxTunnels:        b.whole("max_tunnels", f.MaxTunnels, 0, 1, 10_000_000),
	}
	if f.Stop != nil {
		c.StopGrace = b.seconds("stop.grace_seconds", f.Stop.GraceSeconds, 0, 0, 86400)
	}
	c.Upgrade = Upgrade{Tunnels: "drain", Drain: toDuration(defaultUpgrade)}
	if f.Upgrade != nil {
		c.Upgrade.Tunnels = orDefault(f.Upgrade.Tunnels, "drain")
		c.Upgrade.Drain = b.seconds("upgrade.drain_seconds", f.Upgrade.DrainSeconds, defaultUpgrade, 0, 30*86400)
	}
	c.Tunnel = b.tunnel(f.Tunnel)
	c.Log = Log{"info", "auto"}
	if f.Log != nil {
		c.Log = Log{orDefault(f.Log.Level, "info"), orDefault(f.Log.Format, "auto")}
	}
	c.AllowPrivate = b.prefixes("allow_private", f.AllowPrivate)
	b.poolOrder = b.keysOf("pools")
	for i, name := range b.poolOrder {
		if name == "direct" || name == "reject" {
			b.fault("pools."+name, "give it another name", "a pool may not be called %s, which is a way", name)
		}
		b.byName[name] = i
	}
	b.pools = make([]Pool, len(b.poolOrder))
	for i, name := range b.poolOrder {
		b.pools[i] = b.pool("pools."+name, f.Pools[name])
		b.pools[i].Name = name
	}
	c.Default = b.ways("default", f.Default)
	c.Exchanges = b.exchanges(f.Exchanges)
	c.Routes = b.routes(f.Routes)
	c.Listen = b.listeners(f.Listen)
	c.Admin = b.admin(f.Admin)
	c.Pools = append(b.pools, b.inline...)
	b.namePools(c.Pools)
	b.viaCycles(c.Pools)
	b.ownAddresses(c)
	b.notInEffect(c)
	c.SecretFiles = slices.Sorted(maps.Keys(b.secrets.files))
	return c
}

func (b *builder) tunnel(t *raw.Tunnel) Tunnel {
	if t == nil {
		return Tunnel{}
	}
	out := Tunnel{
		Idle:       b.seconds("tunnel.idle_seconds", t.IdleSeconds, 0, 0, 30*86400),
		HalfClose:  b.seconds("tunnel.half_close_seconds", t.HalfCloseSeconds, 0, 0, 30*86400),
		Stall:      b.seconds("tunnel.stall_seconds", t.StallSeconds, 0, 0, 30*86400),
		StallBytes: int64(b.whole("tunnel.stall_bytes", t.StallBytes, 0, 0, math.MaxInt32)),
	}
	if out.Stall > 0 && out.StallBytes == 0 {
		b.fault("tunnel.stall_seconds", "set tunnel.stall_bytes too", "has no effect without stall_bytes")
	}
	return out
}

// keysOf lists the keys of a top-level mapping in the order of the file.
func (b *builder) keysOf(key string) []string {
	n := b.root.child(key)
	if n == nil || n.kind != mapping {
		return nil
	}
	var list []string
	for _, e := range n.keys {
		if validName(e.key) && e.val.kind != null {
			list = append(list, e.key)
		}
	}
	return list
}

func toDuration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func (b *builder) seconds(key string, v *float64, def, low, high float64) time.Duration {
	if v == nil {
		return toDuration(def)
	}
	if *v != 0 && *v < low || *v > high || *v < 0 || (*v == 0 && low > 0) {
		b.fault(key, "", "%g is out of range: must be from %g to %g seconds", *v, low, high)
	}
	return toDuration(*v)
}

func (b *builder) whole(key string, v *int, def, low, high int) int {
	if v == nil {
		return def
	}
	if *v < low || *v > high {
		b.fault(key, "", "%d is out of range: must be from %d to %d", *v, low, high)
	}
	return *v
}

func (b *builder) prefixes(key string, list []string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range list {
		p, err := target.ParsePattern(s)
		if err != nil || p.Kind != target.CIDR {
			b.fault(fmt.Sprintf("%s[%d]", key, i), "write it as 10.0.0.0/8 or 10.1.2.3", "%s is not a CIDR or an address", quoted(s))
			continue
		}
		out = append(out, p.Prefix)
	}
	return out
}

func (b *builder) exchanges(entries map[string]raw.Exchange) []Exchange {
	var out []Exchange
	seen := map[string]string{}
	for _, name := range b.keysOf("exchanges") {
		e, key := entries[name], "exchanges."+name
		x := Exchange{ID: name, Ways: b.ways(key, &e.Ways), Hosts: b.hosts(key+".hosts", e.Hosts)}
		if e.Limits != nil {
			x.Limits = b.limits(key+".limits", e.Limits)
		}
		if id, ok := catalog.Resolve(name); ok {
			x.ID = id
		} else if x.Custom = true; len(x.Hosts) == 0 {
			b.nameFault(key, "list its hosts, or see: proxyd exchanges"+DidYouMean(name, catalog.IDs()), "%s is not an exchange that the catalogue knows, and it has no hosts", quoted(name))
		}
		if other, twice := seen[x.ID]; twice {
			b.nameFault(key, "keep one of the two", "%s and %s are the same exchange (%s)", name, other, x.ID)
		}
		seen[x.ID] = name
		for _, h := range x.Hosts {
			if owner, _, ok := catalog.Lookup(h.Pattern.Name); ok && h.Pattern.Kind == target.Exact && owner != x.ID {
				b.warn(key+".hosts", "", "%s is %s's in the catalogue; here it is %s's", h.Pattern.Name, owner, x.ID)
			}
		}
		out = append(out, x)
	}
	return out
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

func (b *builder) routes(list []raw.Route) []Route {
	var out []Route
	for i, r := range list {
		key := fmt.Sprintf("routes[%d]", i)
		route := Route{}
		if len(r.Hosts) == 0 {
			b.fault(key, "add hosts: [name, \"*.name\", 10.0.0.0/8 or \"*\"]", "has no hosts")
		}
		for j, s := range r.Hosts {
			p, err := target.ParsePattern(s)
			if err != nil {
				b.fault(fmt.Sprintf("%s.hosts[%d]", key, j), "write a name, *.name, an address, a CIDR, or *", "%s", err)
				continue
			}
			route.Hosts = append(route.Hosts, p)
		}
		if r.Use == nil {
			b.fault(key, "add use: direct, reject, a URL or a pool's name", "has no way")
			continue
		}
		if w := b.way(key+".use", r.Use); w != nil {
			route.Way = *w
		}
		out = append(out, route)
	}
	return out
}

func (b *builder) listeners(list []raw.Listener) []Listener {
	if len(list) == 0 {
		if b.root.child("listen") != nil && b.root.child("listen").kind == list0 {
			b.fault("listen", "name an address, such as 127.0.0.1:8877", "is an empty list")
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
		if n := b.root.child("listen"); n != nil && n.kind != list0 {
			key = "listen"
		}
		l := b.listener(key, r)
		if l.Address != "" && seen[l.Address] && !strings.HasSuffix(l.Address, ":0") {
			b.fault(key, "keep one of the two", "%s is listened on twice", l.Address)
		}
		seen[l.Address] = true
		out = append(out, l)
	}
	return out
}

// list0 names the list shape where a parameter is called list.
const list0 = list

func (b *builder) listener(key string, r raw.Listener) Listener {
	l := Listener{Address: orDefault(r.Text, orDefault(r.Address, ""))}
	if k, err := catalog.ParseKind(orDefault(r.Kind, "")); err == nil {
		l.Kind = k
	}
	if r.Use != nil {
		l.Use = b.way(key+".use", r.Use)
	}
	if r.Auth != nil {
		l.Users = b.users(key+".auth.users", r.Auth.Users)
	}
	l.Allow = b.prefixes(key+".allow", r.Allow)
	if r.TLS != nil {
		l.TLSCert, l.TLSKey = orDefault(r.TLS.CertFile, ""), orDefault(r.TLS.KeyFile, "")
		if l.TLSCert == "" || l.TLSKey == "" {
			b.fault(key+".tls", "", "needs both cert_file and key_file")
		}
	}
	host, port, err := net.SplitHostPort(l.Address)
	if err == nil && port != "0" {
		_, err = target.ParsePort(port)
	}
	ip, ipErr := netip.ParseAddr(host)
	if host == "localhost" {
		ip, ipErr = netip.MustParseAddr("127.0.0.1"), nil
		l.Address = net.JoinHostPort("127.0.0.1", port)
	}
	if host == "" {
		ip, ipErr = netip.IPv6Unspecified(), nil
	}
	if err != nil || ipErr != nil {
		b.fault(key, "write it as 127.0.0.1:8877", "%s is not an address to listen on", quoted(l.Address))
		return l
	}
	if !ip.IsLoopback() && len(l.Users) == 0 && len(l.Allow) == 0 {
		b.fault(key, "listen on 127.0.0.1, or add allow: [CIDR] or auth: {users: [{name, password}]}",
			"%s can be reached from other machines, and would be an open proxy", l.Address)
	}
	return l
}

func (b *builder) users(key string, list []raw.User) []User {
	var out []User
	seen := map[string]bool{}
	for i, u := range list {
		k := fmt.Sprintf("%s[%d]", key, i)
		name := orDefault(u.Name, "")
		if name == "" || strings.ContainsAny(name, ":+") {
			b.fault(k+".name", "use letters, digits and . _ ~ -", "%s is not a user name", quoted(name))
		}
		if seen[name] {
			b.fault(k+".name", "keep one of the two", "%s is listed twice", quoted(name))
		}
		seen[name] = true
		password := b.expand(k+".password", orDefault(u.Password, ""))
		if password == "" && !b.secrets.missingOK {
			b.fault(k+".password", "set one, best as ${NAME} or ${file:/path}", "is empty")
		}
		out = append(out, User{name, NewSecret(password)})
	}
	if len(out) == 0 {
		b.fault(key, "list at least one, or remove auth", "nobody could connect")
	}
	return out
}

func (b *builder) admin(r *raw.Admin) Admin {
	a := Admin{Address: defaultAdmin}
	if r == nil {
		return a
	}
	a.Address = orDefault(r.Text, orDefault(r.Address, defaultAdmin))
	a.Allow, a.Hosts = b.prefixes("admin.allow", r.Allow), r.Hosts
	a.Token, a.Pprof = NewSecret(b.expand("admin.token", orDefault(r.Token, ""))), orDefault(r.Pprof, false)
	if a.Address == "" || strings.HasPrefix(a.Address, "unix:/") {
		return a
	}
	host, port, err := net.SplitHostPort(a.Address)
	if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || (host != "localhost" && net.ParseIP(host) == nil && host != "") {
		b.fault("admin", `write it as 127.0.0.1:8878, unix:/path, or ""`, "%s is not an address", quoted(a.Address))
	}
	return a
}

// ownAddresses refuses upstreams that are proxyd itself.
func (b *builder) ownAddresses(c *Config) {
	for _, p := range c.Pools {
		for i, m := range p.Proxies {
			for _, l := range c.Listen {
				if sameAddress(m.URL, l.Address) {
					b.fault(fmt.Sprintf("%s.proxies[%d]", b.poolKey(p), i), "use the address of the upstream proxy", "%s is proxyd's own listen address", l.Address)
				}
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

func sameAddress(u URL, listen string) bool {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || u.Scheme == SchemeDirect || port != strconv.Itoa(int(u.Port)) {
		return false
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return false
	case u.Host.Name == "localhost":
		return ip.IsLoopback() || ip.IsUnspecified()
	case !u.Host.IsIP():
		return false
	}
	return u.Host.IP == ip.Unmap() || (ip.IsUnspecified() && u.Host.IP.IsLoopback())
}

// notInEffect warns of keys that are set and do nothing yet.
func (b *builder) notInEffect(c *Config) {
	for _, key := range notYet {
		if n := b.root.child(key); n != nil && n.kind != null {
			b.warn(key, "", "is not yet in effect")
		}
	}
	for path := range b.at {
		last := path[strings.LastIndexByte(path, '.')+1:]
		if strings.Contains(path, ".") && slices.Contains(notYetBelow, last) && !strings.HasPrefix(path, "admin") {
			b.warn(path, "", "is not yet in effect")
		}
	}
	for _, p := range c.Pools {
		if p.Strategy == LowestLatency || p.Strategy == Hash {
			b.warn(b.poolKey(p)+".strategy", "", "%s is not yet in effect: round_robin is used", p.Strategy)
		}
	}
}

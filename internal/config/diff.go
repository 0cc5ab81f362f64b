package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Diff returns what changes from prev to next, one line for each difference:
// "+ pool asia", "- proxy tokyo-2 (pool asia)", "~ drain_seconds: 10 → 20",
// "~ proxy tokyo-1 password changed". It is empty when nothing changes. The
// order is that of the configuration, and secrets are masked.
//
// Environment and defaults are included on both sides.
func Diff(prev, next *Config) []string {
	d := &differ{prev: PoolsByName(prev), next: PoolsByName(next), defaults: next.Default, seen: map[string]bool{}}
	d.change("enabled", prev.Enabled, next.Enabled)
	d.outbounds("default", prev.Default, next.Default)
	diffNamed(namedPools(prev), namedPools(next), func(p Pool) string { return p.Name },
		func(mark string, _ int, p Pool) { d.add("%s pool %s", mark, p.Name) },
		func(_ int, a, b Pool) { d.pool("pools."+b.Name, "pool "+b.Name, a, b) })
	diffNamed(prev.Exchanges, next.Exchanges, func(x Exchange) string { return x.ID }, d.exchange, d.exchanges)
	if !diffNamed(prev.Routes, next.Routes, hostsKey, d.route, d.routes) {
		d.add("~ routes: order changed")
	}
	diffNamed(prev.Listen, next.Listen, func(l Listener) string { return l.Address },
		func(mark string, _ int, l Listener) { d.add("%s listen %s", mark, l.Address) },
		func(_ int, a, b Listener) { d.listener(a, b) })
	d.admin(prev.Admin, next.Admin)
	d.change("log.level", prev.Log.Level, next.Log.Level)
	d.change("log.format", prev.Log.Format, next.Log.Format)
	d.list("allow_private", texts(prev.AllowPrivate), texts(next.AllowPrivate))
	d.scalars(prev, next)
	d.list("secret file", prev.SecretFiles, next.SecretFiles)
	return d.lines
}

// differ collects the lines.
type differ struct {
	prev, next map[string]*Pool
	defaults   Outbounds // next's, for what has lost its entry
	lines      []string
	seen       map[string]bool
}

// namedPools returns the pools that have a name. Inline ones are compared where
// they are used.
func namedPools(c *Config) (list []Pool) {
	for _, p := range c.Pools {
		if !p.Inline {
			list = append(list, p)
		}
	}
	return list
}

// add appends a line unless it is there already: an upstream may be used in
// many places.
func (d *differ) add(format string, args ...any) {
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, fmt.Sprintf(format, args...))
	if !d.seen[line] {
		d.seen[line] = true
		d.lines = append(d.lines, line)
	}
}

// change adds a line if a and b differ.
func (d *differ) change(key string, a, b any) { d.changeIn("", key, a, b) }

// changeIn is change with place appended, for keys that do not name it.
func (d *differ) changeIn(place, key string, a, b any) {
	if x, y := valueText(a), valueText(b); x != y {
		d.add("~ %s: %s → %s%s", key, truncate(x), truncate(y), place)
	}
}

// valueText returns a value as it is printed in a line.
func valueText(v any) string {
	var s string
	switch t := v.(type) {
	case time.Duration:
		return plain(t.Seconds())
	case []string:
		s = strings.Join(t, ", ")
	default:
		s = fmt.Sprint(v)
	}
	if s == "" {
		return "not set"
	}
	return s
}

// truncate shortens what is too long for a line.
func truncate(s string) string {
	if len(s) <= 200 {
		return s
	}
	return strings.ToValidUTF8(s[:200], "") + "..."
}

func (d *differ) secret(key string, a, b Secret) {
	if a.Reveal() != b.Reveal() {
		d.add("~ %s changed", key)
	}
}

// list adds the items that were added and removed.
func (d *differ) list(what string, a, b []string) {
	itself := func(s string) string { return s }
	diffNamed(a, b, itself, func(mark string, _ int, s string) { d.add("%s %s %s", mark, what, s) }, func(int, string, string) {})
}

// diffNamed compares two lists by name. It calls alone for each item that is in
// one list only, and both for each that is in both, and reports whether the
// common items are in the same order.
func diffNamed[T any](prev, next []T, name func(T) string, alone func(mark string, at int, v T), both func(at int, a, b T)) (sameOrder bool) {
	was := make(map[string]int, len(prev))
	for i, key := range uniqueKeys(prev, name) {
		was[key] = i
	}
	kept := make([]bool, len(prev))
	sameOrder = true
	last := -1
	for i, key := range uniqueKeys(next, name) {
		at, ok := was[key]
		if !ok {
			alone("+", i, next[i])
			continue
		}
		kept[at] = true
		sameOrder = sameOrder && at > last
		last = at
		both(i, prev[at], next[i])
	}
	for i, v := range prev {
		if !kept[i] {
			alone("-", i, v)
		}
	}
	return sameOrder
}

// uniqueKeys returns the names of a list, each with a number so that equal
// names differ.
func uniqueKeys[T any](list []T, name func(T) string) []string {
	count := make(map[string]int, len(list))
	keys := make([]string, len(list))
	for i, v := range list {
		key := name(v)
		count[key]++
		keys[i] = key + "\x00" + strconv.Itoa(count[key])
	}
	return keys
}

func (d *differ) scalars(a, b *Config) {
	d.change("catalog", a.CatalogFile, b.CatalogFile)
	if a.CatalogFile == b.CatalogFile && !a.Known().Equal(b.Known()) {
		d.add("~ catalog: the rows of %s changed", b.CatalogFile)
	}
	d.change("fleet.redis", a.Fleet.Address, b.Fleet.Address)
	if a.Fleet.Address == b.Fleet.Address {
		d.secret("fleet.redis credentials", a.Fleet.Redis, b.Fleet.Redis)
	}
	d.change("fleet.name", a.Fleet.Name, b.Fleet.Name)
	d.change("fleet.hosts", countText(a.Fleet.Hosts), countText(b.Fleet.Hosts))
	d.change("probe.user_agent", a.UserAgent, b.UserAgent)
	d.change("state_dir", a.StateDir, b.StateDir)
	d.change("attempt_seconds", a.Attempt, b.Attempt)
	d.change("retry_target_errors", a.RetryTargetErrors, b.RetryTargetErrors)
	d.change("max_tunnels", countText(a.MaxTunnels), countText(b.MaxTunnels))
	d.change("max_dials", a.MaxDials, b.MaxDials)
	d.change("max_dials_per_host", a.MaxDialsPerHost, b.MaxDialsPerHost)
	d.change("tunnel.idle_seconds", a.Tunnel.Idle, b.Tunnel.Idle)
	d.change("tunnel.half_close_seconds", a.Tunnel.HalfClose, b.Tunnel.HalfClose)
	d.change("tunnel.stall_seconds", a.Tunnel.Stall, b.Tunnel.Stall)
	d.change("tunnel.stall_bytes", a.Tunnel.StallBytes, b.Tunnel.StallBytes)
	d.change("tunnel.buffer_bytes", a.Tunnel.Buffer, b.Tunnel.Buffer)
	d.change("silence", a.Silence, b.Silence)
	d.change("drain_seconds", a.Drain, b.Drain)
	d.change("stop.grace_seconds", a.StopGrace, b.StopGrace)
	d.change("watch", a.Watch, b.Watch)
	d.change("on_removed", a.OnRemoved, b.OnRemoved)
	d.change("drain_after_seconds", a.DrainAfter, b.DrainAfter)
	d.change("upgrade.tunnels", a.Upgrade.Tunnels, b.Upgrade.Tunnels)
	d.change("upgrade.drain_seconds", a.Upgrade.Drain, b.Upgrade.Drain)
}

// countText returns a number as text, "" for 0, which means not set.
func countText(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func (d *differ) listener(a, b Listener) {
	key := "listen " + b.Address + ": "
	d.change(key+"written", !a.Default, !b.Default)
	d.change(key+"transparent", a.Transparent, b.Transparent)
	d.outbound(key+"use", a.Use, b.Use)
	d.change(key+"unlisted", unlistedUse(a), unlistedUse(b))
	d.change(key+"kind", a.Kind, b.Kind)
	if !slices.Equal(a.Users, b.Users) {
		d.add("~ %sauth changed", key)
	}
	d.change(key+"allow", texts(a.Allow), texts(b.Allow))
	d.change(key+"tls.cert_file", a.TLSCert, b.TLSCert)
	d.change(key+"tls.key_file", a.TLSKey, b.TLSKey)
}

func unlistedUse(l Listener) string {
	if l.UnlistedReject {
		return "reject"
	}
	return "use"
}

func (d *differ) admin(a, b Admin) {
	if a.Address != b.Address {
		d.change("admin.address", addressText(a.Address), addressText(b.Address))
	} else {
		d.change("admin.address written", !a.Default, !b.Default)
	}
	d.change("admin.allow", texts(a.Allow), texts(b.Allow))
	d.change("admin.hosts", a.Hosts, b.Hosts)
	d.secret("admin.token", a.Token, b.Token)
	d.change("admin.local", a.Local, b.Local)
	d.change("admin.pprof", a.Pprof, b.Pprof)
}

func addressText(address string) string {
	if address == "" {
		return "off"
	}
	return address
}

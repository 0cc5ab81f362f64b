package config

import (
	"fmt"
	"maps"
	"math"
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

// builder turns the raw file into a Config and collects what is wrong.
type builder struct {
	path           string
	secrets        secrets
	at             map[string]position
	root           *node
	shaped         Errors // those of the shape: what is missing there is not missed again
	errs           Errors
	warnings       Errors
	pools          []Pool
	byName         map[string]int // of named pools
	inline         []Pool
	poolOrder      []string
	known          *catalog.Catalog
	members        map[string]string // by an inline pool's name: the key that has its proxies
	numbers        map[string][]int  // by that key: where its members stand, past those at fault
	literal        []string          // keys of passwords that are written out in the file
	duplicates     []duplicate
	withoutTimeout []string // keys of outbounds that have no timeout_seconds
}

func newBuilder(path string, environ []string, o Options, s *shaper, root *node) *builder {
	return &builder{path: path, at: s.at, root: root, shaped: s.errs, byName: map[string]int{}, members: map[string]string{}, numbers: map[string][]int{}, known: catalog.Embedded(), secrets: newSecrets(environ, o.NoSecrets)}
}

// position finds where a key was written, or the nearest key around it.
func (b *builder) position(key string) position {
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
	return position{file: b.path}
}

// fault reports what is wrong with a value, unless it has no value because its
// shape is wrong, which has been said.
func (b *builder) errorf(key, hint, format string, args ...any) {
	if slices.ContainsFunc(b.shaped, func(f Error) bool { return f.Key == key }) {
		return
	}
	b.errs = append(b.errs, b.position(key).error(key, fmt.Sprintf(format, args...), hint))
}

// missingf is fault for something that ought to be there, unless it is, in a
// wrong shape.
func (b *builder) missingf(key, hint, format string, args ...any) {
	for _, f := range b.shaped {
		if below, ok := strings.CutPrefix(f.Key, key); ok && (below == "" || below[0] == '.' || below[0] == '[') {
			return
		}
	}
	b.errorf(key, hint, format, args...)
}

// nameErrorf is fault for a name that is itself at fault, not its value.
func (b *builder) nameErrorf(key, hint, format string, args ...any) {
	b.errs = append(b.errs, b.position(key+nameItself).error(key, fmt.Sprintf(format, args...), hint))
}

func (b *builder) warnf(key, hint, format string, args ...any) {
	b.warnings = append(b.warnings, b.position(key).error(key, fmt.Sprintf(format, args...), hint))
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
		MaxDials:          b.whole("max_dials", f.MaxDials, 256, 1, 100_000),
		MaxDialsPerHost:   b.whole("max_dials_per_host", f.MaxDialsPerHost, 64, 1, 100_000),
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
	c.CatalogFile, c.Catalog = b.catalog(f.Catalog)
	c.UserAgent = b.userAgent(f.Probe)
	c.AllowPrivate = b.prefixes("allow_private", f.AllowPrivate)
	b.poolOrder = b.keysOf("pools")
	for i, name := range b.poolOrder {
		if name == "direct" || name == "reject" {
			b.errorf("pools."+name, "give it another name", "a pool may not be called %s, which is a way", name)
		}
		b.byName[name] = i
	}
	b.pools = make([]Pool, len(b.poolOrder))
	for i, name := range b.poolOrder {
		b.pools[i] = b.pool("pools."+name, f.Pools[name])
		b.pools[i].Name = name
	}
	c.Default = b.outbounds("default", f.Default)
	c.Exchanges = b.exchanges(f.Exchanges)
	c.Routes = b.routes(f.Routes)
	c.Listen = b.listeners(f.Listen)
	c.Admin = b.admin(f.Admin)
	c.Pools = append(b.pools, b.inline...)
	dropDirectHops(c.Pools)
	b.namePools(c.Pools)
	b.mergeDuplicates(c)
	b.refuseViaCycles(c.Pools)
	b.refuseOwnAddresses(c)
	b.adminAmongListeners(adminKey(f.Admin), c)
	b.adminBehindListeners(c)
	b.warnAddressRejects(c)
	b.warnPastedTimeout(c)
	b.checkFileMode()
	c.SecretFiles = slices.Sorted(maps.Keys(b.secrets.files))
	return c
}

// minBuffer is the least that tunnel.buffer_bytes may be: a message of a feed
// must fit in.
const minBuffer = 64 << 10

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
	if n := b.whole("tunnel.buffer_bytes", t.BufferBytes, 0, 0, 1<<30); n != 0 && n < minBuffer {
		b.errorf("tunnel.buffer_bytes", "write 0 for the kernel's own limits, or 65536 and more", "%d is too little", n)
	} else {
		out.Buffer = n
	}
	if out.Stall > 0 && out.StallBytes == 0 {
		b.errorf("tunnel.stall_seconds", "set tunnel.stall_bytes too", "has no effect without stall_bytes")
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
		b.errorf(key, "", "%s is out of range: must be from %s to %s seconds", plain(*v), plain(low), plain(high))
	}
	return toDuration(*v)
}

// plain writes a number without an exponent.
func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func (b *builder) number(key string, v *float64, def, low, high float64) float64 {
	if v == nil {
		return def
	}
	if *v < low || *v > high {
		b.errorf(key, "", "%s is out of range: must be from %s to %s", plain(*v), plain(low), plain(high))
	}
	return *v
}

func (b *builder) whole(key string, v *int, def, low, high int) int {
	if v == nil {
		return def
	}
	if *v < low || *v > high {
		b.errorf(key, "", "%d is out of range: must be from %d to %d", *v, low, high)
	}
	return *v
}

func (b *builder) prefixes(key string, list []string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range list {
		p, err := target.ParsePattern(s)
		if err != nil || p.Kind != target.CIDR {
			b.errorf(fmt.Sprintf("%s[%d]", key, i), "write it as 10.0.0.0/8 or 10.1.2.3", "%s is not a CIDR or an address", quoted(s))
			continue
		}
		out = append(out, p.Prefix)
	}
	return out
}

func (b *builder) health(key string, r *raw.Health) Health {
	if r == nil {
		return Health{}
	}
	h := Health{
		Method: orDefault(r.Method, "connect"), Interval: b.seconds(key+".interval_seconds", r.IntervalSeconds, 30, 1, 86400),
		Timeout: b.seconds(key+".timeout_seconds", r.TimeoutSeconds, 5, 0.1, 300),
		Rise:    b.whole(key+".rise", r.Rise, 2, 1, 100), Fall: b.whole(key+".fall", r.Fall, 3, 1, 100),
	}
	if !orDefault(r.Enabled, true) { // what stands beside it has been checked all the same
		return Health{}
	}
	return h
}

func defaultEject() Eject {
	return Eject{After: 3, Base: 5 * time.Second, Max: 300 * time.Second, MaxPercent: 100}
}

func (b *builder) eject(key string, r *raw.Eject) Eject {
	if r == nil {
		return defaultEject()
	}
	e := Eject{
		After: b.whole(key+".after", r.After, 3, 1, 1000), Base: b.seconds(key+".base_seconds", r.BaseSeconds, 5, 0.1, 86400),
		Max: b.seconds(key+".max_seconds", r.MaxSeconds, 300, 0.1, 86400), MaxPercent: b.whole(key+".max_percent", r.MaxPercent, 100, 0, 100),
	}
	if e.Base > e.Max {
		b.missingf(key, "raise max_seconds, or lower base_seconds", "base_seconds (%s) is more than max_seconds (%s)", plain(e.Base.Seconds()), plain(e.Max.Seconds()))
	}
	return e
}

package config

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config/internal/raw"
)

// Defaults that are used more than once, or need a name.
const (
	defaultAdmin      = "127.0.0.1:8878"
	defaultTimeout    = 4.0
	defaultAttempt    = 1.5
	defaultDrain      = 10.0
	defaultDrainAfter = 60.0
	defaultUpgrade    = 86400.0
)

var defaultListen = []string{"127.0.0.1:8877", "[::1]:8877"}

// builder turns the raw file into a Config. What is wrong goes into its report.
type builder struct {
	*references
	root           *node
	sum            [sha256.Size]byte // of the file's text
	known          *catalog.Catalog
	pools          []Pool         // the named ones
	byName         map[string]int // into pools
	poolOrder      []string       // their names
	inline         []Pool
	members        map[string]string            // by an inline pool's name: the key that has its proxies
	numbers        map[string][]int             // by that key: where its members stand, past those that are wrong
	lists          map[string][sha256.Size]byte // of the text of each list of a pool, by its path
	rows           [sha256.Size]byte            // of the text of the file under catalog
	duplicates     []duplicate
	withoutTimeout []string // keys of outbounds that have no timeout_seconds
	system         string   // where it is to run, as GOOS has it
	stateDir       string
	listText       func(*ListSource) *ListText // Options.Lists
	sources        map[*ListSource]string      // by source: the key of the list
	listHops       map[*ListSource]*Outbound   // by source: the hop before its members
}

func newBuilder(path string, environ []string, o Options, s *shaper, root *node) *builder {
	refs := newReferences(&report{path: path, at: s.at, shaped: s.errs}, environ, o.NoSecrets)
	refs.folder = folderOf(path)
	return &builder{
		references: refs, root: root, system: cmp.Or(o.System, runtime.GOOS), sum: s.sum, known: catalog.Embedded(),
		listText: o.Lists, sources: map[*ListSource]string{}, listHops: map[*ListSource]*Outbound{}, byName: map[string]int{}, members: map[string]string{}, numbers: map[string][]int{}, lists: map[string][sha256.Size]byte{},
	}
}

// config builds the configuration. It is usable only if there was no error.
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
	c.Fleet = b.fleet(f.Fleet)
	c.AllowPrivate = b.prefixes("allow_private", f.AllowPrivate)
	b.stateDir = b.stateDirectory(f.StateDir)
	c.StateDir = b.stateDir
	b.namedPools(f.Pools)
	c.Default = b.outbounds("default", f.Default)
	c.Silence = b.silence("silence", f.Silence)
	c.Exchanges = b.exchanges(f.Exchanges)
	b.warnMistypedIDs(c)
	b.refuseStallAndSilence(c, b.exchangeKey)
	c.Routes = b.routes(f.Routes)
	c.Listen = b.listeners(f.Listen)
	c.Admin = b.admin(f.Admin)
	c.Pools = append(b.pools, b.inline...)
	b.routeFetches(c)
	dropDirectHops(c.Pools)
	b.namePools(c.Pools, b.memberKey)
	b.mergeDuplicates(c)
	b.checkShared(c)
	b.refuseViaCycles(c.Pools, b.poolKey)
	b.refuseListCycles(c)
	b.refuseOwnAddresses(c)
	b.adminAmongListeners(adminKey(f.Admin), c)
	b.adminBehindListeners(c)
	b.warnAddressRejects(c)
	b.warnPastedTimeout(c, b.withoutTimeout)
	b.checkFileMode()
	c.Sum = b.content()
	c.SecretFiles, c.ListFiles = slices.Sorted(maps.Keys(b.files)), slices.Sorted(maps.Keys(b.lists))
	return c
}

// content returns the sum of what the configuration is made of: the file, its lists and
// its rows for the catalogue.
func (b *builder) content() [sha256.Size]byte {
	all := slices.Concat(b.sum[:], b.rows[:])
	for _, path := range slices.Sorted(maps.Keys(b.lists)) {
		sum := b.lists[path]
		all = append(all, sum[:]...)
	}
	return sha256.Sum256(all)
}

// namedPools reads the pools, all names first, since one pool may be reached
// through another.
func (b *builder) namedPools(pools map[string]raw.Pool) {
	b.poolOrder = b.keysOf("pools")
	for i, name := range b.poolOrder {
		if name == "direct" || name == "reject" {
			b.errorf("pools."+name, "give it another name", "a pool may not be called %s, which is an outbound", name)
		}
		b.byName[name] = i
	}
	b.pools = make([]Pool, len(b.poolOrder))
	for i, name := range b.poolOrder {
		b.pools[i] = b.pool("pools."+name, pools[name])
		b.pools[i].Name = name
	}
}

// minBuffer is the smallest tunnel.buffer_bytes: a message of a feed must fit.
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

// keysOf returns the keys of a top-level mapping in file order.
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

// exchangeKey returns the key of an exchange's first entry, as it is written.
func (b *builder) exchangeKey(id string) string {
	for _, name := range b.keysOf("exchanges") {
		if known, ok := b.known.Resolve(name); name == id || ok && known == id {
			return "exchanges." + name
		}
	}
	return "exchanges." + id
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
	if !orDefault(r.Enabled, true) { // the other keys have been checked nevertheless
		return Health{}
	}
	return h
}

// DefaultEject returns how pools eject their members where the file does not say.
func DefaultEject() Eject {
	return Eject{After: 3, Base: 5 * time.Second, Max: 300 * time.Second, MaxPercent: 100}
}

func (b *builder) eject(key string, r *raw.Eject) Eject {
	e := DefaultEject()
	if r == nil {
		return e
	}
	e = Eject{
		After: b.whole(key+".after", r.After, e.After, 1, 1000), Base: b.seconds(key+".base_seconds", r.BaseSeconds, e.Base.Seconds(), 0.1, 86400),
		Max: b.seconds(key+".max_seconds", r.MaxSeconds, e.Max.Seconds(), 0.1, 86400), MaxPercent: b.whole(key+".max_percent", r.MaxPercent, e.MaxPercent, 0, 100),
	}
	if e.Base > e.Max {
		b.missingf(key, "raise max_seconds, or lower base_seconds", "base_seconds (%s) is more than max_seconds (%s)", plain(e.Base.Seconds()), plain(e.Max.Seconds()))
	}
	return e
}

// DefaultUserAgent is the User-Agent of checks unless probe.user_agent is set. It
// is that of most feed clients, since the firewalls of some exchanges refuse
// agents that they do not know.
const DefaultUserAgent = "Python/3.12 aiohttp/3.12.15"

// maxCatalogSize bounds the user's rows for the catalogue.
const maxCatalogSize = 4 << 20

// catalog reads the user's rows for the catalogue of exchanges. If they are
// invalid, the embedded catalogue stays in force for the checks that follow.
func (b *builder) catalog(file *string) (string, *catalog.Catalog) {
	if file == nil || *file == "" {
		return "", b.known
	}
	text, err := b.inputs.read(*file, maxCatalogSize)
	if err != nil {
		b.unreadable("catalog", *file, err)
		return *file, b.known
	}
	b.rows = sha256.Sum256(text)
	c, err := catalog.Overlay(text)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			b.errorf("catalog", "write rows as exchange,host,kind,env,sources, and sessions if you like: see proxyd exchanges", "%s: %s", b.shown(*file), strings.TrimSpace(line))
		}
		return *file, b.known
	}
	b.known = c
	if moved := movedHosts(c); len(moved) > 0 {
		b.warnf("catalog", "remove the rows unless they have really moved: their connections follow the other entry", "gives hosts to other exchanges than proxyd's own catalogue: %s", truncate(strings.Join(moved, ", ")))
	}
	return *file, c
}

// userAgent returns the User-Agent that checks of exchanges send.
func (b *builder) userAgent(p *raw.Asking) string {
	if p == nil || p.UserAgent == nil {
		return DefaultUserAgent
	}
	text := *p.UserAgent
	if text == "" || len(text) > 256 || strings.Contains(text, "://") || strings.Contains(text, "@") || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(text) != text {
		b.errorf("probe.user_agent", "write the text of a User-Agent header, such as curl/8.5.0", "is empty, longer than 256 characters, a URL, or not of printable ASCII characters")
		return DefaultUserAgent
	}
	return text
}

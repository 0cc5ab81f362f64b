package upstream

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/dialer"
	"proxyd/internal/failure"
	"proxyd/internal/limit"
	"proxyd/internal/proxyclient"
	"proxyd/internal/target"
)

// shared lives as long as the process, across configurations.
type shared struct {
	token    string
	resolver *dialer.Resolver
	idle     *idleConns
	reached  *dialer.History
	outgoing dialer.Outgoing // used while there is a transparent listener
	pairs    *pairs
	now      func() time.Time // the clock of health and verdicts; tests set it
	start    time.Time
	ejecting sync.Mutex
	epoch    atomic.Uint64 // increases when a member's availability may have changed
	limits   *limit.Table
	// called for a budget that is only watched, and nearly used up
	nearlyUsed atomic.Pointer[func(limit.Row)]
	found      atomic.Pointer[func(*Upstream, PairVerdict)] // called for what an exchange says against an exit
}

func newShared() *shared {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	s := &shared{
		token: hex.EncodeToString(b[:]), resolver: dialer.NewResolver(nil), idle: newIdleConns(), reached: dialer.NewHistory(), pairs: newPairs(),
		now: time.Now, start: time.Now(),
	}
	s.limits = limit.NewTable(func(r limit.Row) {
		if do := s.nearlyUsed.Load(); do != nil {
			(*do)(r)
		}
	})
	return s
}

// elapsed returns a time on the clock of pairs, in ns.
func (s *shared) elapsed(at time.Time) int64 { return int64(at.Sub(s.start)) }

// Set is every upstream and pool of one configuration. It never changes.
type Set struct {
	shared      *shared
	guard       *dialer.Guard
	attempt     time.Duration
	retryTarget bool
	limits      *limitSet
	pools       map[string]*Pool
	direct      *Pool
	upstreams   map[config.Identity]*Upstream
	names       map[string]*Upstream
	list        []*Upstream // by name
	loops       *loopGuard  // nil without a transparent listener
}

// NewSet builds the set of c. Upstreams that are also in prev (nil at start) keep
// their state. own reports whether proxyd listens at an address, which no connection
// may reach; for an unspecified one, whether it listens anywhere on that port.
// NewSet has no effect: the set is in force when the caller publishes it, and then
// calls Activate.
func NewSet(c *config.Config, prev *Set, own func(netip.AddrPort) bool) (*Set, error) {
	s := &Set{
		guard: dialer.NewGuard(allowedPrefixes(c), own), attempt: c.Attempt, retryTarget: c.RetryTargetErrors,
		limits: newLimitSet(c), pools: map[string]*Pool{}, upstreams: map[config.Identity]*Upstream{}, names: map[string]*Upstream{},
	}
	if prev != nil {
		s.shared = prev.shared
	} else {
		s.shared = newShared()
		s.shared.limits.Configure(s.limits.of) // no other set has limits yet
	}
	plain := config.Proxy{Name: "direct", Exit: "direct", URL: config.URL{Scheme: config.SchemeDirect}, Weight: 1, Tier: 1, Enabled: true}
	direct := config.Pool{Name: "direct", Strategy: config.Failover, Proxies: []config.Proxy{plain}, Eject: config.DefaultEject()}
	s.direct = s.newPool(direct)
	for _, p := range c.Pools { // all of them first: via may name a later one
		s.pools[p.Name] = s.newPool(p)
	}
	if err := s.fill(s.direct, direct); err != nil {
		return nil, err
	}
	for _, p := range c.Pools {
		if err := s.fill(s.pools[p.Name], p); err != nil {
			return nil, err
		}
	}
	if prev != nil {
		s.inheritFrom(prev)
	}
	for _, u := range s.upstreams {
		u.detached = &Upstream{name: u.name, id: u.id, url: u.url, epoch: u.epoch, shared: u.shared, rules: u.rules, state: u.state}
	}
	s.list = slices.SortedFunc(maps.Values(s.upstreams), func(a, b *Upstream) int { return strings.Compare(a.name, b.name) })
	s.loops = s.newLoopGuard(c)
	s.direct.fillSlots()
	for _, p := range s.pools {
		p.fillSlots()
	}
	return s, nil
}

func (s *Set) newPool(p config.Pool) *Pool {
	return &Pool{set: s, name: p.Name, inline: p.Inline, strategy: p.Strategy, overHost: p.HashOver == "host", maxPercent: p.Eject.MaxPercent}
}

// fill adds the members of c to p.
func (s *Set) fill(p *Pool, c config.Pool) error {
	for _, m := range c.Proxies {
		if err := s.add(p, m, rulesOf(c)); err != nil {
			return err
		}
	}
	return nil
}

// add makes m a member of p. Each Set has its own upstream objects for what
// hangs on the configuration; the state behind them is carried over.
func (s *Set) add(p *Pool, m config.Proxy, r rules) error {
	id := config.IdentityOf(m)
	u := s.upstreams[id]
	if u == nil {
		client, err := proxyclient.New(m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		u = &Upstream{name: m.Name, url: m.URL, client: client, id: id, epoch: &connEpoch{}, shared: s.shared, rules: r, state: newState()}
		client.Certificate = &u.state.certificate
		if m.Via != nil {
			u.via = s.pools[m.Via.Pool]
		}
		s.upstreams[id] = u
	}
	s.names[m.Name] = u
	p.direct = p.direct || m.Enabled && u.IsDirect()
	if m.Enabled && !slices.Contains(u.pools, p) {
		u.pools = append(u.pools, p)
	}
	p.members = append(p.members, Member{u, cmp.Or(m.Weight, 1), max(1, m.Tier), m.Enabled, m.Exit})
	if u.exit == "" {
		u.exit = m.Exit
	}
	return nil
}

// Direct returns the pool of the outbound direct.
func (s *Set) Direct() *Pool { return s.direct }

// Pool returns the pool that config.Outbound.Pool names, nil if there is none.
func (s *Set) Pool(name string) *Pool { return s.pools[name] }

// Upstream returns the upstream of that name, nil if there is none.
func (s *Set) Upstream(name string) *Upstream { return s.names[name] }

// Upstreams returns every upstream of the set once, sorted by name. The caller must
// not modify the list.
func (s *Set) Upstreams() []*Upstream { return s.list }

// hostOf returns a hop's address as a target of the hop before it.
func hostOf(u config.URL) Target {
	h := u.Host
	if h == (target.Host{}) {
		return Target{}
	}
	return Target{Host: h.Name, IP: h.IP, Port: u.Port, Trusted: true, Hop: true}
}

// allowedPrefixes returns the private addresses that direct connections may
// reach: allow_private, and the CIDRs of routes that say direct.
func allowedPrefixes(c *config.Config) []netip.Prefix {
	list := slices.Clone(c.AllowPrivate)
	for _, r := range c.Routes {
		if r.Outbound.Action != config.Direct {
			continue
		}
		for _, p := range r.Hosts {
			if p.Kind == target.CIDR {
				list = append(list, p.Prefix)
			}
		}
	}
	return list
}

// refuses returns why no outbound may reach t, nil if one may. A hop is what the
// configuration names, and may be a proxyd of another machine at the same
// address.
func (s *Set) refuses(t *Target) *failure.Error {
	if t.Hop {
		return nil
	}
	if t.NoLink && t.IP.IsValid() {
		if e := dialer.CheckLinkLocal(t.IP); e != nil {
			return e
		}
	}
	return s.guard.CheckTarget(t.host(), t.Port)
}

// refusesLocal returns why a proxy on this machine may not be asked for t, nil if
// it may.
func (s *Set) refusesLocal(t *Target) *failure.Error {
	if t.Trusted || t.Named || t.Hop {
		return nil
	}
	return s.guard.CheckLocalProxy(t.host())
}

package upstream

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/target"
)

// shared is what lives as long as the process, whatever the configuration.
type shared struct {
	token    string
	resolver *resolver
	kept     *kept
}

// Set is every upstream and pool of one configuration. It never changes.
type Set struct {
	shared      *shared
	guard       *guard
	attempt     time.Duration
	retryTarget bool
	pools       map[string]*Pool
	direct      *Pool
	upstreams   map[config.Identity]*Upstream
	names       map[string]*Upstream
}

// NewSet builds the set of c. What did not change since prev (nil at start)
// keeps what is remembered of it. own tells proxyd's real listen addresses,
// which direct connections must not reach. It has no effect: the set is in force
// when the caller publishes it, and then calls CloseIdle.
func NewSet(c *config.Config, prev *Set, own func(netip.AddrPort) bool) (*Set, error) {
	s := &Set{
		guard: newGuard(c, own), attempt: c.Attempt, retryTarget: c.RetryTargetErrors,
		pools: map[string]*Pool{}, upstreams: map[config.Identity]*Upstream{}, names: map[string]*Upstream{},
	}
	if prev != nil {
		s.shared = prev.shared
	} else {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		s.shared = &shared{hex.EncodeToString(b[:]), newResolver(nil), newKept()}
	}
	s.direct = &Pool{set: s, name: "direct", strategy: config.Failover}
	if err := s.add(s.direct, config.Proxy{Name: "direct", URL: config.URL{Scheme: config.SchemeDirect}, Weight: 1, Tier: 1, Enabled: true}); err != nil {
		return nil, err
	}
	for _, p := range c.Pools { // all of them first: via may name a later one
		s.pools[p.Name] = &Pool{set: s, name: p.Name, strategy: p.Strategy}
	}
	for _, p := range c.Pools {
		for _, m := range p.Proxies {
			if err := s.add(s.pools[p.Name], m); err != nil {
				return nil, err
			}
		}
		s.pools[p.Name].weights = make([]int, len(p.Proxies))
	}
	s.direct.weights = make([]int, 1)
	if prev != nil {
		s.carry(prev)
	}
	return s, nil
}

// add makes m a member of p. Each Set has its own upstream objects for what
// hangs on the configuration; the state behind them is carried over.
func (s *Set) add(p *Pool, m config.Proxy) error {
	id := config.IdentityOf(m)
	u := s.upstreams[id]
	if u == nil {
		tlsConfig, err := newTLSConfig(m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		u = &Upstream{name: m.Name, url: m.URL, cred: newCredentials(m.URL), id: id, lead: &lead{}, state: newState()}
		if m.URL.Scheme == config.SchemeHTTPS {
			u.tls = tlsConfig
		}
		if m.Via != nil {
			u.via = s.pools[m.Via.Pool]
		}
		s.upstreams[id] = u
	}
	s.names[m.Name] = u
	p.members = append(p.members, Member{u, max(1, m.Weight), max(1, m.Tier), m.Enabled})
	return nil
}

// Direct is the pool of the plain direct way.
func (s *Set) Direct() *Pool { return s.direct }

// Pool gives the pool that config.Way.Pool names, nil if there is none.
func (s *Set) Pool(name string) *Pool { return s.pools[name] }

// Upstream gives the upstream of that name, nil if there is none.
func (s *Set) Upstream(name string) *Upstream { return s.names[name] }

// Upstreams lists every upstream of the set, once each, by name.
func (s *Set) Upstreams() []*Upstream {
	list := slices.Collect(maps.Values(s.upstreams))
	slices.SortFunc(list, func(a, b *Upstream) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return list
}

// hostOf is a hop's address as a target of the hop before it.
func hostOf(u config.URL) Target {
	h := u.Host
	if h == (target.Host{}) {
		return Target{}
	}
	return Target{Host: h.Name, IP: h.IP, Port: u.Port, Trusted: true}
}

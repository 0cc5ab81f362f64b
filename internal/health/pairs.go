package health

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/target"
	"proxyd/internal/upstream"
)

// Pair is a member and what it is used for: one kind of one exchange.
type Pair struct {
	Member    *upstream.Upstream
	Pool      *upstream.Pool
	Exchange  string       // "" where only the member itself is asked
	Kind      catalog.Kind // http or websocket
	URL       string       // what the exchange is asked; "" where no address is known: then a connection is all that can be tried
	Target    upstream.Target
	UserAgent string        // what is sent to the exchange
	Health    config.Health // the pool's; the zero value without a health_check
}

// Kinds are those that pairs have.
var Kinds = [2]catalog.Kind{catalog.KindHTTP, catalog.KindWebsocket}

// Pairs returns the pairs that routes use for these exchanges, in their order.
// Members that are not enabled, and routes that reject, have none.
func Pairs(r *router.Router, exchanges []string) (pairs []Pair) {
	for _, id := range exchanges {
		for _, k := range Kinds {
			if pool, p, ok := resolvePair(r, id, k); ok {
				pairs = append(pairs, ofPool(r, pool, p)...)
			}
		}
	}
	return pairs
}

// Grid returns every upstream with each of these exchanges, whether a route uses
// the pair or not; the plain direct connection is among them where a route uses it.
func Grid(r *router.Router, exchanges []string) (pairs []Pair) {
	for _, id := range exchanges {
		for _, k := range Kinds {
			pool, p, ok := resolvePair(r, id, k)
			if p.Target.Port == 0 {
				continue
			}
			var list []Pair
			if ok {
				list = ofPool(r, pool, p)
			}
			for _, c := range r.Config().Pools {
				list = append(list, ofPool(r, r.Set().Pool(c.Name), p)...)
			}
			seen := map[*upstream.Upstream]bool{}
			for _, one := range list {
				if !seen[one.Member] {
					seen[one.Member] = true
					pairs = append(pairs, one)
				}
			}
		}
	}
	return pairs
}

// Through returns each member of a pool with each of these exchanges, whatever
// the routes say.
func Through(r *router.Router, pool *upstream.Pool, exchanges []string) (pairs []Pair) {
	for _, id := range exchanges {
		for _, k := range Kinds {
			if _, p, _ := resolvePair(r, id, k); p.Target.Port != 0 {
				pairs = append(pairs, ofPool(r, pool, p)...)
			}
		}
	}
	return pairs
}

// Configured returns the exchanges that the configuration has an entry for.
func Configured(c *config.Config) (ids []string) {
	for _, x := range c.Exchanges {
		ids = append(ids, x.ID)
	}
	return ids
}

func ofPool(r *router.Router, pool *upstream.Pool, p Pair) (pairs []Pair) {
	p.Pool = pool
	for _, c := range r.Config().Pools {
		if c.Name == pool.Name() {
			p.Health = c.Health
		}
	}
	for _, m := range pool.Members() {
		if m.Enabled {
			p.Member = m.Upstream
			pairs = append(pairs, p)
		}
	}
	return pairs
}

// resolvePair finds the pool that serves a kind of an exchange, and what can be asked
// there. ok is false where nothing is known to ask, or the route rejects.
func resolvePair(r *router.Router, id string, k catalog.Kind) (pool *upstream.Pool, p Pair, ok bool) {
	p = Pair{Exchange: id, Kind: k, UserAgent: r.Config().UserAgent}
	host, port := "", uint16(0)
	if p.URL = address(r.Config(), id, k); p.URL != "" {
		host, port = hostPort(p.URL)
	} else {
		host, port = anyHost(r.Config(), id, k), 443
	}
	if host == "" || port == 0 {
		return nil, p, false
	}
	route, err := r.Route(host, port, router.Hint{Kind: k})
	p.Target = route.Target
	if denied, is := errors.AsType[*router.Denied](err); is {
		p.Target = denied.Target
	} else if err != nil {
		return nil, p, false
	}
	own := p.Target.Exchange == id
	p.Target.Exchange, p.Target.Kind = id, k
	if own {
		return route.Pool, p, err == nil
	}
	pool = configuredPool(r, id, k) // the user's address is no host of the exchange's
	return pool, p, pool != nil
}

// configuredPool returns the pool that the configuration names for a kind of an exchange,
// nil where it is refused.
func configuredPool(r *router.Router, id string, k catalog.Kind) *upstream.Pool {
	c := r.Config()
	w := c.Default.Of(k)
	for _, x := range c.Exchanges {
		if x.ID == id && x.Outbounds.Of(k) != nil {
			w = x.Outbounds.Of(k)
		}
	}
	switch {
	case w == nil || w.Action == config.Direct, w.Action == config.Use && !c.Enabled:
		return r.Set().Direct()
	case w.Action == config.Use:
		return r.Set().Pool(w.Pool)
	}
	return nil
}

// address returns what to ask an exchange: the user's choice, else the catalogue's.
func address(c *config.Config, id string, k catalog.Kind) string {
	for _, x := range c.Exchanges {
		if x.ID == id && x.Probe.Of(k) != "" {
			return string(x.Probe.Of(k))
		}
	}
	if urls := c.Known().ProbeURLs(id, k); len(urls) > 0 {
		return urls[0]
	}
	return ""
}

// anyHost returns a host of an exchange without an address to ask: one that can at
// least be reached.
func anyHost(c *config.Config, id string, k catalog.Kind) string {
	serves := func(have catalog.Kind) bool { return have == k || have == catalog.KindBoth }
	for _, x := range c.Exchanges {
		for _, h := range x.Hosts {
			if x.ID == id && serves(h.Kind) && h.Pattern.Kind == target.Exact {
				return h.Pattern.Name
			}
		}
	}
	x, _ := c.Known().Get(id)
	for _, h := range x.Hosts {
		if serves(h.Kind) && h.Env == "live" && !strings.HasPrefix(h.Name, "*") {
			return h.Name
		}
	}
	return ""
}

// hostPort returns where a URL leads; no port if it is not a URL.
func hostPort(address string) (host string, port uint16) {
	u, err := url.Parse(address)
	if err != nil {
		return "", 0
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return u.Hostname(), uint16(n)
	}
	switch u.Scheme {
	case "https", "wss":
		return u.Hostname(), 443
	case "http", "ws":
		return u.Hostname(), 80
	}
	return "", 0
}

// Ask returns the probe of the pair. Where no address is known, it only connects.
func (p Pair) Ask(set *upstream.Set, m Method) (Dial, Ask) {
	a := Ask{Method: m, Target: p.Target, URL: p.URL, UserAgent: p.UserAgent, Timeout: p.Health.Timeout}
	if m == Exchange && p.URL == "" {
		a.Method = Connect
	}
	a.Reach = func(ctx context.Context) error { return set.Ping(ctx, p.Member) }
	return func(ctx context.Context, t upstream.Target) (*upstream.Conn, error) {
		return set.DialMember(ctx, p.Member, t)
	}, a
}

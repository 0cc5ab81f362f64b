package config

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config/internal/raw"
)

const (
	maxConnects = 1_000_000
	maxPeriod   = 24 * time.Hour
	maxHosts    = 1_000_000 // bounds both numbers of a share
)

// limits returns the budgets that a mapping sets.
func (rep *report) limits(key string, r *raw.Limits) Limits {
	if r.Text != nil {
		rep.errorf(key, "write {connects: 300/5m}, or, on an exchange, published", "%s is not known here", quoted(*r.Text))
		return Limits{}
	}
	l := Limits{MaxConnections: rep.whole(key+".max_connections", r.MaxConnections, 0, 1, 10_000_000), Queue: rep.seconds(key+".queue_seconds", r.QueueSeconds, 0, 0, 300)}
	if r.Connects != nil {
		n, per, err := parseRate(*r.Connects)
		if err != nil {
			rep.errorf(key+".connects", "write it as 300/5m: a number, a slash, and a time with s, m or h", "%s is not a budget", quoted(*r.Connects))
		} else if n > maxConnects || per > maxPeriod {
			rep.errorf(key+".connects", "", "%s is out of range: must be at most %d in at most 24 h", quoted(*r.Connects), maxConnects)
		}
		l.Connects, l.Per = n, per
	}
	if r.Share != nil {
		l.Share = rep.share(key, *r.Share, l)
	}
	l.Shared = orDefault(r.Shared, false)
	if l.Shared && r.Share != nil {
		rep.errorf(key+".shared", "keep one of the two: with shared the hosts count together", "stands beside share")
		l.Shared = false
	}
	if r.Connects == nil && r.MaxConnections == nil {
		rep.missingf(key, "add connects: 300/5m or max_connections: 100", "sets no budget")
	}
	return l
}

// poolLimits returns the budgets of a pool, which is no exit that hosts could share.
func (rep *report) poolLimits(key string, r *raw.Limits) Limits {
	l := rep.exitLimits(key, r)
	if l.Shared {
		rep.errorf(key+".shared", "put shared budgets on the proxies, which have an exit, or on an exchange", "is not for a pool: a pool is no exit")
		l.Shared = false
	}
	return l
}

// exitLimits returns the budgets of a pool or a proxy, which have no published
// limits.
func (rep *report) exitLimits(key string, r *raw.Limits) Limits {
	if r.Text != nil && *r.Text == "published" {
		rep.errorf(key, "put it on an exchange, or write {connects: 300/5m}", "published limits belong to an exchange")
		return Limits{}
	}
	return rep.limits(key, r)
}

// noLimits refuses budgets and silence on an outbound that is not an exchange's.
func (rep *report) noLimits(key string, r *raw.Outbound) {
	if r.Limits != nil {
		rep.errorf(key+".limits", "put it on the pool, on one of its proxies, or on an exchange", "has no effect here")
		r.Limits = nil
	}
	if r.Silence != nil {
		rep.errorf(key+".silence", "put it on an exchange, or at the top", "has no effect here")
		r.Silence = nil
	}
}

// rawLimits are the budgets of an exchange as written, and where.
type rawLimits struct {
	key  string // the exchange's
	both *raw.Limits
	kind [2]*raw.Limits // for http, for websocket
}

// takeLimits moves the budgets out of an exchange's outbounds, which have none
// of their own.
func takeLimits(key string, e *raw.Exchange) rawLimits {
	l := rawLimits{key: key, both: e.Limits}
	e.Limits = nil
	for i, w := range []*raw.Outbound{e.HTTP, e.Websocket} {
		if w != nil {
			l.kind[i], w.Limits = w.Limits, nil
		}
	}
	return l
}

// exchangeLimits returns the budgets of each kind: its own, else those for
// both.
func (rep *report) exchangeLimits(id string, r rawLimits) (l KindLimits) {
	if r.both != nil {
		at := r.key + ".limits"
		l.HTTP, l.Websocket = rep.kindLimits(at, id, catalog.KindHTTP, r.both), Published(id, catalog.KindWebsocket)
		if !l.HTTP.Published {
			l.Websocket = l.HTTP
		} else if !l.HTTP.isSet() && !l.Websocket.isSet() {
			rep.warnNoPublished(at, id, "")
		}
	}
	for i, k := range catalog.Kinds {
		if r.kind[i] == nil {
			continue
		}
		at := r.key + "." + k.String() + ".limits"
		own := rep.kindLimits(at, id, k, r.kind[i])
		if own.Published && !own.isSet() {
			rep.warnNoPublished(at, id, k.String()+" ")
		}
		if k == catalog.KindHTTP {
			l.HTTP = own
		} else {
			l.Websocket = own
		}
	}
	return l
}

func (rep *report) kindLimits(key, id string, k catalog.Kind, r *raw.Limits) Limits {
	if r.Text != nil && *r.Text == "published" {
		return Published(id, k)
	}
	return rep.limits(key, r)
}

func (rep *report) warnNoPublished(key, id, kind string) {
	rep.warnf(key, "write {connects: 300/5m} if you know the limit", "the catalogue has no published limit of %sconnections for %s: there is no budget", kind, id)
}

// isSet reports whether there is a budget.
func (l Limits) isSet() bool { return l.Connects > 0 || l.MaxConnections > 0 }

// Published returns the limits of the catalogue that a tunnel can count.
// Unverified ones are left out; where sources disagree, the catalogue has the
// smaller one.
func Published(id string, k catalog.Kind) Limits {
	l := Limits{Published: true}
	for _, p := range catalog.Embedded().PublishedLimits(id) {
		switch {
		case p.Confidence == "unverified" || p.Kind != k && p.Kind != catalog.KindBoth:
		case p.What == "connects":
			l.Connects, l.Per = p.Value, p.Per
		case p.What == "concurrent":
			l.MaxConnections = p.Value
		}
	}
	return l
}

// parseRate parses a rate such as 300/5m, 100/1s or 20/m.
func parseRate(s string) (n int, per time.Duration, err error) {
	count, window, _ := strings.Cut(s, "/")
	if n, err = strconv.Atoi(count); err != nil || n < 1 || count[0] == '+' {
		return 0, 0, fmt.Errorf("no count")
	}
	if window != "" && (window[0] < '0' || window[0] > '9') {
		window = "1" + window
	}
	per, err = time.ParseDuration(window)
	if err == nil && per <= 0 {
		err = fmt.Errorf("no time")
	}
	return n, per, err
}

// Share is a host's part of what several hosts may do together: Part of Of. The zero
// value is all of it.
type Share struct{ Part, Of int }

// String returns the share as it is written: "1/30"; "" for all.
func (s Share) String() string {
	if s.Of == 0 {
		return ""
	}
	return strconv.Itoa(s.Part) + "/" + strconv.Itoa(s.Of)
}

// Take returns this host's part of a limit, rounded down. It is 1 where rounding would
// leave none and the share is more than 1/(limit+1), and 0 where it is not.
//
// Shares that add up to at most 1 give at most limit together: a host that gets n
// has a share of more than n/(limit+1), also where n is 1 by that exception; so the sum of
// all n is less than limit+1.
func (s Share) Take(limit int) int {
	if s.Of == 0 {
		return limit
	}
	part, all, whole := int64(s.Part), int64(s.Of), int64(limit)
	n := whole * part / all
	if n == 0 && (whole+1)*part > all {
		n = 1
	}
	return int(n)
}

// Here returns the limits of this host: its part of both.
func (l Limits) Here() Limits {
	l.Connects, l.MaxConnections = l.Share.Take(l.Connects), l.Share.Take(l.MaxConnections)
	return l
}

// share returns the share that is written beside the limits l, and refuses one that
// leaves this host none of a limit.
func (rep *report) share(key, text string, l Limits) Share {
	s, ok := parseShare(text)
	switch {
	case !ok:
		rep.errorf(key+".share", "write it as 1/30: this host's part, a slash, and the sum of all hosts' parts", "%s is not a share", quoted(text))
		return Share{}
	case s.Part < 1 || s.Part > s.Of || s.Of > maxHosts:
		rep.errorf(key+".share", "", "%s is out of range: must be more than 0 and at most 1, of at most %d parts", quoted(text), maxHosts)
		return Share{}
	}
	for _, limit := range []struct {
		key string
		n   int
	}{{"connects", l.Connects}, {"max_connections", l.MaxConnections}} {
		if limit.n > 0 && s.Take(limit.n) == 0 {
			rep.errorf(key+".share", "give this host a larger part, and let fewer hosts use it", "this host's part of %s %d is 0: one connection for each such host would exceed it",
				limit.key, limit.n)
		}
	}
	return s
}

// parseShare parses a share such as 1/30.
func parseShare(text string) (s Share, ok bool) {
	part, all, _ := strings.Cut(text, "/")
	for _, n := range []struct {
		text string
		to   *int
	}{{part, &s.Part}, {all, &s.Of}} {
		u, err := strconv.ParseUint(n.text, 10, 31)
		if err != nil {
			return Share{}, false
		}
		*n.to = int(u)
	}
	return s, true
}

// fleet returns the hosts that share budgets.
func (b *builder) fleet(r *raw.Fleet) (f Fleet) {
	if r == nil {
		return f
	}
	f = Fleet{Name: strings.ToLower(orDefault(r.Name, "proxyd")), Hosts: b.whole("fleet.hosts", r.Hosts, 0, 1, 100_000)}
	if !validName(f.Name) {
		b.errorf("fleet.name", "use letters, digits, and single . _ - between them", "%s is not a name", quoted(f.Name))
	}
	if r.Redis == nil {
		b.missingf("fleet", "add redis: redis://HOST:6379", "names no Redis")
		return f
	}
	f.Redis, f.Address = b.redisURL("fleet.redis", *r.Redis)
	return f
}

// checkShared refuses shared budgets without what they need: a fleet, and exits that
// mean the same on each host.
func (b *builder) checkShared(c *Config) {
	const needFleet = "needs a fleet, which is not set"
	pools := PoolsByName(c)
	for _, p := range c.Pools {
		for i := range p.Proxies {
			switch m := &p.Proxies[i]; {
			case !m.Limits.Shared:
			case c.Fleet == (Fleet{}):
				b.errorf(b.memberKey(p, i)+".limits.shared", "add fleet: {redis: redis://HOST:6379}, or remove it", needFleet)
			case !m.ExitStable:
				b.errorf(b.memberKey(p, i)+".limits.shared", "add exit: NAME, the same on each host whose connections leave by that address", "needs an exit that is written out")
			}
		}
	}
	for i := range c.Exchanges {
		e := &c.Exchanges[i]
		for _, k := range catalog.Kinds {
			if !e.Limits.Of(k).Shared {
				continue
			}
			key := b.sharedKey(b.exchangeKey(e.ID), k)
			if c.Fleet == (Fleet{}) {
				b.errorf(key, "add fleet: {redis: redis://HOST:6379}, or remove it", needFleet)
			} else if w := cmp.Or(e.Outbounds.Of(k), c.Default.Of(k)); w != nil {
				b.needExits(key, w, pools)
			}
		}
	}
}

// sharedKey returns where an exchange's budgets of a kind are said to be shared.
func (b *builder) sharedKey(exchange string, k catalog.Kind) string {
	for _, name := range []string{exchange + "." + k.String(), exchange} {
		if _, ok := b.at[name+".limits.shared"]; ok {
			return name + ".limits.shared"
		}
	}
	return exchange + ".limits"
}

// needExits refuses a shared budget of an exchange where a member that it may use has
// no exit that is the same on each host.
func (b *builder) needExits(key string, w *Outbound, pools map[string]*Pool) {
	const hint = "add exit: NAME to it, the same on each host whose connections leave by that address"
	switch p := pools[w.Pool]; {
	case w.Action == Direct:
		b.errorf(key, "write the outbound as {pool: {proxies: [{url: direct, exit: NAME}]}}", "needs an exit that is written out, and direct has none")
	case w.Action == Use && p != nil:
		for _, m := range p.Proxies {
			if m.Enabled && !m.ExitStable && m.Listed {
				b.errorf(key, "write these proxies below proxies, each with an exit, the same on each host", "needs an exit that is the same on each host: %s is one of several sessions at one address", m.Name)
				return
			}
			if m.Enabled && !m.ExitStable {
				b.errorf(key, hint, "needs an exit that is written out, and %s has none", m.Name)
				return
			}
		}
	}
}

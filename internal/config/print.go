package config

import (
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/catalog"
)

// Print returns the effective configuration as YAML: defaults filled in, every
// outbound in its long form, secrets masked.
func Print(c *Config) string {
	p := printer{pools: PoolsByName(c)}
	out, err := yaml.Marshal(p.config(c))
	if err != nil { // nodes made of text alone cannot fail
		return "# " + err.Error() + "\n"
	}
	return strings.TrimRight(string(out), "\n") + "\n"
}

type printer struct{ pools map[string]*Pool }

// object is a mapping in a fixed order.
type object struct{ n yaml.Node }

func newObject() *object { return &object{yaml.Node{Kind: yaml.MappingNode}} }

func (o *object) put(key string, value any) *object {
	var k, v yaml.Node
	_ = k.Encode(key)
	switch t := value.(type) {
	case *object:
		if t == nil {
			return o
		}
		v = t.n
	case []*object:
		v.Kind = yaml.SequenceNode
		for _, item := range t {
			v.Content = append(v.Content, &item.n)
		}
	default:
		_ = v.Encode(value)
	}
	o.n.Content = append(o.n.Content, &k, &v)
	return o
}

// MarshalYAML returns the mapping.
func (o *object) MarshalYAML() (any, error) { return &o.n, nil }

func (p printer) config(c *Config) *object {
	o := newObject()
	var listen []*object
	for _, l := range c.Listen {
		listen = append(listen, p.listener(l))
	}
	o.put("listen", listen)
	o.put("admin", admin(c.Admin))
	o.put("log", newObject().put("level", c.Log.Level).put("format", c.Log.Format))
	if len(c.AllowPrivate) > 0 {
		o.put("allow_private", texts(c.AllowPrivate))
	}
	if c.CatalogFile != "" {
		o.put("catalog", c.CatalogFile)
	}
	if c.StateDir != "" && len(c.Sources()) > 0 { // systemd sets it for all
		o.put("state_dir", c.StateDir)
	}
	if c.UserAgent != "" && c.UserAgent != DefaultUserAgent {
		o.put("probe", newObject().put("user_agent", c.UserAgent))
	}
	if f := c.Fleet; f != (Fleet{}) {
		x := newObject().put("redis", f.Address).put("name", f.Name)
		if f.Hosts > 0 {
			x.put("hosts", f.Hosts)
		}
		o.put("fleet", x)
	}
	o.put("enabled", c.Enabled)
	if c.Default != (Outbounds{}) {
		o.put("default", p.outbounds(newObject(), c.Default))
	}
	p.rules(o, c)
	o.put("attempt_seconds", secs(c.Attempt)).put("retry_target_errors", c.RetryTargetErrors)
	if c.MaxTunnels > 0 {
		o.put("max_tunnels", c.MaxTunnels)
	}
	o.put("max_dials", c.MaxDials).put("max_dials_per_host", c.MaxDialsPerHost)
	t := c.Tunnel
	o.put("tunnel", newObject().put("idle_seconds", secs(t.Idle)).put("half_close_seconds", secs(t.HalfClose)).put("stall_seconds", secs(t.Stall)).put("stall_bytes", t.StallBytes).put("buffer_bytes", t.Buffer))
	putSilence(o, c.Silence)
	return o.put("drain_seconds", secs(c.Drain)).put("stop", newObject().put("grace_seconds", secs(c.StopGrace))).put("watch", c.Watch).
		put("on_removed", c.OnRemoved).put("drain_after_seconds", secs(c.DrainAfter)).
		put("upgrade", newObject().put("tunnels", c.Upgrade.Tunnels).put("drain_seconds", secs(c.Upgrade.Drain)))
}

// rules puts the pools, the exchanges and the routes.
func (p printer) rules(o *object, c *Config) {
	pools := newObject()
	for _, q := range c.Pools {
		if !q.Inline {
			pools.put(q.Name, p.pool(&q))
		}
	}
	if len(pools.n.Content) > 0 {
		o.put("pools", pools)
	}
	exchanges := newObject()
	for _, x := range c.Exchanges {
		e := p.exchange(x)
		if len(x.Hosts) > 0 {
			e.put("hosts", hostsObject(x.Hosts))
		}
		if x.UnlistedDefault {
			e.put("unlisted_hosts", "default")
		}
		if x.Probe != (Probe{}) {
			e.put("probe", probe(x.Probe))
		}
		exchanges.put(x.ID, e)
	}
	if len(exchanges.n.Content) > 0 {
		o.put("exchanges", exchanges)
	}
	var routes []*object
	for _, r := range c.Routes {
		routes = append(routes, newObject().put("hosts", texts(r.Hosts)).put("use", p.outbound(&r.Outbound)))
	}
	if len(routes) > 0 {
		o.put("routes", routes)
	}
}

func secs(d time.Duration) float64 { return d.Seconds() }

func texts[T interface{ String() string }](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}

func admin(a Admin) *object {
	o := newObject().put("address", a.Address)
	if len(a.Allow) > 0 {
		o.put("allow", texts(a.Allow))
	}
	if len(a.Hosts) > 0 {
		o.put("hosts", a.Hosts)
	}
	if !a.Token.IsZero() {
		o.put("token", a.Token.String())
	}
	return o.put("local", a.Local).put("pprof", a.Pprof)
}

func putLimits(o *object, l Limits) {
	switch {
	case l == (Limits{}):
	case l.Published:
		o.put("limits", "published")
	default:
		x := newObject()
		if l.Connects > 0 {
			x.put("connects", strconv.Itoa(l.Connects)+"/"+period(l.Per))
		}
		if l.MaxConnections > 0 {
			x.put("max_connections", l.MaxConnections)
		}
		if l.Share != (Share{}) {
			x.put("share", l.Share.String())
		}
		x.put("queue_seconds", secs(l.Queue))
		if l.Shared {
			x.put("shared", true)
		}
		o.put("limits", x)
	}
}

// period returns a duration in its short form: 5m, not 5m0s.
func period(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (p printer) listener(l Listener) *object {
	o := newObject().put("address", l.Address)
	if l.Transparent {
		o.put("transparent", true)
	}
	if l.Use != nil {
		o.put("use", p.outbound(l.Use))
	}
	if l.UnlistedReject {
		o.put("unlisted", "reject")
	}
	if l.Kind != catalog.KindUnknown {
		o.put("kind", l.Kind.String())
	}
	if len(l.Users) > 0 {
		var users []*object
		for _, u := range l.Users {
			users = append(users, newObject().put("name", u.Name).put("password", u.Password.String()))
		}
		o.put("auth", newObject().put("users", users))
	}
	if len(l.Allow) > 0 {
		o.put("allow", texts(l.Allow))
	}
	if l.TLSCert != "" {
		o.put("tls", newObject().put("cert_file", l.TLSCert).put("key_file", l.TLSKey))
	}
	return o
}

// exchange returns an exchange's outbounds and budgets. A kind's own budgets
// stand beside its outbound, shared ones and those of a kind without an
// outbound below the exchange.
func (p printer) exchange(x Exchange) *object {
	o, l := newObject(), x.Limits
	shared := l.HTTP
	apart := l.HTTP != l.Websocket && !(l.HTTP.Published && l.Websocket.Published)
	for _, k := range catalog.Kinds {
		w := x.Outbounds.Of(k)
		if w == nil {
			if apart {
				shared = l.Of(k)
			}
			continue
		}
		out := p.outbound(w)
		if apart {
			putLimits(out, l.Of(k))
		}
		putSilence(out, x.Silence.own(k))
		o.put(k.String(), out)
	}
	if !apart || x.Outbounds.HTTP == nil || x.Outbounds.Websocket == nil {
		putLimits(o, shared)
	}
	putSilence(o, x.Silence.Both)
	return o
}

func probe(x Probe) *object {
	o := newObject()
	if x.HTTP != "" {
		o.put("http", x.HTTP.String())
	}
	if x.Websocket != "" {
		o.put("websocket", x.Websocket.String())
	}
	return o
}

func (p printer) outbounds(o *object, w Outbounds) *object {
	if w.HTTP != nil {
		o.put("http", p.outbound(w.HTTP))
	}
	if w.Websocket != nil {
		o.put("websocket", p.outbound(w.Websocket))
	}
	return o
}

func (p printer) outbound(w *Outbound) *object {
	o := newObject()
	switch w.Action {
	case Direct:
		o.put("url", "direct")
	case Reject:
		o.put("url", "reject")
	default:
		q := p.pools[w.Pool]
		switch {
		case q == nil || !q.Inline:
			o.put("pool", w.Pool)
		case isSingleURL(q):
			p.proxy(o, q.Proxies[0])
		default:
			o.put("pool", p.pool(q))
		}
	}
	return o.put("timeout_seconds", secs(w.Timeout))
}

// isSingleURL reports whether a pool is only a URL.
func isSingleURL(q *Pool) bool {
	if len(q.Proxies) != 1 || q.List != "" {
		return false
	}
	m := q.Proxies[0]
	return m.Weight == 1 && m.Tier == 1 && m.Enabled && m.Limits == (Limits{}) && q.Limits == (Limits{}) && q.Health == (Health{}) && q.Eject == DefaultEject()
}

func (p printer) pool(q *Pool) *object {
	o := newObject().put("strategy", string(q.Strategy))
	if q.Strategy == Hash {
		o.put("hash_over", q.HashOver)
	}
	var members []*object
	listed := 0
	for _, m := range q.Proxies {
		if m.Listed {
			listed++
			continue
		}
		x := p.proxy(newObject(), m).put("weight", m.Weight).put("tier", m.Tier)
		if !m.Enabled {
			x.put("enabled", false)
		}
		putLimits(x, m.Limits)
		members = append(members, x)
	}
	if len(members) > 0 || q.List == "" {
		o.put("proxies", members)
	}
	if q.List != "" {
		p.list(o, q, listed)
	}
	putLimits(o, q.Limits)
	if h := q.Health; h.Method != "" {
		o.put("health_check", newObject().put("method", h.Method).put("interval_seconds", secs(h.Interval)).put("timeout_seconds", secs(h.Timeout)).
			put("rise", h.Rise).put("fall", h.Fall))
	}
	if e := q.Eject; e != DefaultEject() {
		o.put("eject", newObject().put("after", e.After).put("base_seconds", secs(e.Base)).put("max_seconds", secs(e.Max)).put("max_percent", e.MaxPercent))
	}
	return o
}

// proxy puts what identifies an upstream and how it is reached.
func (p printer) proxy(o *object, m Proxy) *object {
	if validName(m.Name) && !automatic(m) {
		o.put("name", m.Name)
	}
	o.put("url", m.URL.String())
	if m.ExitSet {
		o.put("exit", m.Exit)
	}
	if m.TLS != (TLS{}) {
		o.put("tls", p.tls(m.TLS))
	}
	if m.Via != nil {
		o.put("via", p.outbound(m.Via))
	}
	return o
}

func (p printer) tls(t TLS) *object {
	o := newObject()
	for _, f := range []struct{ key, text string }{{"ca_file", t.CAFile}, {"cert_file", t.CertFile}, {"key_file", t.KeyFile}, {"server_name", t.ServerName}} {
		if f.text != "" {
			o.put(f.key, f.text)
		}
	}
	return o.put("insecure", t.Insecure)
}

func hostsObject(list []Host) *object {
	var both, http, ws []string
	for _, h := range list {
		switch h.Kind {
		case catalog.KindHTTP:
			http = append(http, h.Pattern.String())
		case catalog.KindWebsocket:
			ws = append(ws, h.Pattern.String())
		default:
			both = append(both, h.Pattern.String())
		}
	}
	return newObject().put("http", append(http, both...)).put("websocket", append(ws, both...))
}

package config

import (
	"time"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/catalog"
)

// Print is the effective configuration as YAML, secrets masked: every default
// filled in, every way in its long form.
func Print(c *Config) string {
	p := printer{pools: map[string]*Pool{}}
	for i := range c.Pools {
		p.pools[c.Pools[i].Name] = &c.Pools[i]
	}
	out, err := yaml.Marshal(p.config(c))
	if err != nil { // nodes made of text alone cannot fail
		return "# " + err.Error() + "\n"
	}
	return string(out)
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

// MarshalYAML gives the mapping.
func (o *object) MarshalYAML() (any, error) { return &o.n, nil }

func (p printer) config(c *Config) *object {
	o := newObject()
	var listen []*object
	for _, l := range c.Listen {
		listen = append(listen, p.listener(l))
	}
	o.put("listen", listen)
	admin := newObject().put("address", c.Admin.Address)
	if !c.Admin.Token.IsZero() {
		admin.put("token", c.Admin.Token.String())
	}
	o.put("admin", admin)
	o.put("log", newObject().put("level", c.Log.Level).put("format", c.Log.Format))
	if len(c.AllowPrivate) > 0 {
		o.put("allow_private", texts(c.AllowPrivate))
	}
	o.put("enabled", c.Enabled)
	if c.Default != (Ways{}) {
		o.put("default", p.ways(newObject(), c.Default))
	}
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
		e := p.ways(newObject(), x.Ways)
		if len(x.Hosts) > 0 {
			e.put("hosts", hostsObject(x.Hosts))
		}
		exchanges.put(x.ID, e)
	}
	if len(exchanges.n.Content) > 0 {
		o.put("exchanges", exchanges)
	}
	var routes []*object
	for _, r := range c.Routes {
		routes = append(routes, newObject().put("hosts", texts(r.Hosts)).put("use", p.way(&r.Way)))
	}
	if len(routes) > 0 {
		o.put("routes", routes)
	}
	o.put("attempt_seconds", secs(c.Attempt)).put("retry_target_errors", c.RetryTargetErrors)
	if c.MaxTunnels > 0 {
		o.put("max_tunnels", c.MaxTunnels)
	}
	t := c.Tunnel
	o.put("tunnel", newObject().put("idle_seconds", secs(t.Idle)).put("half_close_seconds", secs(t.HalfClose)).put("stall_seconds", secs(t.Stall)).put("stall_bytes", t.StallBytes))
	return o.put("drain_seconds", secs(c.Drain)).put("stop", newObject().put("grace_seconds", secs(c.StopGrace))).put("watch", c.Watch).
		put("on_removed", c.OnRemoved).put("drain_after_seconds", secs(c.DrainAfter)).
		put("upgrade", newObject().put("tunnels", c.Upgrade.Tunnels).put("drain_seconds", secs(c.Upgrade.Drain)))
}

func secs(d time.Duration) float64 { return d.Seconds() }

func texts[T interface{ String() string }](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}

func (p printer) listener(l Listener) *object {
	o := newObject().put("address", l.Address)
	if l.Use != nil {
		o.put("use", p.way(l.Use))
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

func (p printer) ways(o *object, w Ways) *object {
	if w.HTTP != nil {
		o.put("http", p.way(w.HTTP))
	}
	if w.Websocket != nil {
		o.put("websocket", p.way(w.Websocket))
	}
	return o
}

func (p printer) way(w *Way) *object {
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
		case len(q.Proxies) == 1:
			m := q.Proxies[0]
			o.put("url", m.URL.String())
			if m.Via != nil {
				o.put("via", p.way(m.Via))
			}
		default:
			o.put("pool", p.pool(q))
		}
	}
	return o.put("timeout_seconds", secs(w.Timeout))
}

func (p printer) pool(q *Pool) *object {
	o := newObject().put("strategy", string(q.Strategy))
	var members []*object
	for _, m := range q.Proxies {
		x := newObject()
		if validName(m.Name) {
			x.put("name", m.Name)
		}
		x.put("url", m.URL.String()).put("weight", m.Weight).put("tier", m.Tier)
		if !m.Enabled {
			x.put("enabled", false)
		}
		if m.TLS != (TLS{}) {
			x.put("tls", newObject().put("ca_file", m.TLS.CAFile).put("cert_file", m.TLS.CertFile).put("key_file", m.TLS.KeyFile).
				put("server_name", m.TLS.ServerName).put("insecure", m.TLS.Insecure))
		}
		if m.Via != nil {
			x.put("via", p.way(m.Via))
		}
		members = append(members, x)
	}
	return o.put("proxies", members)
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

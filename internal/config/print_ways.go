package config

import "proxyd/internal/catalog"

// exchange puts an exchange's ways and budgets: those of one kind beside its
// way, those that both have, or that a kind without a way has, below the exchange.
func (p printer) exchange(x Exchange) *object {
	o, l := newObject(), x.Limits
	shared := l.HTTP
	apart := l.HTTP != l.Websocket && !(l.HTTP.Published && l.Websocket.Published)
	for _, k := range []catalog.Kind{catalog.KindHTTP, catalog.KindWebsocket} {
		w := x.Ways.Of(k)
		if w == nil {
			if apart {
				shared = l.Of(k)
			}
			continue
		}
		way := p.outbound(w)
		if apart {
			putLimits(way, l.Of(k))
		}
		o.put(k.String(), way)
	}
	if !apart || x.Ways.HTTP == nil || x.Ways.Websocket == nil {
		putLimits(o, shared)
	}
	return o
}

func probe(x Probe) *object {
	o := newObject()
	if x.HTTP != "" {
		o.put("http", x.HTTP)
	}
	if x.Websocket != "" {
		o.put("websocket", x.Websocket)
	}
	return o
}

func (p printer) ways(o *object, w Outbounds) *object {
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
		case single(q):
			p.proxy(o, q.Proxies[0])
		default:
			o.put("pool", p.pool(q))
		}
	}
	return o.put("timeout_seconds", secs(w.Timeout))
}

// single reports whether a pool is no more than its one URL.
func single(q *Pool) bool {
	if len(q.Proxies) != 1 {
		return false
	}
	m := q.Proxies[0]
	return m.Weight == 1 && m.Tier == 1 && m.Enabled && m.Limits == (Limits{}) && q.Limits == (Limits{}) && q.Health == (Health{}) && q.Eject == defaultEject()
}

func (p printer) pool(q *Pool) *object {
	o := newObject().put("strategy", string(q.Strategy))
	if q.Strategy == Hash {
		o.put("hash_over", q.HashOver)
	}
	var members []*object
	for _, m := range q.Proxies {
		x := p.proxy(newObject(), m).put("weight", m.Weight).put("tier", m.Tier)
		if !m.Enabled {
			x.put("enabled", false)
		}
		putLimits(x, m.Limits)
		members = append(members, x)
	}
	o.put("proxies", members)
	putLimits(o, q.Limits)
	if h := q.Health; h.Method != "" {
		o.put("health_check", newObject().put("method", h.Method).put("interval_seconds", secs(h.Interval)).put("timeout_seconds", secs(h.Timeout)).
			put("rise", h.Rise).put("fall", h.Fall))
	}
	if e := q.Eject; e != defaultEject() {
		o.put("eject", newObject().put("after", e.After).put("base_seconds", secs(e.Base)).put("max_seconds", secs(e.Max)).put("max_percent", e.MaxPercent))
	}
	return o
}

// proxy puts what says which upstream it is, and how it is reached.
func (p printer) proxy(o *object, m Proxy) *object {
	if validName(m.Name) && !automatic(m) {
		o.put("name", m.Name)
	}
	o.put("url", m.URL.String())
	if m.Exit != defaultExit(m) {
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

package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"proxyd/internal/config/internal/raw"
	"proxyd/internal/target"
)

// outbounds returns the outbounds of an entry. One for a kind beats one for
// both.
func (b *builder) outbounds(key string, r *raw.Outbounds) Outbounds {
	if r == nil {
		return Outbounds{}
	}
	b.noLimits(key, &r.Outbound)
	var out Outbounds
	if r.Text != nil || r.URL != nil || r.Pool != nil {
		w := b.outbound(key, &r.Outbound)
		out = Outbounds{w, w}
	} else if r.TimeoutSeconds != nil || r.Via != nil || r.Name != nil || r.Exit != nil || r.TLS != nil {
		b.missingf(key, "add url or pool, or put it below http or websocket", "has options, but no outbound")
	}
	if r.HTTP != nil {
		out.HTTP = b.outbound(key+".http", r.HTTP)
	}
	if r.Websocket != nil {
		out.Websocket = b.outbound(key+".websocket", r.Websocket)
	}
	return out
}

// outbound returns one outbound, nil after an error.
func (b *builder) outbound(key string, r *raw.Outbound) *Outbound {
	w := &Outbound{Timeout: b.seconds(key+".timeout_seconds", r.TimeoutSeconds, defaultTimeout, 1, 300), Source: key}
	b.noLimits(key, r)
	if r.TimeoutSeconds == nil {
		b.withoutTimeout = append(b.withoutTimeout, key)
	}
	via := b.via(key+".via", r.Via)
	text, at := "", key
	switch {
	case r.URL != nil && r.Pool != nil:
		b.errorf(key, "keep one of the two", "has both url and pool")
		return nil
	case r.Text != nil:
		text = *r.Text
	case r.URL != nil:
		text, at = *r.URL, key+".url"
	case r.Pool != nil && r.Pool.Text != nil:
		return b.poolOutbound(key, key+".pool", w, *r.Pool.Text, via)
	case r.Pool != nil:
		p := b.pool(key+".pool", r.Pool.Pool)
		p.Name, p.Inline = key, true
		b.members[key] = key + ".pool"
		b.pushVia(&p, via)
		b.inline = append(b.inline, p)
		w.Action, w.Pool = Use, p.Name
		return w
	default:
		b.missingf(key, "add url or pool", "names no outbound")
		return nil
	}
	switch word := strings.ToLower(strings.TrimSpace(text)); {
	case word == "direct":
		w.Action = Direct
		if via.proxied() {
			b.errorf(key+".via", "remove it, or name a proxy", "has no effect on direct")
		}
	case word == "reject":
		w.Action = Reject
	case isURL(text):
		m, ok := b.proxy(key, raw.Proxy{URL: &text, Name: r.Name, Exit: r.Exit, TLS: r.TLS})
		if !ok {
			return nil
		}
		m.Via = via
		b.inline = append(b.inline, Pool{Name: key, Inline: true, Strategy: RoundRobin, HashOver: "exchange", Proxies: []Proxy{m}, Eject: DefaultEject()})
		w.Action, w.Pool = Use, key
	default:
		if r.URL != nil {
			b.errorf(at, "write it as socks5://host:1080; a pool's name goes under pool", "is not a URL")
			return nil
		}
		return b.poolOutbound(key, at, w, text, via)
	}
	return w
}

// isAddress reports whether an exit is named by an address.
func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	_, errPort := netip.ParseAddrPort(s)
	return err == nil || errPort == nil
}

// isURL reports whether text stands for a URL, not a name. Text that begins
// with ${ does.
func isURL(s string) bool { return strings.Contains(s, "://") || strings.HasPrefix(s, "${") }

// poolOutbound makes w use a named pool or, with via, a copy of it that is
// reached through that hop.
func (b *builder) poolOutbound(key, at string, w *Outbound, name string, via *Outbound) *Outbound {
	name = strings.ToLower(strings.TrimSpace(name))
	i, ok := b.byName[name]
	if !ok {
		b.unknownPool(key, at, name)
		return nil
	}
	w.Action, w.Pool = Use, name
	if !via.proxied() {
		return w
	}
	if b.pools[i].Name == "" {
		b.errorf(at, "name the hops in the other order", "pool %s is not read yet where it is reached by via", name)
		return nil
	}
	p := b.pools[i]
	b.members[key] = "pools." + name
	p.Name, p.Inline, p.Proxies = key, true, append([]Proxy(nil), p.Proxies...)
	times := map[string]int{}
	for j := range p.Proxies {
		m := &p.Proxies[j]
		base := autoName(*m)
		if times[base]++; m.Listed && times[base] > 1 { // sessions at one gateway
			base += "#" + strconv.Itoa(times[base])
		}
		m.Name, m.Via = strings.TrimSpace(base+" via "+b.hopName(via)), via
	}
	b.inline = append(b.inline, p)
	w.Pool = p.Name
	return w
}

// unknownPool reports a name that is none of a pool. at is key, or its key pool.
func (b *builder) unknownPool(key, at, name string) {
	word := key[strings.LastIndexByte(key, '.')+1:]
	switch known := append([]string{"direct", "reject"}, b.poolOrder...); {
	case at == key:
		b.errorf(at, "use direct, reject, a URL such as socks5://host:1080, or a name from pools"+DidYouMean(name, known), "there is no pool of that name")
	case name == "direct", name == "reject":
		b.errorf(at, "write "+word+": "+name, "is for a pool; %s is none", name)
	case isURL(name):
		b.errorf(at, "write the URL under url, or alone behind "+word+":", "is for a pool, not for a URL")
	default:
		b.errorf(at, "use a name from pools"+DidYouMean(name, b.poolOrder), "there is no pool of that name")
	}
}

// via returns the hop before, nil if none is named. A direct one is kept until
// every pool has passed its hop to its members.
func (b *builder) via(key string, r *raw.Outbound) *Outbound {
	if r == nil {
		return nil
	}
	w := b.outbound(key, r)
	if w == nil {
		return nil
	}
	if w.Action == Reject {
		b.errorf(key, "name a proxy, a pool, or direct", "cannot be reject")
		return nil
	}
	return w
}

// pushVia sets the pool's hop on members without one of their own.
func (b *builder) pushVia(p *Pool, via *Outbound) {
	if via == nil {
		return
	}
	for i := range p.Proxies {
		if p.Proxies[i].Via == nil && p.Proxies[i].URL.Scheme != SchemeDirect {
			p.Proxies[i].Via = via
		}
	}
}

// proxied reports whether the hop is a proxy.
func (w *Outbound) proxied() bool { return w != nil && w.Action == Use }

// dropDirectHops removes hops that are direct, which means no hop.
func dropDirectHops(pools []Pool) {
	for i := range pools {
		for j := range pools[i].Proxies {
			if m := &pools[i].Proxies[j]; !m.Via.proxied() {
				m.Via = nil
			}
		}
	}
}

func (b *builder) hopName(via *Outbound) string {
	for _, p := range b.inline {
		if p.Name == via.Pool && len(p.Proxies) == 1 {
			return autoName(p.Proxies[0])
		}
	}
	return via.Pool
}

// pool returns a pool. The caller sets its name.
func (b *builder) pool(key string, r raw.Pool) Pool {
	p := Pool{
		Strategy: Strategy(orDefault(r.Strategy, string(RoundRobin))), HashOver: orDefault(r.HashOver, "exchange"),
		Eject: b.eject(key+".eject", r.Eject), Health: b.health(key+".health_check", r.HealthCheck),
	}
	if r.Limits != nil {
		p.Limits = b.poolLimits(key+".limits", r.Limits)
	}
	if len(r.Proxies) == 0 && r.List == nil {
		b.missingf(key, "add proxies: [socks5://host:1080], or list: FILE; fallback to direct is written as the member direct", "has no proxies")
	}
	for i, m := range r.Proxies {
		if proxy, ok := b.proxy(fmt.Sprintf("%s.proxies[%d]", key, i), m); ok {
			p.Proxies = append(p.Proxies, proxy)
			b.numbers[key] = append(b.numbers[key], i)
		}
	}
	if r.List != nil {
		b.list(key, r, &p)
	} else if r.Scheme != nil {
		b.errorf(key+".scheme", "remove it, or add list: FILE", "has no effect without a list")
	}
	via := b.via(key+".via", r.Via)
	b.pushVia(&p, via)
	if p.Source != nil {
		b.listHops[p.Source] = via
	}
	if len(p.Proxies) > 0 && !slices.ContainsFunc(p.Proxies, func(m Proxy) bool { return m.Enabled }) {
		b.warnf(key, "enable one, or write reject where the pool is used", "no member is enabled: what leads here is refused (503)")
	}
	return p
}

// proxy returns a pool's member. It reports false after an error.
func (b *builder) proxy(key string, r raw.Proxy) (Proxy, bool) {
	text, at := orDefault(r.Text, ""), key
	if r.URL != nil {
		text = *r.URL
		if _, ok := b.at[key+".url"]; ok {
			at = key + ".url"
		}
	}
	p := Proxy{
		Name: strings.ToLower(orDefault(r.Name, "")), Weight: b.number(key+".weight", r.Weight, 1, 0.1, 100),
		Tier: b.whole(key+".tier", r.Tier, 1, 1, 100), Enabled: orDefault(r.Enabled, true), Exit: strings.ToLower(orDefault(r.Exit, "")),
		Via: b.via(key+".via", r.Via),
	}
	if r.Limits != nil {
		p.Limits = b.exitLimits(key+".limits", r.Limits)
	}
	if p.Name != "" && !validName(p.Name) {
		b.errorf(key+".name", "use letters, digits, and single . _ - between them", "%s is not a name", quoted(p.Name))
		p.Name = ""
	}
	if p.Exit != "" && !harmless.MatchString(p.Exit) && !isAddress(p.Exit) {
		b.errorf(key+".exit", "name it like a proxy, or host:port", "%s is not a name", quoted(p.Exit))
		p.Exit = ""
	}
	p.ExitSet = p.Exit != ""
	if text == "" {
		b.missingf(key, "add url: socks5://host:1080", "has no URL")
		return Proxy{}, false
	}
	u, ok := b.url(at, text)
	if !ok {
		return Proxy{}, false
	}
	p.URL = u
	if r.TLS != nil {
		p.TLS = b.tls(key+".tls", u, r.TLS)
	}
	if p.Via.proxied() && u.Scheme == SchemeDirect {
		b.errorf(key+".via", "remove it", "has no effect on direct")
	}
	return p, true
}

func (b *builder) tls(key string, u URL, r *raw.TLS) TLS {
	t := TLS{CAFile: orDefault(r.CAFile, ""), CertFile: orDefault(r.CertFile, ""), KeyFile: orDefault(r.KeyFile, ""),
		ServerName: orDefault(r.ServerName, ""), Insecure: orDefault(r.Insecure, false)}
	if u.Scheme != SchemeHTTPS {
		b.errorf(key, "use https:// if TLS is spoken with the proxy", "has no effect on %s://", u.Scheme)
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		b.missingf(key, "", "needs both cert_file and key_file, or neither")
	} else if t.CertFile != "" {
		b.certificate(key, t.CertFile, t.KeyFile)
	}
	if t.ServerName != "" {
		if _, err := target.ParseHost(t.ServerName); err != nil {
			b.errorf(key+".server_name", "write the name alone, such as proxy.example", "%s is not a host name", quoted(t.ServerName))
		}
	}
	if t.CAFile != "" {
		b.authorities(key+".ca_file", t.CAFile)
	}
	if t.Insecure {
		b.warnf(key+".insecure", "use ca_file to trust a certificate of your own", "any certificate is accepted: anyone on the path can read the credentials")
	}
	return t
}

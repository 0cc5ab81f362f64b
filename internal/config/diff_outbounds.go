package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"proxyd/internal/catalog"
)

// exchange adds an exchange that was added or removed.
func (d *differ) exchange(mark string, _ int, x Exchange) {
	text := "exchange " + x.ID
	if x.Outbounds != (Outbounds{}) && mark == "-" {
		d.kinds(text, func(d *differ, key string, k catalog.Kind) { d.fallback(key, x.Outbounds.Of(k), k) })
		return
	}
	if x.Outbounds != (Outbounds{}) {
		text += ": " + outboundsText(x.Outbounds, d.side(mark))
	}
	d.add("%s %s", mark, text)
}

// side returns the pools that a mark refers to.
func (d *differ) side(mark string) map[string]*Pool {
	if mark == "-" {
		return d.prev
	}
	return d.next
}

func (d *differ) exchanges(_ int, a, b Exchange) {
	key := "exchanges." + b.ID
	d.kinds(key, func(d *differ, key string, k catalog.Kind) {
		if b.Outbounds.Of(k) == nil {
			d.fallback(key, a.Outbounds.Of(k), k)
		} else {
			d.outbound(key, a.Outbounds.Of(k), b.Outbounds.Of(k))
		}
	})
	d.kinds(key, func(d *differ, key string, k catalog.Kind) {
		d.change(key+".limits", a.Limits.Of(k), b.Limits.Of(k))
	})
	d.change(key+".silence", a.Silence.Both, b.Silence.Both)
	for _, k := range catalog.Kinds {
		d.change(key+"."+k.String()+".silence", a.Silence.own(k), b.Silence.own(k))
		if x, y, at := a.Probe.Of(k), b.Probe.Of(k), key+".probe."+k.String(); x != y && x.String() == y.String() {
			d.add("~ %s changed", at) // in what is masked
		} else {
			d.change(at, x, y)
		}
	}
	d.change(key+".unlisted_hosts", unlistedWord(a), unlistedWord(b))
	host := func(h Host) string { return fmt.Sprintf("%s (exchange %s, %s)", h.Pattern, b.ID, h.Kind) }
	diffNamed(a.Hosts, b.Hosts, host, func(mark string, _ int, h Host) { d.add("%s host %s", mark, host(h)) }, func(int, Host, Host) {})
}

// fallback adds where a kind of an exchange goes that has lost its entry.
func (d *differ) fallback(key string, was *Outbound, k catalog.Kind) {
	if was == nil {
		return
	}
	to := "direct (no default)"
	if w := d.defaults.Of(k); w != nil {
		to = outboundText(w, d.next) + " (default)"
	}
	d.add("~ %s: %s → %s", key, truncate(outboundText(was, d.prev)), truncate(to))
}

func unlistedWord(x Exchange) string {
	if x.UnlistedDefault {
		return "default"
	}
	return "follow"
}

// hostsKey returns what identifies a route: its hosts.
func hostsKey(r Route) string {
	return strings.Join(slices.Sorted(slices.Values(texts(r.Hosts))), ", ")
}

func (d *differ) route(mark string, at int, r Route) {
	d.add("%s %s: %s", mark, routeKey(at, r), outboundText(&r.Outbound, d.side(mark)))
}

func (d *differ) routes(at int, a, b Route) { d.outbound(routeKey(at, b), &a.Outbound, &b.Outbound) }

func routeKey(at int, r Route) string {
	return fmt.Sprintf("routes[%d] (%s)", at, truncate(strings.Join(texts(r.Hosts), ", ")))
}

// kinds adds the lines that both kinds share once, or else those of each kind.
func (d *differ) kinds(key string, compare func(d *differ, key string, k catalog.Kind)) {
	lines := func(key string, k catalog.Kind) []string {
		s := &differ{prev: d.prev, next: d.next, defaults: d.defaults, seen: map[string]bool{}}
		compare(s, key, k)
		return s.lines
	}
	list := lines(key, catalog.KindHTTP)
	if !slices.Equal(list, lines(key, catalog.KindWebsocket)) {
		list = append(lines(key+".http", catalog.KindHTTP), lines(key+".websocket", catalog.KindWebsocket)...)
	}
	for _, line := range list {
		d.add("%s", line)
	}
}

func (d *differ) outbounds(key string, a, b Outbounds) {
	d.kinds(key, func(d *differ, key string, k catalog.Kind) { d.outbound(key, a.Of(k), b.Of(k)) })
}

func (d *differ) outbound(key string, a, b *Outbound) {
	if a == nil && b == nil {
		return
	}
	p, q := inlinePoolOf(a, d.prev), inlinePoolOf(b, d.next)
	switch {
	case p == nil || q == nil:
		d.change(key, outboundText(a, d.prev), outboundText(b, d.next))
	case isSingleURL(p) && isSingleURL(q):
		d.change(key, outboundText(a, d.prev), outboundText(b, d.next))
		d.change(key+".strategy", p.Strategy, q.Strategy)
		d.change(key+".hash_over", p.HashOver, q.HashOver)
		d.member(" ("+key+")", p.Proxies[0], q.Proxies[0])
	default:
		d.pool(key+".pool", key, *p, *q)
	}
	if a != nil && b != nil {
		d.change(key+".timeout_seconds", a.Timeout, b.Timeout)
	}
}

// inlinePoolOf returns the pool that is written within an outbound, nil if
// there is none.
func inlinePoolOf(w *Outbound, pools map[string]*Pool) *Pool {
	if w == nil || w.Action != Use || pools[w.Pool] == nil || !pools[w.Pool].Inline {
		return nil
	}
	return pools[w.Pool]
}

// outboundText returns an outbound as it is printed in a line, credentials
// masked.
func outboundText(w *Outbound, pools map[string]*Pool) string {
	switch {
	case w == nil:
		return ""
	case w.Action == Direct:
		return "direct"
	case w.Action == Reject:
		return "reject"
	}
	p := inlinePoolOf(w, pools)
	switch {
	case p == nil:
		return w.Pool
	case len(p.Proxies) == 1:
		return p.Proxies[0].URL.String()
	}
	var names []string
	for _, m := range p.Proxies {
		names = append(names, m.Name)
	}
	return "{" + strings.Join(names, ", ") + "}"
}

func outboundsText(w Outbounds, pools map[string]*Pool) string {
	http, ws := outboundText(w.HTTP, pools), outboundText(w.Websocket, pools)
	switch {
	case http == ws:
		return http
	case http == "":
		return "{websocket: " + ws + "}"
	case ws == "":
		return "{http: " + http + "}"
	}
	return "{http: " + http + ", websocket: " + ws + "}"
}

// pool compares two pools. key is the key path, place what the pool is called
// in lines about its members.
func (d *differ) pool(key, place string, a, b Pool) {
	d.change(key+".strategy", a.Strategy, b.Strategy)
	d.change(key+".hash_over", a.HashOver, b.HashOver)
	d.change(key+".limits", a.Limits, b.Limits)
	if (a.Health.Method == "") != (b.Health.Method == "") {
		d.change(key+".health_check", a.Health.Method, b.Health.Method)
	} else {
		d.change(key+".health_check.method", a.Health.Method, b.Health.Method)
		d.change(key+".health_check.interval_seconds", a.Health.Interval, b.Health.Interval)
		d.change(key+".health_check.timeout_seconds", a.Health.Timeout, b.Health.Timeout)
		d.change(key+".health_check.rise", a.Health.Rise, b.Health.Rise)
		d.change(key+".health_check.fall", a.Health.Fall, b.Health.Fall)
	}
	d.change(key+".eject.after", a.Eject.After, b.Eject.After)
	d.change(key+".eject.base_seconds", a.Eject.Base, b.Eject.Base)
	d.change(key+".eject.max_seconds", a.Eject.Max, b.Eject.Max)
	d.change(key+".eject.max_percent", a.Eject.MaxPercent, b.Eject.MaxPercent)
	d.change(key+".list", a.List, b.List)
	if a.List != "" && b.List != "" {
		d.change(key+".scheme", a.Scheme, b.Scheme)
	}
	d.source(key+".list", a, b)
	d.listed(place, a, b)
	place = " (" + place + ")"
	ordered := diffNamed(written(a), written(b), func(m Proxy) string { return m.Name },
		func(mark string, _ int, m Proxy) { d.add("%s proxy %s%s", mark, m.Name, place) },
		func(_ int, m, n Proxy) { d.change("proxy "+n.Name+" url", m.URL, n.URL); d.member(place, m, n) })
	if !ordered {
		d.add("~ %s.proxies: order changed", key)
	}
}

// source compares how the lists of two pools are fetched.
func (d *differ) source(key string, a, b Pool) {
	if a.Source == nil || b.Source == nil {
		d.change(key+".from", sourceText(a.Source), sourceText(b.Source))
		return
	}
	if a.List == b.List && a.Source.URL != b.Source.URL {
		d.add("~ %s.from changed", key) // in what is masked
	}
	d.outbound(key+".via", a.Source.Via, b.Source.Via)
	d.change(key+".refresh_seconds", a.Source.Refresh, b.Source.Refresh)
	d.change(key+".max", a.Source.Max, b.Source.Max)
	if a.NoList != b.NoList {
		d.change(key, listState(a), listState(b))
	}
}

func sourceText(s *ListSource) string {
	if s == nil {
		return ""
	}
	return s.Shown
}

func listState(p Pool) string {
	if p.NoList {
		return "not known yet"
	}
	return "known"
}

// written returns the members of a pool that do not come from its list.
func written(p Pool) []Proxy {
	n := slices.IndexFunc(p.Proxies, func(m Proxy) bool { return m.Listed })
	if n < 0 {
		return p.Proxies
	}
	return p.Proxies[:n]
}

// listed counts what has changed among the members that come from lists.
func (d *differ) listed(place string, a, b Pool) {
	before, passwords := map[Identity]Secret{}, 0
	var order, next []Identity
	for _, m := range a.Proxies[len(written(a)):] {
		before[IdentityOf(m)] = m.URL.Password
		order = append(order, IdentityOf(m))
	}
	added, stay := 0, map[Identity]bool{}
	for _, m := range b.Proxies[len(written(b)):] {
		id := IdentityOf(m)
		switch password, known := before[id]; {
		case !known:
			added++
			continue
		case password != m.URL.Password:
			passwords++
		}
		stay[id] = true
		next = append(next, id)
	}
	order = slices.DeleteFunc(order, func(id Identity) bool { return !stay[id] })
	var words []string
	if added > 0 {
		words = append(words, listText(added)+" added")
	}
	if gone := len(before) - len(stay); gone > 0 {
		if added == 0 {
			words = append(words, listText(gone)+" gone")
		} else {
			words = append(words, strconv.Itoa(gone)+" gone")
		}
	}
	switch {
	case passwords == 1:
		words = append(words, "1 password changed")
	case passwords > 1:
		words = append(words, strconv.Itoa(passwords)+" passwords changed")
	}
	if !slices.Equal(order, next) {
		words = append(words, "order changed")
	}
	if len(words) > 0 {
		d.add("~ %s: %s", place, strings.Join(words, ", "))
	}
}

// member compares two members apart from their URLs.
func (d *differ) member(place string, a, b Proxy) {
	key := "proxy " + b.Name
	if !(automatic(a) && automatic(b)) { // otherwise the line about the URL covers it
		d.changeIn(place, key+" name", a.Name, b.Name)
	}
	d.secret(key+" user", a.URL.User, b.URL.User)
	d.secret(key+" password", a.URL.Password, b.URL.Password)
	d.change(key+" tls.ca_file", a.TLS.CAFile, b.TLS.CAFile)
	d.change(key+" tls.cert_file", a.TLS.CertFile, b.TLS.CertFile)
	d.change(key+" tls.key_file", a.TLS.KeyFile, b.TLS.KeyFile)
	d.change(key+" tls.server_name", a.TLS.ServerName, b.TLS.ServerName)
	d.change(key+" tls.insecure", a.TLS.Insecure, b.TLS.Insecure)
	d.outbound(key+" via", a.Via, b.Via)
	d.changeIn(place, key+" weight", a.Weight, b.Weight)
	d.changeIn(place, key+" tier", a.Tier, b.Tier)
	d.changeIn(place, key+" enabled", a.Enabled, b.Enabled)
	if a.Exit != defaultExit(a) || b.Exit != defaultExit(b) {
		d.changeIn(place, key+" exit", a.Exit, b.Exit)
	}
	if a.Exit == b.Exit {
		d.changeIn(place, key+" exit written", a.ExitSet, b.ExitSet)
	}
	if a.ExitSet == b.ExitSet {
		d.changeIn(place, key+" exit the same on each host", a.ExitStable, b.ExitStable)
	}
	d.changeIn(place, key+" limits", a.Limits, b.Limits)
}

// String returns the budgets as they are written; published ones with their
// values.
func (l Limits) String() string {
	var list []string
	if l.Published {
		list = append(list, "published")
	}
	if l.Connects > 0 || l.Per > 0 {
		list = append(list, strconv.Itoa(l.Connects)+"/"+period(l.Per))
	}
	if l.MaxConnections > 0 {
		list = append(list, "max_connections "+strconv.Itoa(l.MaxConnections))
	}
	if l.Share != (Share{}) {
		list = append(list, "share "+l.Share.String())
	}
	if l.Queue > 0 {
		list = append(list, "queue_seconds "+plain(l.Queue.Seconds()))
	}
	if l.Shared {
		list = append(list, "shared")
	}
	return strings.Join(list, ", ")
}

package convert

import (
	"net"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// schemeWord is what of a protocol or an option may be repeated.
var schemeWord = regexp.MustCompile(`^[A-Za-z0-9+_.-]{0,24}`)

// yaml reads the chains of a configuration of gost 3, those that services use
// first.
func (g gost) yaml(root *yaml.Node) (chains []chain) {
	byName := map[string]*yaml.Node{}
	for _, n := range items(root, "chains") {
		byName[text(n, "name")] = n
	}
	hops := map[string]*yaml.Node{}
	for _, n := range items(root, "hops") {
		hops[text(n, "name")] = n
	}
	var order []*yaml.Node
	use := func(n *yaml.Node) {
		if n != nil && !slices.Contains(order, n) {
			order = append(order, n)
		}
	}
	service := g.yamlServices(root, func(chain string) { use(byName[chain]) })
	served := len(order)
	for _, n := range items(root, "chains") {
		use(n)
	}
	with := 1 // chains with the bypass of the service: the first is the default
	for i, n := range order {
		c := chain{line: n.Line, name: text(n, "name")}
		for _, h := range items(n, "hops") {
			if named := hops[text(h, "name")]; named != nil && get(h, "nodes") == nil {
				h = named
			}
			c.hops = append(c.hops, g.yamlHop(root, h))
		}
		if len(c.hops) > 0 {
			chains = append(chains, c)
		}
		if i < served {
			with = max(1, len(chains))
		}
	}
	if len(order) == 0 { // hops alone
		for _, n := range items(root, "hops") {
			chains = append(chains, chain{n.Line, text(n, "name"), []hop{g.yamlHop(root, n)}, nil})
		}
	}
	for i := range chains[:min(with, len(chains))] {
		chains[i].bypass = service
	}
	return chains
}

// yamlServices calls use with the chains of the services, in order, and returns the
// bypass of the service.
func (g gost) yamlServices(root *yaml.Node, use func(chain string)) (service *bypass) {
	for _, s := range items(root, "services") {
		h := get(s, "handler")
		use(text(h, "chain"))
		for _, name := range words(get(h, "chainGroup"), "chains") {
			use(name)
		}
		for _, part := range []*yaml.Node{s, h} {
			b, lost := g.yamlBypass(root, part)
			if lost || b != nil && (service != nil || len(items(root, "services")) > 1) {
				g.routeComment(g.lose(part.Line, "the bypass of a service"))
			} else if b != nil {
				service = b
			}
		}
	}
	return service
}

func (g gost) yamlHop(root, n *yaml.Node) (h hop) {
	lost := func(line int, format string, args ...any) {
		h.entries = append(h.entries, entry{comment: g.lose(line, format, args...)})
	}
	if s := text(get(n, "selector"), "strategy"); s != "" {
		if h.strategy = gostStrategies[s]; h.strategy == "" {
			lost(n.Line, "hop: its strategy")
		}
	}
	var without bool
	if h.bypass, without = g.yamlBypass(root, n); without {
		lost(n.Line, "hop: its bypass")
	}
	for _, key := range []string{"interface", "sockopts", "resolver", "hosts", "reload", "file", "redis", "http", "plugin"} {
		if v := get(n, key); v != nil {
			lost(v.Line, "hop: its %s", key)
		}
	}
	for _, x := range items(n, "nodes") {
		g.yamlNode(x, &h, lost)
	}
	return h
}

// yamlNode reads a node: its address, the connector that speaks with the proxy and
// the dialer that reaches it.
func (g gost) yamlNode(n *yaml.Node, h *hop, lost func(int, string, ...any)) {
	if n == nil {
		return
	}
	name := quote(text(n, "name"))
	connector, dialer := get(n, "connector"), get(n, "dialer")
	kind, by := strings.ToLower(text(connector, "type")), strings.ToLower(text(dialer, "type"))
	scheme, ok := gostSchemes[kind]
	switch {
	case !ok:
		lost(n.Line, "node %s: connector %s", name, kind)
		return
	case by == "tls" && scheme == "http":
		scheme = "https"
	case by != "" && by != "tcp":
		lost(n.Line, "node %s: dialer %s", name, by)
		return
	}
	for _, key := range keys(n) {
		if !slices.Contains([]string{"name", "addr", "connector", "dialer", "network", "metadata"}, key) {
			lost(n.Line, "node %s: its %s", name, clean(schemeWord.FindString(key)))
		}
	}
	host, port, err := net.SplitHostPort(text(n, "addr"))
	if err != nil {
		lost(n.Line, "node %s: it has no host or no port", name)
		return
	}
	auth := get(connector, "auth")
	u, why := proxyURL(scheme, host, port, text(auth, "username"), text(auth, "password"))
	if why != "" {
		lost(n.Line, "node %s: %s", name, why)
		return
	}
	m := member{url: u}
	if s := text(n, "name"); s != "" {
		m.name = g.members.free(s, "node")
	}
	if scheme == "https" {
		tls := get(dialer, "tls")
		m.insecure = strings.EqualFold(text(tls, "secure"), "false")
		var ok bool
		if m.server, ok = serverName(text(tls, "serverName")); !ok {
			lost(n.Line, "node %s: its serverName, which is no host name", name)
		}
		if text(tls, "secure") == "" {
			g.note("%s", unverified)
		}
		for _, key := range []string{"caFile", "certFile", "keyFile"} {
			if text(tls, key) != "" {
				lost(n.Line, "node %s: its %s; write it under tls", name, key)
			}
		}
	}
	h.entries = append(h.entries, entry{member: &m})
}

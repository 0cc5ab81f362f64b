package convert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/config"
)

// clash is a Clash or mihomo configuration.
type clash struct {
	*document
	proxies   map[string]*clashProxy
	groups    map[string]*clashGroup
	order     []string      // of the proxies
	masked    []*clashProxy // whose names hold a credential
	providers []*clashProvider
	nested    int // how deep the groups that are being read lie in each other
}

// clashProxy is an entry of proxies.
type clashProxy struct {
	name   string
	label  string // what comments call it
	line   int
	member *member // nil: it cannot be carried over
	via    string  // dialer-proxy
	used   bool
	pool   *pool // of the proxy alone, once a rule wants one
}

const clashDirect, clashReject = "DIRECT", "REJECT"

// convertClash makes pools of groups, routes of rules, and the default of MATCH.
func convertClash(d *document, s Source) error {
	root, err := parseYAML(s.Text)
	if err != nil {
		return err
	}
	c := &clash{document: d, proxies: map[string]*clashProxy{}, groups: map[string]*clashGroup{}}
	for _, n := range items(root, "proxies") {
		if name := text(n, "name"); name != "" && c.proxies[name] == nil {
			c.proxy(n, name)
			c.order = append(c.order, name)
		}
	}
	c.readProviders(get(root, "proxy-providers"), s.Read)
	groups := items(root, "proxy-groups")
	if len(c.proxies) == 0 && len(groups) == 0 {
		return errNothing(d.source, d.losses)
	}
	for _, n := range groups {
		if name := text(n, "name"); name != "" && c.groups[name] == nil {
			c.groups[name] = &clashGroup{name: name, node: n}
		}
	}
	for _, n := range groups { // in the order of the file
		if g := c.groups[text(n, "name")]; g != nil && g.node == n {
			c.group(g)
		}
	}
	if mode := strings.ToLower(text(root, "mode")); mode != "" && mode != "rule" {
		d.poolComment(d.lose(get(root, "mode").Line, "mode: %s, in which the rules have no effect", mode))
	}
	if rules := words(root, "rules"); len(rules) > 0 {
		c.rules(items(root, "rules"))
	} else {
		c.withoutRules(groups)
	}
	c.leftOver()
	return nil
}

// withoutRules has everything leave through the first group that can be carried over;
// without one, through a pool of all proxies.
func (c *clash) withoutRules(groups []*yaml.Node) {
	for _, n := range groups {
		if g := c.groups[text(n, "name")]; g != nil && g.ok && g.out != "direct" && g.out != "reject" {
			c.def = g.out
			return
		}
	}
	p := c.newPool("proxies", "")
	for _, name := range c.all() {
		c.addTo(p, name, 0)
	}
	if c.def = p.name; p.members() == 0 {
		c.def, c.defNotes = "reject", append(c.defNotes, "no proxy could be carried over")
	}
}

// leftOver names the proxies that are in no pool.
func (c *clash) leftOver() {
	for _, name := range c.all() {
		if x := c.proxies[name]; !x.used && x.member != nil {
			c.poolComment("No group and no rule uses " + clean(x.label) + ": it is left out.")
		}
	}
}

// clashKnown are the keys of a proxy that are read, or that change nothing for
// proxyd: UDP, and how fast a connection is opened.
var clashKnown = strings.Fields("name type server port username password tls skip-cert-verify sni servername udp tfo mptcp ip-version dialer-proxy " +
	"client-fingerprint benchmark-url benchmark-timeout country")

// proxy reads an entry of proxies, which is called name here.
func (c *clash) proxy(n *yaml.Node, name string) {
	x := &clashProxy{name: name, label: name, line: n.Line, via: text(n, "dialer-proxy")}
	if namesSecret(n, name) {
		x.label = fmt.Sprintf("proxy %d", len(c.proxies)+1)
		c.masked = append(c.masked, x)
	}
	c.proxies[name] = x
	lost := func(format string, args ...any) {
		c.poolComment(c.lose(n.Line, "proxy %s: %s", quote(x.label), fmt.Sprintf(format, args...)))
	}
	u, why := clashURL(n)
	if why != "" {
		lost("%s", why)
		return
	}
	m := &member{url: u}
	x.member = m
	if u.Scheme == config.SchemeDirect {
		return
	}
	m.name = c.members.free(x.label, "proxy")
	if clean(x.label) != m.name {
		m.note = clean(x.label)
	}
	if u.Scheme == config.SchemeHTTPS {
		m.insecure = truth(n, "skip-cert-verify")
		var ok bool
		if m.server, ok = serverName(cmp.Or(text(n, "sni"), text(n, "servername"))); !ok {
			lost("its sni, which is no host name")
		}
	}
	for _, k := range keys(n) {
		if !slices.Contains(clashKnown, k) && k != "<<" {
			lost("its %s", k)
		}
	}
}

// clashURL returns the URL of an entry of proxies; why says what of it is not carried over.
func clashURL(n *yaml.Node) (u config.URL, why string) {
	scheme, tls := strings.ToLower(text(n, "type")), truth(n, "tls")
	switch {
	case scheme == "direct":
		address := string(config.SchemeDirect)
		if name := text(n, "interface-name"); name != "" {
			address = "direct://?interface=" + name
		}
		return parseURL(address)
	case scheme == "http" && tls:
		scheme = "https"
	case scheme == "socks5" && tls:
		return u, "socks5 within TLS"
	case scheme != "http" && scheme != "socks5":
		return u, "type " + scheme
	}
	return proxyURL(scheme, text(n, "server"), text(n, "port"), text(n, "username"), text(n, "password"))
}

// clashSecrets are the keys of a proxy that hold credentials.
var clashSecrets = strings.Fields("username password uuid psk token private-key pre-shared-key auth auth-str auth_str")

// namesSecret reports whether a proxy's name holds one of its credentials.
func namesSecret(n *yaml.Node, name string) bool {
	return slices.ContainsFunc(clashSecrets, func(key string) bool {
		s := text(n, key)
		return len(s) > 2 && strings.Contains(strings.ToLower(name), strings.ToLower(s))
	})
}

// show returns text of the file for a comment, with the labels of proxies in place of
// names that hold a credential.
func (c *clash) show(text string) string {
	for _, x := range c.masked {
		text = strings.ReplaceAll(text, x.name, x.label)
	}
	return text
}

// quote returns a name for a sentence.
func quote(name string) string { return `"` + clean(name) + `"` }

// copyOf returns the member of a proxy with its hop; ok is false if either cannot be
// carried over.
func (c *clash) copyOf(x *clashProxy) (m member, ok bool) {
	x.used = true
	if x.member == nil {
		return member{}, false
	}
	m = *x.member
	if x.via == "" {
		return m, true
	}
	if c.nested++; c.nested > maxNested {
		c.nested--
		return member{}, false
	}
	out, ok := c.outbound(x.via)
	c.nested--
	if !ok || out == "reject" {
		c.poolComment(c.lose(x.line, "proxy %s: its dialer-proxy", quote(x.label)))
		x.member = nil
		return member{}, false
	}
	if m.via = out; out == "direct" {
		m.via = ""
	}
	return m, true
}

// maxNested bounds groups within groups, and hops before hops.
const maxNested = 16

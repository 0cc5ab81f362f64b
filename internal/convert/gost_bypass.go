package convert

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/target"
)

// bypass says which hosts pass a service or a hop of gost. Those that do not pass a
// service are refused; those that do not pass a hop leave the chain before it.
type bypass struct {
	line    int
	only    bool     // a whitelist: its hosts alone pass
	hosts   []string // patterns
	partial bool     // some are not carried over
}

// commandBypass reads the option bypass of a URL: a list, with a ~ before a whitelist.
func (g gost) commandBypass(line int, value string) *bypass {
	value, only := strings.CutPrefix(value, "~")
	if value != "localhost" && bypassFile.MatchString(value) {
		return nil
	}
	b := &bypass{line: line, only: only}
	g.matchers(b, strings.Split(value, ","))
	return b
}

// bypassFile matches what gost 2 reads as a file, if there is one of that name.
var bypassFile = regexp.MustCompile(`^[^,]*\.(txt|conf|cfg|list|lst|csv|dat|ya?ml|json|rules?)$|^\.{0,2}[/\\]|^[^.:,*]+$`)

// serviceBypass reads the bypass of the URLs of services. One of several has no
// counterpart, since there is one default.
func (g gost) serviceBypass(line int, services []string) (b *bypass) {
	for _, s := range services {
		_, query, _ := strings.Cut(s, "?")
		if !strings.Contains(query, "bypass=") {
			continue
		}
		if options, err := url.ParseQuery(query); err == nil && len(services) == 1 {
			b = g.commandBypass(line, options.Get("bypass"))
		}
		if b == nil {
			g.routeComment(g.lose(line, "the bypass of a service"))
		}
	}
	return b
}

// yamlBypass reads the bypasses that a service or a hop names; nil if there is none, or
// one that cannot be carried over.
func (g gost) yamlBypass(root, n *yaml.Node) (b *bypass, lost bool) {
	names := append(words(n, "bypass"), words(n, "bypasses")...)
	switch {
	case len(names) == 0:
		return nil, false
	case len(names) > 1:
		return nil, true
	}
	for _, x := range items(root, "bypasses") {
		if text(x, "name") != names[0] {
			continue
		}
		for _, key := range keys(x) {
			if !slices.Contains([]string{"name", "matchers", "whitelist", "reverse"}, key) {
				return nil, true
			}
		}
		b := &bypass{line: x.Line, only: truth(x, "whitelist") || truth(x, "reverse")}
		g.matchers(b, words(x, "matchers"))
		return b, false
	}
	return nil, true
}

// matchers adds the patterns of a bypass. This machine's names are left out: clients
// reach it themselves.
func (g gost) matchers(b *bypass, list []string) {
	for _, m := range list {
		m = strings.ToLower(strings.TrimSpace(m))
		if m == "" || m == "localhost" {
			continue
		}
		if a, err := netip.ParseAddr(strings.Trim(m, "[]")); err == nil && a.IsLoopback() {
			continue
		}
		hosts := []string{m}
		if domain, ok := strings.CutPrefix(m, "."); ok {
			hosts = []string{domain, "*." + domain}
		}
		for _, h := range hosts {
			p, err := target.ParsePattern(h)
			if err != nil || h == "*" {
				b.partial = true
				g.routeComment(g.lose(b.line, "bypass: an entry that is no name, no address and no range with a mask"))
				break
			}
			if p.Kind != target.CIDR || !p.Prefix.Addr().IsLoopback() {
				b.hosts = append(b.hosts, h)
			}
		}
	}
}

// bypassed makes routes of the bypasses of a chain, and returns what is left to be the
// default. before is that of chain.
func (g gost) bypassed(c chain, before []string, out string) string {
	if before == nil {
		return out
	}
	all, to := []*bypass{c.bypass}, append([]string{"reject"}, before...)
	for _, h := range c.hops {
		all = append(all, h.bypass)
	}
	last := -1
	for i, b := range all {
		if b != nil {
			last = i
		}
	}
	for i, b := range all {
		switch {
		case b == nil:
		case !b.only:
			if len(b.hosts) > 0 {
				g.route(to[i], b.hosts...)
			}
		case i == last && !b.partial && len(b.hosts) > 0:
			g.route(out, b.hosts...)
			return to[i]
		default: // the rest would depend on two lists, or would go past the chain
			g.defNotes = append(g.defNotes, g.lose(b.line, "bypass: its whitelist; all that no route names is rejected"))
			return "reject"
		}
	}
	return out
}

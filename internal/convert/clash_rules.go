package convert

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/target"
)

// lostRule is a rule that cannot be carried over, but of which it is known whether it
// matches a name.
type lostRule struct {
	line    int
	kind    string
	matches func(host string) bool
	target  string
}

// rules makes routes of rules, in their order, and the default of MATCH. A rule whose
// target cannot be carried over rejects its hosts.
func (c *clash) rules(list []*yaml.Node) {
	var lost []lostRule
	elsewhere := false // a lost rule sends hosts elsewhere than direct
	for i, n := range list {
		if n == nil || n.Kind != yaml.ScalarNode {
			continue
		}
		kind, rest, _ := strings.Cut(n.Value, ",")
		kind = strings.ToUpper(strings.TrimSpace(kind))
		parts := strings.Split(rest, ",")
		for j := range parts {
			parts[j] = strings.TrimSpace(parts[j])
		}
		if kind == "MATCH" || kind == "FINAL" {
			c.match(n.Line, parts[0], elsewhere)
			if i+1 < len(list) {
				c.defNotes = append(c.defNotes, "the rules behind MATCH have no effect")
			}
			return
		}
		if len(parts) < 2 {
			c.routeComment(c.lose(n.Line, "rule %s", c.show(n.Value)))
			continue
		}
		hosts := ruleHosts(kind, parts[0])
		if hosts == nil {
			c.routeComment(c.lose(n.Line, "rule %s", c.show(n.Value)))
			elsewhere = elsewhere || !c.leadsDirect(parts)
			if m := nameMatcher(kind, parts[0]); m != nil {
				lost = append(lost, lostRule{n.Line, kind, m, parts[1]})
			}
			continue
		}
		c.rule(n, hosts, parts[1], lost)
	}
	c.defNotes = append(c.defNotes, "there is no MATCH: Clash sends the rest directly")
	c.match(0, clashDirect, elsewhere)
}

// leadsDirect reports whether the target in the parts of a rule is direct.
func (c *clash) leadsDirect(parts []string) bool {
	parts = slices.DeleteFunc(slices.Clone(parts), func(s string) bool { return s == "no-resolve" || s == "src" })
	if len(parts) == 0 {
		return false
	}
	name := parts[len(parts)-1]
	g := c.groups[name]
	return strings.EqualFold(name, clashDirect) || g != nil && g.ok && g.out == "direct"
}

// match sets the default. If it is direct, and lost rules send hosts elsewhere, those
// would go direct too: all is rejected that no route names.
func (c *clash) match(line int, to string, elsewhere bool) {
	out, ok := c.outbound(to)
	if !ok {
		out = "reject"
		c.defNotes = append(c.defNotes, c.lose(line, "rule MATCH: its target %s; all that it would have is rejected", quote(c.show(to))))
	}
	if out == "direct" && elsewhere {
		out = "reject"
		c.defNotes = append(c.defNotes, c.lose(line, "rule MATCH: %s; hosts of rules that are not carried over would go direct, so all that no route names is rejected", quote(c.show(to))))
	}
	c.def = out
}

// rule adds the routes of a rule. Those of its hosts that a lost rule before it decides
// follow that.
func (c *clash) rule(n *yaml.Node, hosts []string, to string, lost []lostRule) {
	for len(hosts) > 0 {
		by, same := decider(lost, hosts[0]), 1
		for same < len(hosts) && decider(lost, hosts[same]) == by {
			same++
		}
		target := to
		if by != nil {
			target = by.target
			c.routeComment("Clash decides these hosts by the " + by.kind + " rule in line " + strconv.Itoa(by.line))
		}
		out, ok := c.outbound(target)
		if !ok {
			out = "reject"
			c.routeComment(c.lose(n.Line, "rule %s: its target %s; its hosts are rejected", c.show(n.Value), quote(c.show(target))))
		}
		c.route(out, hosts[:same]...)
		hosts = hosts[same:]
	}
}

// decider returns the first lost rule that decides a pattern, nil for none.
func decider(lost []lostRule, pattern string) *lostRule {
	if i := slices.IndexFunc(lost, func(l lostRule) bool { return l.covers(pattern) }); i >= 0 {
		return &lost[i]
	}
	return nil
}

// covers reports whether a lost rule decides all names of a pattern. Of a wildcard, two
// names stand for all.
func (l lostRule) covers(pattern string) bool {
	if strings.Contains(pattern, "/") {
		return false
	}
	if domain, ok := strings.CutPrefix(pattern, "*."); ok {
		return l.matches("q7."+domain) && l.matches("0-x.k3."+domain)
	}
	return l.matches(pattern)
}

// ruleHosts returns the patterns of a rule, nil if proxyd has none for it.
func ruleHosts(kind, value string) []string {
	valid := func(list ...string) []string {
		for _, h := range list {
			if _, err := target.ParsePattern(h); err != nil {
				return nil
			}
		}
		return list
	}
	switch kind {
	case "DOMAIN":
		return valid(strings.ToLower(value))
	case "DOMAIN-SUFFIX":
		value = strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(value, "+"), "."))
		return valid(value, "*."+value)
	case "DOMAIN-WILDCARD":
		if rest, ok := strings.CutPrefix(value, "*."); ok && !strings.ContainsAny(rest, "*?") {
			return valid(strings.ToLower(value))
		}
	case "IP-CIDR", "IP-CIDR6":
		p, err := netip.ParsePrefix(value)
		if err != nil {
			return nil
		}
		return valid(p.Masked().String())
	}
	return nil
}

// nameMatcher returns whether a rule that proxyd does not have matches a name, nil if
// that cannot be known here.
func nameMatcher(kind, value string) func(string) bool {
	switch kind {
	case "DOMAIN-KEYWORD":
		return func(host string) bool { return strings.Contains(host, strings.ToLower(value)) }
	case "DOMAIN-REGEX":
		if re, err := regexp.Compile("(?i)" + value); err == nil {
			return re.MatchString
		}
	case "DOMAIN-WILDCARD":
		pattern := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(strings.ToLower(value)))
		if re, err := regexp.Compile("^" + pattern + "$"); err == nil {
			return re.MatchString
		}
	}
	return nil
}

package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxyd/internal/catalog"
)

const (
	envPrefix        = "PROXYD_"
	cryptofeedPrefix = "CRYPTOFEED_PROXY_"
)

// serviceLink matches the variables that Kubernetes sets in every pod for a
// service called proxyd or proxyd-something. With two underscores before PORT it
// is a key: a pool may be called port.
var serviceLink = regexp.MustCompile(`^PROXYD_([A-Z0-9]+_)*(SERVICE_|PORT)`)

// layer lays variables over the tree.
type layer struct {
	root     *node
	errs     Errors
	warnings Errors
}

// variables returns the variables of proxyd and of cryptofeed by their name in
// capitals: their values, and their names as spelled. A name in two spellings
// with two values is an error.
func (l *layer) variables(environ []string) (vars, spelled map[string]string) {
	vars, spelled = map[string]string{}, map[string]string{}
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		upper := strings.ToUpper(name)
		if !ok || !strings.HasPrefix(upper, envPrefix) && !strings.HasPrefix(upper, cryptofeedPrefix) {
			continue
		}
		if old, twice := spelled[upper]; twice && old != name && vars[upper] != value {
			l.errs = append(l.errs, position{env: name}.error("", "is set in another spelling too, to another value", "keep one of the two"))
		}
		vars[upper], spelled[upper] = value, name
	}
	return vars, spelled
}

// overlayEnvironment lays the variables over the tree. Those with PROXYD_
// replace what the file has; those of cryptofeed only add what it lacks.
func overlayEnvironment(root *node, environ []string) (errs, warnings Errors) {
	l := &layer{root: root}
	vars, spelled := l.variables(environ)
	for _, name := range slices.Sorted(maps.Keys(vars)) { // so that a parent comes before its children, and 0 before 1
		switch {
		case name == "PROXYD_CONFIG" || serviceLink.MatchString(name) || name == "CRYPTOFEED_PROXY_ENABLED":
		case strings.HasPrefix(name, envPrefix):
			l.variable(position{env: spelled[name]}, strings.TrimPrefix(name, envPrefix), vars[name], true)
		default:
			l.variable(position{env: spelled[name], pasted: true}, strings.TrimPrefix(name, cryptofeedPrefix), vars[name], false)
		}
	}
	return l.errs, l.warnings
}

// variable sets the key that a variable names.
func (l *layer) variable(at position, path, value string, replace bool) {
	parts := strings.Split(strings.ToLower(path), "__")
	if slices.Contains(parts, "") {
		l.errs = append(l.errs, at.error("", "names no key", "write two underscores between the levels, such as PROXYD_EXCHANGES__BINANCE__URL"))
		return
	}
	if !replace && parts[0] != "default" && parts[0] != "exchanges" && parts[0] != "pools" {
		near := nearest(strings.ReplaceAll(path, "__", "_"), []string{"default_http", "default_websocket", "default_rest", "default_ws", "default", "exchanges"})
		hint := "it is another program's"
		if near != "" {
			hint = "did you mean " + cryptofeedPrefix + strings.ToUpper(strings.ReplaceAll(near, "_", "__")) + "?"
		}
		l.warnings = append(l.warnings, at.error("", "is no variable of cryptofeed, and not read", hint))
		return
	}
	v, errs := envNode(at, strings.Join(parts, "."), value)
	l.errs = append(l.errs, errs...)
	if !replace {
		v.paste()
	}
	if len(errs) == 0 {
		l.overlay(at, parts, v, replace)
	}
}

// overlay sets the value at parts. A mapping is set key by key, as variables
// for its keys would be: what it does not name stays, and null names nothing.
func (l *layer) overlay(at position, parts []string, v *node, replace bool) {
	if v.kind == mapping && len(v.keys) == 0 && replace {
		l.errs = append(l.errs, at.error(strings.Join(parts, "."), "is an empty mapping, which sets nothing", "remove the variable, or write what is to be set, such as direct or reject"))
		return
	}
	if v.kind == mapping && !(replace && v.hasRivals()) {
		for _, e := range v.keys {
			if e.val.kind != null {
				l.overlay(at, append(slices.Clone(parts), e.key), e.val, replace)
			}
		}
		return
	}
	n := l.root
	for i, key := range parts {
		last := i == len(parts)-1
		if n.kind == list {
			if !replace && n.at.env == "" { // the file's own list
				l.warnShadowed(at, n, v)
				return
			}
			next, bad := n.item(at, key, parts[:i])
			if bad != nil {
				l.errs = append(l.errs, *bad)
				return
			}
			if n = next; last {
				*n = *v
				return
			}
			n.makeParent(at, parts[i+1])
			continue
		}
		key = n.canonicalKey(key, parts[:i], at)
		next := n.child(key)
		if next != nil && next.kind == null { // as if it were not written
			next = nil
		}
		if by := n.shadow(key, next, parts[:i], last); !replace && by != nil {
			l.warnShadowed(at, by, v)
			return
		}
		if last {
			replaceRivals(n, key)
			n.set(key, at, v)
			return
		}
		if next == nil {
			replaceRivals(n, key)
			next = &node{kind: null, at: at}
			n.set(key, at, next)
		}
		if next.kind == scalar && isUnion(key, parts[:i]) {
			*next = node{kind: null, at: at}
		}
		next.makeParent(at, parts[i+1])
		n = next
	}
}

// shadow returns what keeps a variable of cryptofeed's from setting a key: the
// key itself if it is set, a key that excludes it, or an outbound for both
// kinds. It is nil if nothing does.
func (n *node) shadow(key string, next *node, above []string, last bool) *node {
	if next != nil && (last || next.kind == scalar) && !next.at.cryptofeed() {
		return next
	}
	for _, r := range rivals[key] {
		if by := n.child(r); by != nil && !by.at.cryptofeed() {
			return by
		}
	}
	if next == nil {
		return n.bothKinds(key, above)
	}
	return nil
}

// cryptofeed reports whether the position is one of cryptofeed's variables.
func (p position) cryptofeed() bool { return p.env != "" && p.pasted }

// warnShadowed warns of a variable that has no effect.
func (l *layer) warnShadowed(at position, by, v *node) {
	if by.kind == scalar && v.kind == scalar && by.text == v.text {
		return
	}
	where := "the file has it" + by.at.location()
	if by.at.env != "" {
		where = by.at.env + " has it"
	}
	w := at.error("", "is set and not used: "+where, "remove the one or the other")
	if !slices.Contains(l.warnings, w) {
		l.warnings = append(l.warnings, w)
	}
}

// item returns a list's item by its number. The number behind the last item
// adds one.
func (n *node) item(at position, number string, above []string) (*node, *Error) {
	i, err := strconv.Atoi(number)
	switch {
	case err != nil || i < 0 || i > len(n.items):
		key := strings.Join(above, ".")
		bad := at.error(key, fmt.Sprintf("is a list, and %s is not the number of an item or of the next one (%d)", quoted(number), len(n.items)), "number them from 0 on, without a gap")
		return nil, &bad
	case i == len(n.items):
		n.items = append(n.items, &node{kind: null, at: at})
	}
	return n.items[i], nil
}

// makeParent turns a node into one with children: a scalar outbound becomes its
// mapping.
func (n *node) makeParent(at position, childKey string) {
	if n.kind == mapping || n.kind == list {
		return
	}
	if _, err := strconv.Atoi(childKey); err == nil {
		*n = node{kind: list, at: at}
		return
	}
	old := *n
	*n = node{kind: mapping, at: old.at}
	if old.kind == scalar {
		n.set("=", old.at, &old)
	}
}

// rivals are the keys of which a mapping has only one: the spellings of an
// outbound, and those of an address.
var rivals = map[string][]string{"url": {"=", "pool"}, "pool": {"=", "url"}, "address": {"="}}

// hasRivals reports whether a mapping has two keys of which it may have one.
func (n *node) hasRivals() bool {
	return slices.ContainsFunc(n.keys, func(e entry) bool {
		return slices.ContainsFunc(rivals[e.key], func(r string) bool { return n.child(r) != nil })
	})
}

func replaceRivals(n *node, key string) {
	for _, r := range rivals[key] {
		n.remove(r)
	}
}

// envNode returns a variable's value as a node: JSON if it is valid JSON, else
// text.
func envNode(at position, key, value string) (*node, Errors) {
	text := &node{kind: scalar, at: at, text: value}
	if !strings.HasPrefix(value, "[") && !strings.HasPrefix(value, "{") || !json.Valid([]byte(value)) {
		return text, nil
	}
	var doc yaml.Node // JSON is YAML, and its nodes show repeated keys
	if err := yaml.Unmarshal([]byte(value), &doc); err != nil {
		return &node{kind: null, at: at}, Errors{at.error(key, yamlError("", err).Message, "fix the JSON")}
	}
	var p parser
	n := p.node(&doc, key, 0)
	n.relocate(at)
	for i := range p.errs {
		p.errs[i] = at.error(p.errs[i].Key, p.errs[i].Message, p.errs[i].Hint)
	}
	return n, p.errs
}

func (n *node) relocate(at position) {
	n.at = at
	for i := range n.keys {
		n.keys[i].at = at
		n.keys[i].val.relocate(at)
	}
	for _, c := range n.items {
		c.relocate(at)
	}
}

// otherSpelling is the alias of a key, and the key of an alias.
var otherSpelling = map[string]string{"http": "rest", "rest": "http", "websocket": "ws", "ws": "websocket"}

// canonicalKey returns the spelling that a mapping already uses for a key, so
// that a variable meets the key that the file has under an alias. Two variables
// with the same prefix that mean the same key are left for a later check to
// refuse.
func (n *node) canonicalKey(key string, above []string, at position) string {
	if n.child(key) != nil {
		return key
	}
	i := slices.IndexFunc(n.keys, func(e entry) bool {
		return sameKey(e.key, key, above) && (e.at.env == "" || e.at.pasted != at.pasted)
	})
	if i < 0 {
		return key
	}
	return n.keys[i].key
}

func sameKey(a, b string, above []string) bool {
	switch {
	case !areNames(above):
		return otherSpelling[a] == b
	case above[0] != "exchanges":
		return false
	}
	x, ok := catalog.Embedded().Resolve(a)
	y, known := catalog.Embedded().Resolve(b)
	return ok && known && x == y
}

// areNames reports whether the keys below a path are names of the user's.
func areNames(above []string) bool {
	return len(above) == 1 && (above[0] == "exchanges" || above[0] == "pools")
}

// bothKinds returns the outbound that the file has for both kinds, which covers
// the kind that key names too. It is nil if there is none.
func (n *node) bothKinds(key string, above []string) *node {
	if otherSpelling[key] == "" || areNames(above) {
		return nil
	}
	for _, k := range []string{"=", "url", "pool"} {
		if outbound := n.child(k); outbound != nil && outbound.kind != null && outbound.at.env == "" {
			return outbound
		}
	}
	return nil
}

// isUnion reports whether text at a key excludes a mapping there: a pool's name
// is not part of an inline pool, nor is "published" part of budgets, nor "auto" of
// a window.
func isUnion(key string, above []string) bool {
	return !areNames(above) && (key == "pool" || key == "limits" || key == "silence")
}

// address returns the address of a mapping, or the text that a variable turned
// into one.
func (n *node) address() *node {
	if a := n.child("address"); a != nil {
		return a
	}
	return n.child("=")
}

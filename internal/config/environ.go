package config

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	envPrefix        = "PROXYD_"
	cryptofeedPrefix = "CRYPTOFEED_PROXY_"
)

// serviceLink matches the variables that Kubernetes puts into every pod for a
// service called proxyd, or proxyd-something. What has two underscores before
// that is a key: a pool may be called port.
var serviceLink = regexp.MustCompile(`^PROXYD_([A-Z0-9]+_)*(SERVICE_|PORT)`)

// layEnvironment lays the variables over the tree: those with PROXYD_ replace
// what the file says, those of cryptofeed only fill what it leaves open.
func layEnvironment(root *node, environ []string) (faults Faults) {
	vars := map[string]string{}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			vars[name] = value
		}
	}
	names := make([]string, 0, len(vars))
	for name := range vars {
		names = append(names, name)
	}
	sort.Strings(names) // so that a parent comes before its children, and 0 before 1
	for _, name := range names {
		switch {
		case name == "PROXYD_CONFIG" || serviceLink.MatchString(name) || name == "CRYPTOFEED_PROXY_ENABLED":
		case strings.HasPrefix(name, envPrefix):
			faults = append(faults, lay(root, name, strings.TrimPrefix(name, envPrefix), vars[name], true)...)
		case strings.HasPrefix(name, cryptofeedPrefix):
			faults = append(faults, lay(root, name, strings.TrimPrefix(name, cryptofeedPrefix), vars[name], false)...)
		}
	}
	return faults
}

// lay puts one variable in its place.
func lay(root *node, name, path, value string, replace bool) Faults {
	at := place{env: name}
	prefix := strings.TrimSuffix(name, path)
	parts := strings.Split(strings.ToLower(path), "__")
	if slices.Contains(parts, "") {
		return Faults{at.fault("", "names no key", "write two underscores between the levels, such as PROXYD_EXCHANGES__BINANCE__URL")}
	}
	n := root
	for i, key := range parts {
		last := i == len(parts)-1
		if n.kind == list {
			if !replace && n.at.env == "" { // the file's own list
				return nil
			}
			next, fault := n.item(at, key, parts[:i])
			if fault != nil {
				return fault
			}
			if n = next; last {
				v, faults := envNode(at, strings.Join(parts, "."), value)
				*n = *v
				return faults
			}
			n.open(at, parts[i+1])
			continue
		}
		key = n.spelled(key, parts[:i], prefix)
		next := n.child(key)
		if next != nil && next.kind == null { // as if it were not written
			next = nil
		}
		if !replace && (next != nil && (last || next.kind == scalar) || rival(n, key) || next == nil && n.bothKinds(key, parts[:i])) {
			return nil
		}
		if last {
			replaceRivals(n, key)
			v, faults := envNode(at, strings.Join(parts, "."), value)
			n.set(key, at, v)
			return faults
		}
		if next == nil {
			replaceRivals(n, key)
			next = &node{kind: null, at: at}
			n.set(key, at, next)
		}
		if next.kind == scalar && noPart(key, parts[:i]) {
			*next = node{kind: null, at: at}
		}
		next.open(at, parts[i+1])
		n = next
	}
	return nil
}

// item is a list's item by its number; the one behind the last is made.
func (n *node) item(at place, number string, above []string) (*node, Faults) {
	i, err := strconv.Atoi(number)
	switch {
	case err != nil || i < 0 || i > len(n.items):
		key := strings.Join(above, ".")
		return nil, Faults{at.fault(key, fmt.Sprintf("is a list, and %s is not the number of an item or of the next one (%d)", quoted(number), len(n.items)), "number them from 0 on, without a gap")}
	case i == len(n.items):
		n.items = append(n.items, &node{kind: null, at: at})
	}
	return n.items[i], nil
}

// open makes a node one that has children: a scalar way becomes its mapping.
func (n *node) open(at place, childKey string) {
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

// rivals are the keys of which a mapping has one: a way's spellings, and those
// of an address.
var rivals = map[string][]string{"url": {"=", "pool"}, "pool": {"=", "url"}, "address": {"="}}

func rival(n *node, key string) bool {
	for _, r := range rivals[key] {
		if n.child(r) != nil {
			return true
		}
	}
	return false
}

func replaceRivals(n *node, key string) {
	for _, r := range rivals[key] {
		n.remove(r)
	}
}

// envNode is a variable's value: JSON if it looks and parses like it, else text
// that is read as what its key wants.
func envNode(at place, key, value string) (*node, Faults) {
	text := &node{kind: scalar, at: at, text: value}
	if !strings.HasPrefix(value, "[") && !strings.HasPrefix(value, "{") || !json.Valid([]byte(value)) {
		return text, nil
	}
	var doc yaml.Node // JSON is YAML, and its nodes tell a key that stands twice
	if err := yaml.Unmarshal([]byte(value), &doc); err != nil {
		return &node{kind: null, at: at}, Faults{at.fault(key, yamlFault("", err).What, "mend the JSON")}
	}
	var p parser
	n := p.node(&doc, key, 0)
	n.relocate(at)
	for i := range p.faults {
		p.faults[i] = at.fault(p.faults[i].Key, p.faults[i].What, p.faults[i].Do)
	}
	return n, p.faults
}

func (n *node) relocate(at place) {
	n.at = at
	for i := range n.keys {
		n.keys[i].at = at
		n.keys[i].val.relocate(at)
	}
	for _, c := range n.items {
		c.relocate(at)
	}
}

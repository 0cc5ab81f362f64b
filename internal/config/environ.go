package config

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

const (
	envPrefix        = "PROXYD_"
	cryptofeedPrefix = "CRYPTOFEED_PROXY_"
)

// serviceLink matches the variables that Kubernetes puts into every pod for a
// service called proxyd, or proxyd-something.
var serviceLink = regexp.MustCompile(`^PROXYD_([A-Z0-9_]+_)?(SERVICE_.*|PORT(_.*)?)$`)

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
				*n = *envNode(at, value)
				return nil
			}
			n.open(at, parts[i+1])
			continue
		}
		next := n.child(key)
		if next != nil && next.kind == null { // as if it were not written
			next = nil
		}
		if !replace && (next != nil && (last || next.kind == scalar) || rival(n, key)) {
			return nil
		}
		if last {
			replaceRivals(n, key)
			n.set(key, at, envNode(at, value))
			return nil
		}
		if next == nil {
			replaceRivals(n, key)
			next = &node{kind: null, at: at}
			n.set(key, at, next)
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

// rivals are the keys of which a mapping has one: a way's spellings.
var rivals = map[string][]string{"url": {"=", "pool"}, "pool": {"=", "url"}}

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
func envNode(at place, value string) *node {
	if strings.HasPrefix(value, "[") || strings.HasPrefix(value, "{") {
		if n, faults := parse("", []byte(value)); len(faults) == 0 && n != nil {
			n.relocate(at)
			return n
		}
	}
	return &node{kind: scalar, at: at, text: value}
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

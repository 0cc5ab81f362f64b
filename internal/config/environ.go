package config

import (
	"regexp"
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
func layEnvironment(root *node, environ []string) {
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
			lay(root, name, strings.TrimPrefix(name, envPrefix), vars[name], true)
		case strings.HasPrefix(name, cryptofeedPrefix):
			lay(root, name, strings.TrimPrefix(name, cryptofeedPrefix), vars[name], false)
		}
	}
}

// lay puts one variable in its place.
func lay(root *node, name, path, value string, replace bool) {
	at := place{env: name}
	parts := strings.Split(strings.ToLower(path), "__")
	n := root
	for i, key := range parts {
		last := i == len(parts)-1
		if index, err := strconv.Atoi(key); err == nil && n.kind == list && index >= 0 && index <= len(n.items) {
			if index == len(n.items) {
				n.items = append(n.items, &node{kind: null, at: at})
			}
			if last {
				n.items[index] = envNode(at, value)
				return
			}
			n = n.items[index]
			n.open(at, parts[i+1])
			continue
		}
		if n.kind != mapping {
			n.open(at, key)
		}
		next := n.child(key)
		if !replace && (last && next != nil || next != nil && next.kind != mapping || rival(n, key)) {
			return
		}
		if last {
			replaceRivals(n, key)
			n.set(key, at, envNode(at, value))
			return
		}
		if next == nil {
			replaceRivals(n, key)
			next = &node{kind: null, at: at}
			n.set(key, at, next)
		}
		next.open(at, parts[i+1])
		n = next
	}
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

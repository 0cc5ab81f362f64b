package config

import (
	"slices"

	"proxyd/internal/catalog"
)

// otherSpelling is the alias of a key, and the key of an alias.
var otherSpelling = map[string]string{"http": "rest", "rest": "http", "websocket": "ws", "ws": "websocket"}

// canonicalKey is how a mapping writes a key already, so that a variable meets what
// the file says of it under its alias. Two variables with one prefix that mean
// the same are left to be found at fault.
func (n *node) canonicalKey(key string, above []string, at place) string {
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

// bothKinds is the outbound that the file gives for both kinds, which answers
// for the kind that key names too; nil if there is none.
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

// isUnion reports whether text at a key is no part of the mapping there: a pool's
// name says nothing of an inline pool, nor published of budgets.
func isUnion(key string, above []string) bool {
	return !areNames(above) && (key == "pool" || key == "limits")
}

// address is that of a mapping, or the text that a variable made one of.
func (n *node) address() *node {
	if a := n.child("address"); a != nil {
		return a
	}
	return n.child("=")
}

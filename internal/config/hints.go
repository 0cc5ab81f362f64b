package config

import (
	"reflect"
	"slices"
	"strings"
)

// validName reports whether s, in lower case, may name a pool, a member or an
// exchange: [a-z0-9]+([._-][a-z0-9]+)*.
func validName(s string) bool {
	sep := true // a separator may not come first, last, or twice
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			sep = false
		case (c == '.' || c == '_' || c == '-') && !sep:
			sep = true
		default:
			return false
		}
	}
	return !sep
}

// DidYouMean returns "; did you mean x?", or "" if no known word is near.
func DidYouMean(word string, known []string) string {
	near := nearest(word, known)
	for head := strings.ToLower(word); near == ""; { // binance_spot is binance with more behind it
		i := strings.LastIndexAny(head, "_-.")
		if i < 0 {
			break
		}
		if head = head[:i]; slices.Contains(known, head) {
			near = head
		}
	}
	if near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// nearest returns the known word with the smallest distance, at most a third of
// the letters, "" if there is none.
func nearest(word string, known []string) string {
	word = strings.ToLower(word)
	best, slips := "", max(1, min(3, len(word)/3))+1
	for _, k := range known {
		if d := distance(word, k, slips); d < slips {
			best, slips = k, d
		}
	}
	return best
}

// distance returns the number of insertions, deletions, substitutions and swaps
// of neighbours (optimal string alignment), or most if it is most or more.
func distance(a, b string, most int) int {
	if d := len(a) - len(b); d >= most || -d >= most {
		return most
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

const unknownKey = "unknown key"

// unknown reports an unknown key with a hint: the nearest known key, or the
// level where the key belongs.
func (s *shaper) unknown(at position, path, key string, val *node, fields map[string]reflect.StructField) {
	hint := "remove it; known here: " + strings.Join(fieldNames(fields), ", ")
	switch near := nearest(key, fieldNames(fields)); {
	case hasKey(fields, "weight") && val.kind == scalar && isURL(val.text) && validName(key) && near == "":
		hint = "write it as {name: " + key + ", url: ...}"
	case path != "" && foreign[key].hint != "" && hasKey(fields, foreign[key].beside):
		hint = foreign[key].hint
	case (key == "fallback" || key == "backup") && hasKey(fields, "pool"):
		hint = "write a pool: {proxies: [...]}, and " + foreign[key].hint
	case path == "" && s.inBlock:
		hint = "if this is another program's file, copy the proxy block into its own file"
	case path != "" && hasField(fileType, key) && securityKeys[key]:
		hint = "remove it; " + key + " is a key of the first column too, and decides there for every connection"
	case path != "" && hasField(fileType, key):
		hint = "did you mean the top-level key " + key + "? move it out to the first column"
	case innerKey(fields, key) != "" && !securityKeys[key]:
		hint = "did you mean " + join(path, innerKey(fields, key)) + "." + key + "? move it one level in"
	case near != "":
		hint = "did you mean " + near + "?"
	}
	s.errs = append(s.errs, at.error(join(path, key), unknownKey, hint))
}

// foreign are keys of other programs that are spelled differently here. The hint
// applies to mappings that have the key beside.
var foreign = map[string]struct{ beside, hint string }{
	"fallback": {"proxies", "give the members that are used last tier: 2; direct may be one of them"},
	"backup":   {"proxies", "give the members that are used last tier: 2; direct may be one of them"},
	"servers":  {"proxies", "did you mean proxies?"}, "members": {"proxies", "did you mean proxies?"}, "urls": {"proxies", "did you mean proxies?"},
	"server": {"url", inURL}, "host": {"url", inURL}, "port": {"url", inURL}, "user": {"url", inURL}, "username": {"url", inURL},
	"password": {"url", inURL + ", best as ${NAME}"},
	"timeout":  {"timeout_seconds", "did you mean timeout_seconds?"},
}

const inURL = "write it in the URL, url: socks5://user:password@host:1080"

// securityKeys are the keys that decide where connections go, and who may open
// them. No hint suggests to move one of them: elsewhere it could apply to more
// than was meant.
var securityKeys = map[string]bool{"enabled": true, "default": true, "exchanges": true, "routes": true, "allow_private": true, "listen": true, "admin": true,
	"http": true, "rest": true, "websocket": true, "ws": true, "url": true, "pool": true, "proxies": true, "use": true, "via": true, "hosts": true, "allow": true, "address": true, "auth": true, "users": true, "insecure": true, "token": true, "pprof": true}

func hasKey(fields map[string]reflect.StructField, key string) bool {
	_, ok := fields[key]
	return ok
}

// innerKey returns the key below which another one would be right.
func innerKey(fields map[string]reflect.StructField, key string) string {
	for _, name := range fieldNames(fields) {
		if inner := structOf(fields[name].Type); inner != nil && hasField(inner, key) {
			return name
		}
	}
	return ""
}

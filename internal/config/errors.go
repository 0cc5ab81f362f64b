package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"proxyd/internal/target"
)

// Error is one thing that is wrong, or, as a warning, that deserves attention.
type Error struct {
	File    string `json:"file,omitempty"` // "" when the place is an environment variable or the whole
	Line    int    `json:"line,omitempty"` // from 1; 0 when there is no line
	Col     int    `json:"column,omitempty"`
	Var     string `json:"env,omitempty"` // the environment variable that is wrong
	Key     string `json:"key,omitempty"` // key path, such as "exchanges.binance.http"
	Message string `json:"what"`          // what is wrong
	Hint    string `json:"do,omitempty"`  // what to do
}

// String returns "FILE:LINE:COL: key.path: message; hint".
func (f Error) String() string {
	var b strings.Builder
	switch {
	case f.Var != "":
		b.WriteString("env " + f.Var + ": ")
	case f.File != "" && f.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Line, f.Col)
	case f.File != "":
		b.WriteString(f.File + ": ")
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Message)
	if f.Hint != "" {
		b.WriteString("; " + f.Hint)
	}
	return b.String()
}

// Errors is everything that is wrong with a configuration, in file order.
type Errors []Error

// Error returns one error a line.
func (f Errors) Error() string {
	lines := make([]string, len(f))
	for i, x := range f {
		lines[i] = x.String()
	}
	return strings.Join(lines, "\n")
}

// report collects what is wrong with a configuration, and what an operator
// should know of it.
type report struct {
	path     string
	at       map[string]position
	shaped   Errors // what is wrong with the shape: what is missing there is not missed again
	errs     Errors
	warnings Errors
}

// position returns where a key was written, or else the nearest key around it.
func (rep *report) position(key string) position {
	for k := key; k != ""; {
		if p, ok := rep.at[k]; ok {
			return p
		}
		if name, ok := strings.CutSuffix(k, nameItself); ok { // from a variable
			k = name
			continue
		}
		i := strings.LastIndexAny(k, ".[")
		if i < 0 {
			break
		}
		k = k[:i]
	}
	return position{file: rep.path}
}

// errorf adds an error about a value, unless its shape is wrong, which is
// already reported.
func (rep *report) errorf(key, hint, format string, args ...any) {
	if slices.ContainsFunc(rep.shaped, func(f Error) bool { return f.Key == key }) {
		return
	}
	rep.errs = append(rep.errs, rep.position(key).error(key, fmt.Sprintf(format, args...), hint))
}

// missingf adds an error about something missing, unless it is there in a wrong
// shape.
func (rep *report) missingf(key, hint, format string, args ...any) {
	for _, f := range rep.shaped {
		if below, ok := strings.CutPrefix(f.Key, key); ok && (below == "" || below[0] == '.' || below[0] == '[') {
			return
		}
	}
	rep.errorf(key, hint, format, args...)
}

// nameErrorf adds an error about a name itself, not its value.
func (rep *report) nameErrorf(key, hint, format string, args ...any) {
	rep.errs = append(rep.errs, rep.position(key+nameItself).error(key, fmt.Sprintf(format, args...), hint))
}

func (rep *report) warnf(key, hint, format string, args ...any) {
	rep.warnings = append(rep.warnings, rep.position(key).error(key, fmt.Sprintf(format, args...), hint))
}

func toDuration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func (rep *report) seconds(key string, v *float64, def, low, high float64) time.Duration {
	if v == nil {
		return toDuration(def)
	}
	if *v != 0 && *v < low || *v > high || *v < 0 || (*v == 0 && low > 0) {
		rep.errorf(key, "", "%s is out of range: must be from %s to %s seconds", plain(*v), plain(low), plain(high))
	}
	return toDuration(*v)
}

// plain returns a number without an exponent.
func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func (rep *report) number(key string, v *float64, def, low, high float64) float64 {
	if v == nil {
		return def
	}
	if *v < low || *v > high {
		rep.errorf(key, "", "%s is out of range: must be from %s to %s", plain(*v), plain(low), plain(high))
	}
	return *v
}

func (rep *report) whole(key string, v *int, def, low, high int) int {
	if v == nil {
		return def
	}
	if *v < low || *v > high {
		rep.errorf(key, "", "%d is out of range: must be from %d to %d", *v, low, high)
	}
	return *v
}

func (rep *report) prefixes(key string, list []string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range list {
		p, err := target.ParsePattern(s)
		if err != nil || p.Kind != target.CIDR {
			rep.errorf(fmt.Sprintf("%s[%d]", key, i), "write it as 10.0.0.0/8 or 10.1.2.3", "%s is not a CIDR or an address", quoted(s))
			continue
		}
		out = append(out, p.Prefix)
	}
	return out
}

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

package config

import (
	"fmt"
	"net/netip"
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

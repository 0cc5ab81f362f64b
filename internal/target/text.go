package target

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxQuoted bounds what an error repeats of its input.
const maxQuoted = 48

// fault is an error about what was written: `host "a b" has a space in it`.
func fault(noun, input, what string) error {
	return errors.New(noun + " " + quote(input) + " " + what)
}

// quote makes foreign input fit for a log line, a header and a human: printable
// ASCII, short, and without what may be a password.
func quote(s string) string {
	cut := ""
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s, cut = s[i:], "***"
	}
	shown := ""
	for s != "" {
		_, n := utf8.DecodeRuneInString(s)
		q := strconv.QuoteToASCII(s[:n])
		if q = q[1 : len(q)-1]; len(shown)+len(q) > maxQuoted {
			shown += "..."
			break
		}
		shown, s = shown+q, s[n:]
	}
	return `"` + cut + shown + `"`
}

// badByte says why a byte cannot stand in a host.
func badByte(c byte) string {
	switch {
	case c < ' ' || c == 0x7f:
		return "has a control character in it"
	case c == ' ':
		return "has a space in it"
	case c == '@':
		return "has user information in front: a target is a host and a port alone"
	case c == '/' || c == '\\':
		return "has a slash in it: write the host alone"
	case c == '[' || c == ']':
		return "has a bracket in it: only a whole IPv6 address stands in brackets"
	case c == '%':
		return "has a percent sign in it: zones and escapes are not accepted"
	case c == ':':
		return "has a colon in it and is not an IPv6 address"
	case c == '*':
		return "has a * in it"
	case c > 0x7f:
		return "is not a valid name"
	default:
		return "has a " + strconv.QuoteRune(rune(c)) + " in it"
	}
}

package target

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxQuoted bounds what an error repeats of its input.
const maxQuoted = 48

// syntaxError is about what was written: `host "a b" has a space in it`.
type syntaxError struct{ noun, input, what string }

func (e *syntaxError) Error() string { return e.noun + " " + quote(e.input) + " " + e.what }

func newSyntaxError(noun, input, what string) error { return &syntaxError{noun, input, what} }

// Reason returns an error of this package without the text that it is about:
// "host has a space in it". It is for text that could hold a credential.
func Reason(err error) string {
	var e *syntaxError
	if errors.As(err, &e) {
		return e.noun + " " + e.what
	}
	return err.Error()
}

// quote makes foreign input safe for a log line, a header and a reader:
// printable ASCII, short, and without a possible password, which stands before
// an @ or behind host and port in a proxy list (host:port:user:password).
func quote(s string) string {
	cut := ""
	if i := strings.IndexAny(s, "|;"); i >= 0 {
		return strconv.QuoteToASCII(s[:min(i, maxQuoted)] + s[i:i+1] + "***")
	}
	address, _, _ := strings.Cut(s, "%") // with its zone
	if i := strings.IndexAny(s, ":, "); i >= 0 && strings.ContainsAny(s[i+1:], ":,@ ") && strings.Trim(address, "0123456789abcdefABCDEF:.[]") != "" {
		return strconv.QuoteToASCII(s[:min(i, maxQuoted)] + s[i:i+1] + "***")
	}
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

// badByte returns why a byte cannot be in a host.
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

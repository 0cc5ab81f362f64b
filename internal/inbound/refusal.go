package inbound

import (
	"fmt"
	"strings"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/printable"
)

// refusal is why a front end refuses a request by itself; a Refusal is made from
// it when the refusal is recorded.
type refusal struct {
	class  failure.Class
	status int    // of HTTP when it is not the class's own
	text   string // what is wrong
	hint   string // what to do
	proxy  string // the error type of Proxy-Status when it is not the class's own
	delay  time.Duration
}

// Error returns the text.
func (f *refusal) Error() string { return f.text }

// bad returns a malformed request.
func bad(text string) *refusal { return &refusal{class: failure.BadRequest, text: text} }

// badStatus returns one with a status of its own.
func badStatus(status int, text, hint string) *refusal {
	return &refusal{class: failure.BadRequest, status: status, text: text, hint: hint}
}

// cleanLine returns formatted text, foreign parts included, as one line of ASCII.
func cleanLine(format string, v ...any) string {
	return printable.ASCII(strings.TrimSpace(fmt.Sprintf(format, v...)))
}

// quote repeats a little of what a client wrote.
func quote(b []byte) string { return `"` + printable.Cut(printable.ASCII(redact(string(b))), 40) + `"` }

// redact removes what may be a secret of the client's: user information, and
// all behind a question mark.
func redact(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = "***" + s[i:]
	}
	if i := strings.IndexByte(s, '?'); i >= 0 {
		s = s[:i+1] + "..."
	}
	return s
}

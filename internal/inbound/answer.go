package inbound

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/printable"
	"proxyd/internal/tunnel"
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

// established opens a tunnel: this and nothing else, in one write. Some
// clients take a body, a length or a second write for something else.
const established = "HTTP/1.1 200 Connection established\r\n\r\n"

// maxReason bounds the reason phrase. It is all that many clients show a human.
const maxReason = 120

// answer is how a refusal is put to an HTTP client.
type answer struct {
	*tunnel.Refusal
	proxy string // the error type of Proxy-Status when it is not the class's own
	head  bool   // the request was HEAD: no body
	keep  bool   // the connection stays
}

// status returns the refusal's own status, else its class's.
func (a answer) status() int {
	if a.Status != 0 {
		return a.Status
	}
	return failure.AnswerTo(a.Class).HTTP
}

// bytes returns the whole answer. Foreign text is cleaned:
// nothing in it can end a line.
func (a answer) bytes() []byte {
	table := failure.AnswerTo(a.Class)
	status, text := a.status(), printable.ASCII(a.Text)
	body := text
	if a.Hint != "" {
		body += "; " + printable.ASCII(a.Hint)
	}
	body += "\n"
	proxy := cmp.Or(a.proxy, a.ProxyError, table.Proxy)
	b := make([]byte, 0, 512+len(body)+len(text))
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, printable.Cut("proxyd: "+string(a.Class)+": "+text, maxReason)...)
	b = append(b, "\r\nProxy-Status: proxyd; error="...)
	b = append(b, proxy...)
	b = append(b, "; details="...)
	b = appendString(b, text)
	b = append(b, "\r\nX-Proxyd-Error: class="...)
	b = append(b, a.Class...)
	b = append(b, " exchange="...)
	b = append(b, orDash(a.Target.Exchange)...)
	b = append(b, " upstream="...)
	b = append(b, orDash(a.Upstream)...)
	b = append(b, " tried="...)
	b = strconv.AppendInt(b, int64(len(a.Tried)), 10)
	b = append(b, "\r\nX-Proxyd-Request-Id: "...)
	b = append(b, printable.ASCII(a.ID)...)
	b = append(b, "\r\n"...)
	b = a.appendStatusFields(b, status, table)
	b = append(b, "Content-Type: text/plain\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	if a.keep {
		b = append(b, "\r\nConnection: keep-alive\r\n\r\n"...)
	} else {
		b = append(b, "\r\nConnection: close\r\n\r\n"...)
	}
	if !a.head {
		b = append(b, body...)
	}
	return b
}

// appendStatusFields adds the fields that only some answers carry.
func (a answer) appendStatusFields(b []byte, status int, table failure.Answer) []byte {
	switch status {
	case http.StatusProxyAuthRequired:
		b = append(b, "Proxy-Authenticate: Basic realm=\"proxyd\"\r\n"...)
	case http.StatusMethodNotAllowed:
		b = append(b, "Allow: CONNECT, GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"...)
	}
	if table.RetryAfter {
		seconds := max(1, int64((a.RetryAfter+time.Second-1)/time.Second))
		b = append(b, "Retry-After: "...)
		b = strconv.AppendInt(b, seconds, 10)
		b = append(b, "\r\n"...)
	}
	return b
}

// appendString appends an sf-string (RFC 8941 section 3.3.3) of printable ASCII.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// orDash returns a name as one word, "-" for none.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return strings.ReplaceAll(printable.ASCII(s), " ", "_")
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

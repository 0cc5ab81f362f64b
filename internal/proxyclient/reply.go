package proxyclient

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"proxyd/internal/failure"
	"proxyd/internal/printable"
)

// headScan looks for the end of a response head that arrives in pieces. It fails
// at the first byte that cannot belong to one, so that a server of another
// protocol, which may wait for us, is recognised immediately.
type headScan struct {
	seen   int
	fields bool // past the status line
}

// statusShape is the beginning of every status line; 'x' and 'N' are digits.
const statusShape = "HTTP/1.x NNN"

// more looks at all of the bytes so far. end is the length of the head once it
// is whole, else 0; ok is false when the bytes are no HTTP/1 response.
func (s *headScan) more(b []byte) (end int, ok bool) {
	for s.seen < len(b) {
		i := s.seen
		c := b[i]
		if i < len(statusShape) {
			ok = c == statusShape[i]
			switch statusShape[i] {
			case 'x':
				ok = c == '0' || c == '1'
			case 'N':
				ok = c >= '0' && c <= '9'
			}
		} else {
			ok = s.headByte(b, i)
		}
		if !ok {
			return 0, false
		}
		s.seen++
		s.fields = s.fields || c == '\n'
		if c == '\n' && i > 0 && (b[i-1] == '\n' || (b[i-1] == '\r' && b[i-2] == '\n')) {
			return s.seen, true
		}
	}
	return 0, true
}

// headByte reports whether a byte may follow the status code. A reason phrase may hold
// anything: it is cleaned before it is quoted.
func (s *headScan) headByte(b []byte, i int) bool {
	c := b[i]
	if i == len(statusShape) { // a fourth digit, say
		return c == ' ' || c == '\r' || c == '\n'
	}
	if b[i-1] == '\r' {
		return c == '\n'
	}
	return !s.fields || c >= ' ' && c != 0x7f || c == '\t' || c == '\r' || c == '\n'
}

// reply holds what matters here of a response head.
type reply struct {
	status     int
	reason     string   // as it came: see quote
	challenges []string // Proxy-Authenticate, the schemes in lower case
	retryAfter time.Duration
	hasRetry   bool
	why        string // why the upstream refuses, as it came; see whyFields
	rank       int    // of the field that why is from; 0: there is none
	length     int    // of the body; -1 when it is chunked, 0 when there is none or it is not said
	words      bool   // the body is said to be plain text or JSON
	notWords   bool   // it is said to be HTML or the like
}

// whyFields are fields in which proxies say why they refuse; the first that is
// there is quoted.
var whyFields = []string{"X-Brd-Err-Msg", "X-Brd-Error", "X-Luminati-Error", "X-Proxy-Error", "Proxy-Status", "X-Squid-Error"}

// maxWhy bounds what is quoted of that.
const maxWhy = 120

// parseReply reads a whole head, up to and with its empty line.
func parseReply(head []byte) (reply, bool) {
	line, rest, _ := bytes.Cut(head, []byte("\n"))
	line = bytes.TrimRight(line, "\r")
	var r reply
	r.status, _ = strconv.Atoi(string(line[len(statusShape)-3 : len(statusShape)]))
	if r.status < 100 || r.status > 599 {
		return r, false
	}
	if r.status >= 300 { // the reason of a success is not used
		r.reason = string(line[len(statusShape):])
	}
	for {
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		line = bytes.TrimRight(line, "\r")
		if len(line) == 0 {
			return r, true
		}
		if line[0] == ' ' || line[0] == '\t' { // folded
			continue
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found || len(name) == 0 || bytes.ContainsAny(name, " \t") {
			return r, false
		}
		if r.status >= 300 {
			r.field(string(name), strings.TrimSpace(string(value)))
		}
	}
}

// field takes in one field of the head.
func (r *reply) field(name, value string) {
	switch {
	case strings.EqualFold(name, "Proxy-Authenticate"):
		for part := range strings.SplitSeq(value, ",") {
			word, _, _ := strings.Cut(strings.TrimSpace(part), " ")
			if word != "" && !strings.Contains(word, "=") {
				r.challenges = append(r.challenges, strings.ToLower(word))
			}
		}
	case strings.EqualFold(name, "Retry-After"):
		r.retryAfter, r.hasRetry = parseRetryAfter(value, time.Now())
	case strings.EqualFold(name, "Content-Length"):
		r.length, _ = strconv.Atoi(value)
	case strings.EqualFold(name, "Content-Type"):
		kind, _, _ := strings.Cut(strings.ToLower(value), ";")
		r.words = strings.TrimSpace(kind) == "text/plain" || strings.HasSuffix(strings.TrimSpace(kind), "json")
		r.notWords = !r.words
	case strings.EqualFold(name, "Transfer-Encoding"):
		r.length = -1
	default:
		for i, field := range whyFields {
			if rank := len(whyFields) - i; strings.EqualFold(name, field) && rank > r.rank && value != "" {
				r.why, r.rank = value, rank
				if field == "Proxy-Status" {
					r.why = proxyStatusDetails(value)
				}
			}
		}
	}
}

// proxyStatusDetails returns what a Proxy-Status field says in words, else its
// error type (RFC 9209).
func proxyStatusDetails(v string) string {
	if _, rest, found := strings.Cut(v, `details="`); found {
		var text []byte
		for i := 0; i < len(rest) && rest[i] != '"'; i++ {
			if rest[i] == '\\' && i+1 < len(rest) {
				i++
			}
			text = append(text, rest[i])
		}
		return string(text)
	}
	if _, rest, found := strings.Cut(v, "error="); found {
		kind, _, _ := strings.Cut(rest, ";")
		return kind
	}
	return ""
}

// firstLine returns the first line with words in it of the beginning of a body;
// whole says whether that is all of it. Without a Content-Type it takes two words
// to be one, so that no token or page is quoted. A line that goes on is none: a
// part of a password would not be recognised.
func (r *reply) firstLine(body []byte, whole bool) string {
	size := r.length < 0 // the first line is a chunk's size
	for line := range strings.Lines(string(body)) {
		text := strings.TrimSpace(line)
		switch {
		case size:
			size = false
		case strings.HasPrefix(text, "<"): // HTML, whatever Content-Type says
			return ""
		case (r.words || strings.Contains(text, " ")) && strings.ContainsFunc(text, unicode.IsLetter) && (whole || strings.HasSuffix(line, "\n")):
			return text
		}
	}
	return ""
}

// parseRetryAfter reads seconds or a date (RFC 9110 section 10.2.3), at most a day.
func parseRetryAfter(v string, now time.Time) (time.Duration, bool) {
	const most = 24 * time.Hour
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		return min(time.Duration(n)*time.Second, most), true
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), most), true
	}
	return 0, false
}

// refusal returns the error of a failure status to CONNECT. c is what was sent, so
// that it is never quoted.
func (r reply) refusal(to Addr, c *Credentials) *failure.Error {
	e := &failure.Error{Class: failure.UpstreamDenied, Status: r.status, RetryAfter: r.retryAfter}
	e.Text = "answered " + r.quote(c) + " to CONNECT " + to.String()
	switch {
	case r.status == http.StatusProxyAuthRequired || r.status == http.StatusUnauthorized:
		e.Class = failure.UpstreamAuth
		e.Hint = r.authHint(c.given)
	case r.status == http.StatusServiceUnavailable && r.hasRetry:
	case r.status == 500 || r.status == 502 || r.status == 503 || r.status == 504:
		// tinyproxy and squid answer so for a dead target.
		e.Class, e.Unsure = failure.TargetUnreachable, true
	case r.status < 400:
		e.Class = failure.UpstreamProtocol
		e.Hint = "a redirect is no proxy's answer: check that nothing stands before it"
	case to.Port != 443 && (r.status == 403 || r.status == 405 || r.status == 400):
		p := strconv.Itoa(int(to.Port))
		e.Hint = "many proxies allow CONNECT only to port 443; let it allow " + p + " (squid: acl SSL_ports port " + p + ")"
	case r.status == 400 || r.status == 404 || r.status == 405 || r.status == 501:
		e.Hint = "check that it is a proxy and allows CONNECT"
	}
	return e
}

// quote returns the status, the reason and why, unless these repeat credentials.
// They are cleaned after that check: a cut might leave a part of a password, which
// the check would miss.
func (r reply) quote(c *Credentials) string {
	s := strconv.Itoa(r.status)
	reason := printable.Clean(r.reason, 60)
	if reason != "" && !c.repeatedIn(r.reason) {
		s += " " + reason
	}
	why := printable.Clean(r.why, maxWhy-len("..."))
	if why == "" || strings.EqualFold(why, reason) || c.repeatedIn(r.why) {
		return s
	}
	return s + " (" + why + ")"
}

// authHint returns what to do about a proxy that wants credentials; sent reports
// whether it had some.
func (r reply) authHint(sent bool) string {
	basic, other := len(r.challenges) == 0, ""
	for _, c := range r.challenges {
		switch c {
		case "basic":
			basic = true
		case "negotiate", "ntlm":
			other = "Negotiate or NTLM"
		case "digest", "bearer":
			other = strings.ToUpper(c[:1]) + c[1:]
		}
	}
	switch {
	case !basic && other != "":
		return "it wants " + other + ", which proxyd does not speak: have Basic allowed there, or put a local helper such as cntlm before it"
	case sent:
		return "check the user and the password in its URL"
	default:
		return "put the user and the password into its URL"
	}
}

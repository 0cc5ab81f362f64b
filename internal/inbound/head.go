package inbound

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

const (
	maxLine   = 8 << 10
	maxFields = 100
	maxMethod = 32
)

// field is one header field, in the input's buffer.
type field struct{ name, value []byte }

// head is a request head that keeps to RFC 9112 in its strict reading. Its
// slices are good until the next read.
type head struct {
	raw    []byte // all of it, the blank line included
	method []byte
	target []byte
	minor  int // HTTP/1.minor
	fields []field
	framing
}

// readHead reads until a head is complete, but takes nothing from the input;
// it can be called again after a deadline. The error is a *refusal that says
// what is wrong, or io.EOF when the client has ended before a first byte, or
// the connection's.
func (in *input) readHead(h *head) error {
	for {
		n, f := in.scanHead()
		if f != nil {
			return f
		}
		if n > 0 {
			if f := h.parse(in.pending()[:n]); f != nil {
				return f
			}
			return nil
		}
		if err := in.fill(); err != nil {
			return in.cutShort(err)
		}
	}
}

// cutShort returns the error for a connection that ends while a head is read.
func (in *input) cutShort(err error) error {
	switch {
	case len(in.pending()) == 0:
		return err
	case errors.Is(err, io.EOF):
		return bad("the request ends in the middle of its head")
	default:
		return err
	}
}

// headTimeout returns what a deadline means while a head is read.
func headTimeout() *refusal {
	return badStatus(http.StatusRequestTimeout, "the request head was not complete within "+handshakeWords, "")
}

// scanHead looks at what is new of the pending bytes, line by line, and
// returns the length of the head once it is complete, 0 before. An error is
// returned at the first line that shows it, without waiting for more.
func (in *input) scanHead() (int, *refusal) {
	b := in.pending()
	for in.scanned < len(b) {
		i := bytes.IndexByte(b[in.scanned:], '\n')
		if i < 0 {
			in.scanned = len(b)
			break
		}
		end := in.scanned + i
		in.scanned = end + 1
		if end == in.lineStart || b[end-1] != '\r' {
			return 0, bad("a line of the request head ends in a bare line feed: lines end in CR LF")
		}
		line := b[in.lineStart : end-1]
		in.lineStart = end + 1
		switch {
		case in.lines == 0:
			if f := checkRequestLine(line); f != nil {
				return 0, f
			}
		case len(line) == 0:
			return end + 1, nil
		case in.lines > maxFields:
			return 0, badStatus(431, "the request head has more than 100 fields", "")
		}
		in.lines++
	}
	if in.lines == 0 {
		if f := checkLineStart(b); f != nil {
			return 0, f
		}
	}
	if len(b) >= maxHead {
		return 0, badStatus(431, "the request head is longer than 32 KiB", "")
	}
	return 0, nil
}

// checkLineStart looks at a request line that is not complete yet.
func checkLineStart(b []byte) *refusal {
	if len(b) > maxLine {
		return badStatus(414, "the request line is longer than 8 KiB", "")
	}
	method, _, _ := bytes.Cut(b, []byte(" "))
	return checkMethod(bytes.TrimSuffix(method, []byte("\r")))
}

func checkMethod(m []byte) *refusal {
	for i, c := range m {
		if !isToken(c) {
			return bad("this is no HTTP request: the method begins with " + quote(m[:i+1]))
		}
	}
	if len(m) > maxMethod {
		return bad("the method is longer than 32 characters")
	}
	return nil
}

func checkRequestLine(line []byte) *refusal {
	if f := checkLineStart(line); f != nil {
		return f
	}
	_, _, _, f := splitRequestLine(line)
	return f
}

// splitRequestLine reads "METHOD SP target SP HTTP/1.x".
func splitRequestLine(line []byte) (method, target []byte, minor int, f *refusal) {
	parts := bytes.Split(line, []byte(" "))
	if len(parts) != 3 || len(parts[0]) == 0 || len(parts[1]) == 0 {
		return nil, nil, 0, bad("the request line " + quote(line) + " is not: METHOD, one space, target, one space, HTTP/1.1")
	}
	version := string(parts[2])
	switch version {
	case "HTTP/1.1":
		minor = 1
	case "HTTP/1.0":
	default:
		if strings.HasPrefix(version, "HTTP/") {
			return nil, nil, 0, badStatus(505, "version "+quote(parts[2])+" is not spoken here, only HTTP/1.1 and HTTP/1.0", "")
		}
		return nil, nil, 0, bad("the request line " + quote(line) + " does not end in HTTP/1.1")
	}
	for _, c := range parts[1] {
		if c <= ' ' || c >= 0x7f {
			return nil, nil, 0, bad("the request target " + quote(parts[1]) + " has a byte that must be percent-encoded")
		}
		if c == '#' || c == '\\' {
			return nil, nil, 0, bad("the request target has a " + string(rune(c)) + ", which is not allowed in one")
		}
	}
	return parts[0], parts[1], minor, nil
}

// parse takes a complete head apart. raw ends in the blank line.
func (h *head) parse(raw []byte) *refusal {
	*h = head{raw: raw, fields: h.fields[:0]}
	line, rest, _ := bytes.Cut(raw, []byte("\r\n"))
	var f *refusal
	if h.method, h.target, h.minor, f = splitRequestLine(line); f != nil {
		return f
	}
	for {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if len(line) == 0 {
			return h.frame()
		}
		x, f := parseField(line)
		if f != nil {
			return f
		}
		h.fields = append(h.fields, x)
	}
}

// parseField reads "name: value".
func parseField(line []byte) (field, *refusal) {
	if line[0] == ' ' || line[0] == '\t' {
		return field{}, bad("a field is folded over two lines: write it on one")
	}
	i := bytes.IndexByte(line, ':')
	if i < 0 {
		return field{}, bad("a line of " + strconv.Itoa(len(line)) + " bytes, behind the request line, has no colon")
	}
	name, value := line[:i], bytes.Trim(line[i+1:], " \t")
	if i == 0 {
		return field{}, bad("a field has no name")
	}
	for _, c := range name {
		if c == ' ' || c == '\t' {
			return field{}, bad("there is a space before the colon of " + quote(name))
		}
		if !isToken(c) {
			return field{}, bad("a field name of " + strconv.Itoa(len(name)) + " bytes has a character that no name has")
		}
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return field{}, bad("the field " + quote(name) + " has a control character in its value")
		}
	}
	return field{name, value}, nil
}

// is compares a field's name; want is in lower case.
func (f field) is(want string) bool {
	return len(f.name) == len(want) && strings.EqualFold(string(f.name), want)
}

// without returns the head for net/http: without the fields of this
// name (in lower case).
func (h *head) without(name string) []byte {
	line, _, _ := bytes.Cut(h.raw, []byte("\r\n"))
	b := append(make([]byte, 0, len(h.raw)), line...)
	b = append(b, "\r\n"...)
	for _, f := range h.fields {
		if !f.is(name) {
			b = appendField(b, f)
		}
	}
	return append(b, "\r\n"...)
}

// value returns the first field of a name (in lower case), "" if there is none.
func (h *head) value(name string) string {
	for _, f := range h.fields {
		if f.is(name) {
			return string(f.value)
		}
	}
	return ""
}

// has reports whether a list field of this name has a member, without case.
func (h *head) has(name, member string) bool {
	for _, f := range h.fields {
		if f.is(name) && listHas(string(f.value), member) {
			return true
		}
	}
	return false
}

// listHas reports whether a comma-separated list has a member, without case.
func listHas(list, member string) bool {
	for m := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(m, " \t"), member) {
			return true
		}
	}
	return false
}

// isTimeout reports whether a deadline ended a read.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// isToken reports whether c may stand in a token (RFC 9110 section 5.6.2).
func isToken(c byte) bool { return tokenBytes[c] }

var tokenBytes = func() (t [256]bool) {
	const extra = "!#$%&'*+-.^_`|~"
	for c := range 256 {
		b := byte(c)
		t[c] = isLetter(b) || '0' <= b && b <= '9' || strings.IndexByte(extra, b) >= 0
	}
	return t
}()

package transparent

import (
	"bytes"
	"strings"
)

// MaxFirst is how many bytes are looked at for a name.
const MaxFirst = 16 << 10

// Speaks is the protocol that a client began with, as far as it matters here.
type Speaks uint8

// The protocols.
const (
	Other Speaks = iota // neither of them, or nothing
	TLS
	HTTP
)

// First is what the first bytes of a connection say.
type First struct {
	Speaks Speaks
	Host   string // as the client wrote it, without a port; "" for none
	Why    string // why there is none
}

// Look looks at the first bytes that a client has sent. done is false while more of
// them are needed; last is set when no more will come, or be looked at. The outcome
// does not depend on how the bytes came in pieces: once Look is done, more bytes
// change nothing. It keeps no part of b.
func Look(b []byte, last bool) (f First, done bool) {
	switch {
	case len(b) == 0:
		f, done = First{Why: "its client has sent nothing"}, last
	case b[0] == recordHandshake:
		f, done = lookTLS(b, last)
	case isToken(b[0]):
		f, done = lookHTTP(b, last)
	default:
		f, done = neither, true
	}
	if !done {
		return First{}, false
	}
	return f, true
}

var neither = First{Why: "its first bytes are neither TLS nor HTTP"}

// maxMethod is the longest method of a request, and of what may still become one.
const maxMethod = 32

// lookHTTP waits for a whole head, so that a second Host in it is seen.
func lookHTTP(b []byte, last bool) (First, bool) {
	line, rest, whole := bytes.Cut(b, []byte{'\n'})
	method, _, _ := bytes.Cut(line, []byte{' '})
	if !isMethod(method) {
		return neither, true
	}
	if !whole {
		return neither, last
	}
	target, ok := requestTarget(line)
	if !ok {
		return neither, true
	}
	f := First{Speaks: HTTP}
	switch {
	case bytes.Equal(method, []byte("CONNECT")), target[0] != '/' && target[0] != '*':
		f.Why = "its request is one to a proxy"
		return f, true
	}
	end, blank := headEnd(rest)
	if !blank && !last {
		return First{}, false
	}
	f.Host, f.Why = hostField(rest[:end])
	return f, true
}

func isMethod(b []byte) bool {
	if len(b) == 0 || len(b) > maxMethod {
		return false
	}
	for _, c := range b {
		if !isToken(c) {
			return false
		}
	}
	return true
}

// requestTarget returns the target of a request line of HTTP/1.
func requestTarget(line []byte) ([]byte, bool) {
	parts := bytes.Split(bytes.TrimSuffix(line, []byte{'\r'}), []byte{' '})
	if len(parts) != 3 || len(parts[1]) == 0 {
		return nil, false
	}
	version := string(parts[2])
	return parts[1], version == "HTTP/1.1" || version == "HTTP/1.0"
}

// headEnd returns where the fields end, and whether that is at a blank line.
func headEnd(b []byte) (int, bool) {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return at, false
		}
		line := b[at : at+i]
		if len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			return at, true
		}
		at += i + 1
	}
}

// hostField returns the host of the one Host field. Two of them could be read
// differently by another server, so they name none.
func hostField(b []byte) (host, why string) {
	seen := 0
	for line := range bytes.Lines(b) {
		name, value, ok := bytes.Cut(line, []byte{':'})
		if !ok || !strings.EqualFold(string(name), "host") {
			continue
		}
		host = withoutPort(strings.TrimSpace(string(value)))
		seen++
	}
	switch {
	case seen > 1:
		return "", "its request has more than one Host"
	case host == "":
		return "", "its request has no Host"
	}
	return host, ""
}

// withoutPort returns the host of host[:port]. The port that counts is the one that
// the client has connected to.
func withoutPort(s string) string {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.Trim(s[i+1:], "0123456789") != "" || s[0] != '[' && strings.IndexByte(s, ':') != i {
		return s
	}
	return s[:i]
}

// isToken reports whether c may stand in a method (RFC 9110 section 5.6.2).
func isToken(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

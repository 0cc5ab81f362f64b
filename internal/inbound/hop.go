package inbound

import (
	"bytes"
	"iter"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// hopByHop are the fields that concern one connection alone (RFC 9110 section
// 7.6.1), beside those that Connection names and all that begin with Proxy-.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
}

// stripRequest removes the fields that must not reach the next hop: they are
// meant for this proxy.
func stripRequest(h http.Header) {
	stripNamed(h)
	for name := range h {
		if strings.HasPrefix(name, "Proxy-") {
			delete(h, name)
		}
	}
}

// stripResponse does the same for an answer with this head: net/http takes
// Connection away when it says close, and with it the names of other fields.
// Proxy-Status stays: it is not meant for this proxy alone.
func stripResponse(h http.Header, head []byte) {
	if h["Connection"] == nil {
		for line := range lines(head) {
			if name, value, _ := bytes.Cut(line, []byte{':'}); strings.EqualFold(string(bytes.TrimSpace(name)), "Connection") {
				dropNamed(h, string(value))
			}
		}
	}
	stripNamed(h)
	for _, name := range []string{"Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info"} {
		delete(h, name)
	}
}

// dropTrailers deletes what may not stand in an answer's trailer.
func dropTrailers(h http.Header) {
	for name := range h {
		if !mayTrail(name) {
			delete(h, name)
		}
	}
}

// asWritten restores the names of an answer's fields as its head writes them,
// except for those that net/http goes by. It writes the others as they stand in h,
// in an order of its own.
func asWritten(h http.Header, head []byte, status int) {
	if status == http.StatusNotModified { // else net/http would leave out what is said of the content
		for _, name := range []string{"Content-Length", "Content-Type"} {
			rename(h, name, strings.ToLower(name))
		}
	}
	for line := range lines(head) {
		b, _, _ := bytes.Cut(line, []byte{':'})
		if _, ok := h[string(b)]; ok { // nearly always; it costs no allocation
			continue
		}
		name := string(b)
		switch canonical := textproto.CanonicalMIMEHeaderKey(name); canonical {
		case name, "Content-Length", "Connection", "Transfer-Encoding", "Trailer":
		default:
			rename(h, canonical, name)
		}
	}
}

func rename(h http.Header, from, to string) {
	if v, ok := h[from]; ok {
		delete(h, from)
		h[to] = v
	}
}

// lines yields the lines of a head, folded ones joined.
func lines(head []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var last []byte
		for line := range bytes.Lines(head) {
			if len(last) > 0 && (line[0] == ' ' || line[0] == '\t') {
				last = append(slices.Clip(last), line...)
				continue
			}
			if last != nil && !yield(last) {
				return
			}
			last = line
		}
		if last != nil {
			yield(last)
		}
	}
}

func stripNamed(h http.Header) {
	for _, v := range h["Connection"] {
		dropNamed(h, v)
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// dropNamed deletes the fields that a value of Connection names.
func dropNamed(h http.Header, value string) {
	for name := range strings.SplitSeq(value, ",") {
		delete(h, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
	}
}

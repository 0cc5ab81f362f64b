package inbound

import (
	"net/http"
	"net/textproto"
	"strings"
)

// hopByHop are the fields that concern one connection alone (RFC 9110 section
// 7.6.1), beside those that Connection names and all that begin with Proxy-.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
}

// stripRequest takes away what must not reach the next hop: it was said to us.
func stripRequest(h http.Header) {
	stripNamed(h)
	for name := range h {
		if strings.HasPrefix(name, "Proxy-") {
			delete(h, name)
		}
	}
}

// stripResponse does the same for an answer. Proxy-Status is not said to us alone.
func stripResponse(h http.Header) {
	stripNamed(h)
	for _, name := range []string{"Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info"} {
		delete(h, name)
	}
}

func stripNamed(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(strings.Trim(name, " \t")))
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

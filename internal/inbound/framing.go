package inbound

import (
	"bytes"
	"strings"
)

// framing is how long a request's body is (RFC 9112 section 6), and what else
// of the head all readers must agree on.
type framing struct {
	length  int64 // of the body; 0 when there is none or it is chunked
	chunked bool
	host    string // the Host field
}

// frame checks the fields that say where the request ends. Two readers that
// differed about one of them would see different requests.
func (h *head) frame() *refusal {
	hosts, lengths, codings := 0, 0, 0
	var length, coding []byte
	for _, f := range h.fields {
		switch {
		case f.is("host"):
			hosts++
			h.host = string(f.value)
		case f.is("content-length"):
			lengths++
			length = f.value
		case f.is("transfer-encoding"):
			codings++
			coding = f.value
		case f.is("trailer") && f.namesFraming():
			return bad("the Trailer names a field that cannot stand there")
		}
	}
	if f := h.checkHost(hosts); f != nil {
		return f
	}
	switch {
	case codings > 0 && lengths > 0:
		return bad("the request has both Content-Length and Transfer-Encoding")
	case codings > 1:
		return bad("the request has more than one Transfer-Encoding")
	case codings == 1 && h.minor == 0:
		return bad("an HTTP/1.0 request has a Transfer-Encoding")
	case codings == 1 && !strings.EqualFold(string(coding), "chunked"):
		return badStatus(501, "the transfer encoding "+quote(coding)+" is not supported, only chunked", "")
	case codings == 1:
		h.chunked = true
		return nil
	case lengths > 1:
		return bad("the request has more than one Content-Length")
	case lengths == 1:
		n, ok := parseLength(length)
		if !ok {
			return bad("the Content-Length " + quote(length) + " is not a number of bytes")
		}
		h.length = n
	}
	return nil
}

// checkHost enforces HTTP/1.1's rule, except for CONNECT, which old clients send
// bare. The field decides nothing here: the target does.
func (h *head) checkHost(hosts int) *refusal {
	switch {
	case hosts > 1:
		return bad("the request has more than one Host")
	case hosts == 0 && h.minor == 1 && !h.isConnect():
		return bad("an HTTP/1.1 request needs a Host")
	case strings.ContainsAny(h.host, " \t,/\\@#?\"<>^`{}|"):
		return bad("the Host " + quote([]byte(h.host)) + " is not one host")
	}
	for i := range len(h.host) {
		if h.host[i] >= 0x7f {
			return bad("the Host has a byte outside ASCII")
		}
	}
	return nil
}

func (h *head) isConnect() bool { return string(h.method) == "CONNECT" }

// hasBody reports whether bytes of a body follow.
func (h *head) hasBody() bool { return h.chunked || h.length > 0 }

// parseLength reads digits alone, as many as fit an int64 for certain.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// namesFraming reports whether a Trailer names a field that frames or routes
// (RFC 9110 section 6.5.1).
func (f field) namesFraming() bool {
	for name := range bytes.SplitSeq(f.value, []byte(",")) {
		switch strings.ToLower(string(bytes.TrimSpace(name))) {
		case "content-length", "transfer-encoding", "trailer", "host":
			return true
		}
	}
	return false
}

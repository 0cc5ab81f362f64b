package inbound

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/router"
	"proxyd/internal/target"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// what is to be done with a request.
type action uint8

const (
	doConnect action = iota + 1
	doForward        // plain HTTP
	doUpgrade        // plain HTTP that becomes a websocket
)

// request is an HTTP request as far as it matters before it is sent on.
type request struct {
	tunnel.Request
	action          action
	authority       string // host[:port], normalised, as Host and URL name it
	path            string // origin-form
	userinfo        string // of the URL, as it was written
	head            bool   // HEAD: an answer has no body
	http10          bool   // HTTP/1.0
	expectsContinue bool   // Expect: 100-continue with a body, of HTTP/1.1: the client waits for an answer before it sends the body
}

// decide reads what a client wants into r. A refusal says why it does not get it.
// r is filled as far as it is known, for the record. It has no effects, so
// that it can be asked again.
func (c *client) decide(h *head, r *request) *refusal {
	*r = request{head: string(h.method) == http.MethodHead, http10: h.minor == 0}
	r.expectsContinue = !r.http10 && h.hasBody() && h.value("expect") != ""
	r.Protocol = "http"
	f := r.parseTarget(h)
	id, unknown := c.users.identifyHTTP(h)
	r.Label = id.label
	r.Hint = router.Hint{Listener: c.settings.Address, Kind: id.kind}
	switch {
	case f != nil:
		return f
	case unknown != nil:
		return unknown
	case c.s.isLoop(h, r):
		return &refusal{
			class: failure.Denied, proxy: "proxy_loop_detected",
			text: "proxy_loop_detected: the request has passed through this proxyd before",
			hint: "some upstream of this proxyd leads back to it",
		}
	}
	if r.action == doUpgrade {
		r.Hint.Kind, r.Upgrade = catalog.KindWebsocket, true
		return clearOnTLSPort(r.Port)
	}
	return nil
}

// parseTarget reads the target.
func (r *request) parseTarget(h *head) *refusal {
	if h.isConnect() {
		r.Protocol, r.action = "connect", doConnect
		var err error
		r.Host, r.Port, err = target.SplitHostPort(string(h.target))
		switch {
		case err != nil:
			return &refusal{class: failure.BadRequest, text: err.Error(), hint: "CONNECT takes host:port"}
		case h.hasBody():
			return bad("a CONNECT request has no body, so no Content-Length and no Transfer-Encoding")
		}
		return nil
	}
	if f := r.parseAbsoluteForm(string(h.target)); f != nil {
		return f
	}
	r.action = doForward
	if !h.hasBody() && h.minor == 1 && string(h.method) == http.MethodGet &&
		h.has("connection", "upgrade") && h.has("upgrade", "websocket") {
		r.action = doUpgrade
	}
	if path, _, _ := strings.Cut(r.path, "?"); r.action == doForward && strings.HasPrefix(path, "//") && r.url().RequestURI() != r.path {
		return bad("the path " + quote([]byte(path)) + " begins with // and has a character that must be percent-encoded")
	}
	return checkMethodFields(h)
}

// url returns the target for net/http to send on, byte for byte: where it would
// write a path in its own form it is given as opaque. An opaque part that begins
// with // would be taken for a host, so such a path is not.
func (r *request) url() *url.URL {
	path, query, asked := strings.Cut(r.path, "?")
	u := &url.URL{Scheme: "http", Host: r.authority, RawQuery: query, ForceQuery: asked && query == ""}
	if strings.HasPrefix(path, "//") {
		u.Path, _ = url.PathUnescape(path) // its escapes have been checked
		u.RawPath = path
	} else {
		u.Opaque = path
	}
	return u
}

// checkMethodFields refuses what must not be sent on.
func checkMethodFields(h *head) *refusal {
	if string(h.method) == http.MethodTrace {
		return badStatus(http.StatusMethodNotAllowed, "TRACE is not sent on: its answer would repeat cookies and credentials", "")
	}
	if v := h.value("max-forwards"); v != "" {
		if n, err := strconv.ParseUint(v, 10, 31); err != nil {
			return bad("Max-Forwards is not a number")
		} else if n == 0 {
			return bad("Max-Forwards is 0: the request goes no further than here")
		}
	}
	if v := h.value("expect"); v != "" && !strings.EqualFold(v, "100-continue") {
		return badStatus(http.StatusExpectationFailed, "the expectation cannot be met: 100-continue is the one that is known", "")
	}
	return nil
}

// parseAbsoluteForm reads an absolute-form target of http or ws.
func (r *request) parseAbsoluteForm(s string) *refusal {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		if s[0] == '/' || s == "*" {
			return &refusal{
				class: failure.BadRequest, text: "this is a proxy, not a web server",
				hint: "set HTTPS_PROXY and HTTP_PROXY of a client to this address (`proxyd env` prints the lines)",
			}
		}
		return bad("the request target " + quote([]byte(s)) + " is not a whole URL: a proxy needs http://HOST/PATH")
	}
	switch strings.ToLower(scheme) {
	case "http", "ws":
	case "https", "wss":
		return &refusal{
			class: failure.BadRequest, text: strings.ToLower(scheme) + " URL sent in clear; use CONNECT",
			hint: "axios before 1.8: set proxy: false and an https-proxy-agent as httpsAgent",
		}
	default:
		return bad("URLs of the scheme " + quote([]byte(scheme)) + " are not served here, only http and ws")
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	r.path = rest[end:]
	if r.path == "" || r.path[0] == '?' {
		r.path = "/" + r.path
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		r.userinfo, authority = authority[:i], authority[i+1:]
		if !validUserinfo(r.userinfo) {
			return bad("the user information in the URL has a character that must be percent-encoded")
		}
	}
	path, _, _ := strings.Cut(rest[end:], "?")
	if f := checkEscapes(path); f != nil {
		return f
	}
	return r.parseAuthority(authority)
}

// parseAuthority reads host[:port] of a URL.
func (r *request) parseAuthority(authority string) *refusal {
	host, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		host, port = authority[:i], authority[i:]
		if strings.IndexByte(host, ':') >= 0 && host[0] != '[' {
			return bad("the host " + quote([]byte(host)) + " of the URL has a colon: an IPv6 address stands in brackets")
		}
	}
	r.Host, r.Port = host, 80
	if port != "" {
		n, err := target.ParsePort(port[1:])
		if err != nil {
			return bad(err.Error())
		}
		r.Port = n
	}
	h, err := target.ParseHost(host)
	if err != nil {
		return bad(err.Error())
	}
	r.authority = h.Name + port
	if h.IP.Is6() {
		r.authority = "[" + h.Name + "]" + port
	}
	return nil
}

// checkEscapes refuses a percent sign that begins no escape: what it means
// would be a guess.
func checkEscapes(path string) *refusal {
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			continue
		}
		if i+2 >= len(path) {
			return bad("the path of the URL ends in the middle of a percent escape")
		}
		_, ok1 := unhex(path[i+1])
		_, ok2 := unhex(path[i+2])
		if !ok1 || !ok2 {
			return bad("the path of the URL has " + quote([]byte(path[i:i+3])) + ", which is no percent escape")
		}
	}
	return nil
}

func validUserinfo(s string) bool {
	for i := range len(s) {
		if !isToken(s[i]) && strings.IndexByte("():;,=@", s[i]) < 0 || strings.IndexByte("#^`|", s[i]) >= 0 {
			return false
		}
	}
	return checkEscapes(s) == nil
}

// authorization returns what user information in a URL stands for: it is taken
// out of the target and sent as the field that it means.
func (r *request) authorization() string {
	name, password, _ := strings.Cut(r.userinfo, ":")
	name, _ = unescape(name)
	password, _ = unescape(password)
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// clearOnTLSPort catches a client that was given the proxy for ws but asks
// for a wss address: it would talk in clear to a port that speaks TLS.
func clearOnTLSPort(port uint16) *refusal {
	switch port {
	case 443, 8443, 9443:
		return &refusal{
			class: failure.BadRequest,
			text:  "a websocket in clear to port " + strconv.Itoa(int(port)) + ", which speaks TLS",
			hint:  "use wss and CONNECT (ccxt JS: use wssProxy, not wsProxy)",
		}
	}
	return nil
}

// isLoop reports whether a Via names this very process. The names of others are
// kept in r: they have to go on with the request.
func (s *Server) isLoop(h *head, r *request) bool {
	token := s.opts.HopToken
	for _, f := range h.fields {
		if !f.is("via") {
			continue
		}
		for hop := range bytes.SplitSeq(f.value, []byte(",")) {
			if words := bytes.Fields(hop); len(words) >= 2 && strings.EqualFold(string(words[1]), token) {
				return true
			}
		}
		r.Hops = upstream.Hops(r.Hops + "," + string(f.value))
	}
	return false
}

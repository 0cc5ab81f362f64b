package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"proxyd/internal/dialer"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
)

const (
	answerTime = 60 * time.Second // the longest that the answer to a plain request may take to begin
	answerHead = 256 << 10        // the most bytes of its head
	// A body that is announced with Expect: 100-continue is read from the client
	// after this time, as is usual, if the far end does not answer.
	continueTime = time.Second
)

// Trip is the member that served a plain HTTP request, and how.
type Trip struct {
	Member *Upstream
	Via    string // as in Conn
	Tried  []failure.Attempt
	Dial   time.Duration // until its connection was open; 0 for an idle one
	Head   []byte        // of the answer, as it came; valid until its body has been read
	Tail   []byte        // what came along with the end of the head
}

// RoundTrip sends one plain HTTP request to t through the first member that
// can and returns its answer; req.URL and req.Host already name the target.
// Through an http or https upstream it goes in absolute form (RFC 9112 section
// 3.2.2), else over a connection of its own. budget limits the time until the
// connection is open, not the answer.
// The error is a *failure.Error, or the request context's. A Body that is an
// Interrupter does not keep the error waiting when the far end ends the
// connection while the client is silent in the midst of its request.
func (p *Pool) RoundTrip(req *http.Request, t Target, budget time.Duration) (*http.Response, *Trip, error) {
	var resp *http.Response
	var conn *plainConn
	var left *failure.Error // the client left, and not at once
	trip, start := &Trip{}, time.Now()
	w := failover{pool: p, deadline: time.Now().Add(budget), selection: selection{shared: p.set.shared, target: &t}}
	w.operation.open = func(ctx context.Context, m *Member, h *budgetLease) (err error) {
		trip.Member = m.Upstream
		start := time.Now()
		if conn, err = m.connect(ctx, p.set, t, h); err != nil {
			return err
		}
		trip.Dial = time.Since(start)
		resp, err = m.roundTrip(conn, p.set, req, t, h) //nolint:bodyclose // it is the caller's
		left = leftError(err)
		return err
	}
	if repeatable(req) { // over a connection that may just be ending only what can be sent again
		w.operation.reuse = func(m *Member) (done bool, err error) {
			if conn = p.set.shared.idle.take(idleKeyOf(m.Upstream, &t)); conn == nil {
				return false, nil
			}
			trip.Member, trip.Dial = m.Upstream, 0
			resp, err = conn.roundTrip(req, m.Upstream, p.set, t) //nolint:bodyclose // it is the caller's
			left = leftError(err)
			return err == nil || !hadEnded(err), err
		}
	}
	if err := w.run(req.Context()); err != nil {
		if left != nil {
			left.Tried = append(w.tried, failure.Attempt{Upstream: left.Upstream, Class: left.Class, Took: time.Since(start), Text: left.Text})
			return nil, nil, left
		}
		return nil, nil, err
	}
	trip.Member.recordAnswer(&t)
	if resp.StatusCode == http.StatusUnavailableForLegalReasons {
		trip.Member.turnedAway(&t)
	}
	trip.Tried, trip.Via = w.tried, conn.via
	trip.Head, trip.Tail = conn.link.answer()
	return resp, trip, nil
}

// Interrupter is a request's body whose Read another goroutine can end.
type Interrupter interface{ Interrupt() }

// roundTrip sends req over a new connection.
func (m *Member) roundTrip(c *plainConn, s *Set, req *http.Request, t Target, h *budgetLease) (*http.Response, error) {
	resp, err := c.roundTrip(req, m.Upstream, s, t)
	if e, ok := errors.AsType[*failure.Error](err); ok {
		e.Final, e.Sent = !repeatable(req), true
	}
	if err == nil {
		h.opened() // not before: an HTTP upstream connects to the target when it has the request
	}
	return resp, err
}

// hadEnded reports whether a request on a kept connection failed as it does
// when the far end has closed it meanwhile.
func hadEnded(err error) bool {
	e, ok := errors.AsType[*failure.Error](err)
	return ok && e.ProxyError == proxyTerminated
}

// repeatable reports whether a request may be sent twice: it has no body, and
// sending it twice does what sending it once does (RFC 9110 section 9.2.2).
func repeatable(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return req.Body == nil || req.Body == http.NoBody
	default:
		return false
	}
}

// connect makes a connection for plain requests: to an HTTP upstream itself,
// which is asked in absolute form, or through another to the target.
func (m *Member) connect(ctx context.Context, s *Set, t Target, h *budgetLease) (*plainConn, error) {
	dialled := &plainDial{}
	var release func()
	var beside bool
	var via string
	if m.forwards() {
		if !t.addr().IsValid() {
			return nil, failure.New(failure.BadRequest, "the target's name cannot be sent to a proxy")
		}
		l, err := m.hopTLS(ctx, s, &t)
		if err != nil {
			return nil, err
		}
		dialled.conn, beside, via = l.conn, l.beside, l.via
		dialled.proxy = &url.URL{Scheme: "http", Host: t.addr().String()}
		release = h.after(m.count(&t, l.release))
	} else {
		conn, err := m.dial(ctx, s, &t, h)
		if err != nil {
			return nil, err
		}
		dialled.conn, release, via = conn.Conn, conn.Release, conn.Via
		if len(conn.Early) > 0 {
			dialled.conn = &early{conn.Conn, conn.Early}
		}
	}
	link := &plainLink{Conn: dialled.conn, release: release, end: noHead}
	dialled.conn = link
	cc, err := plainTransport.NewClientConn(context.WithValue(context.WithoutCancel(ctx), plainDial{}, dialled), "http", t.addr().String())
	if err != nil { // the connection is there: nothing is left that could fail
		_ = dialled.conn.Close()
		return nil, failure.New(failure.Local, "this machine cannot use the connection").With(err, "")
	}
	k := newPlainConn(cc, link, idleKeyOf(m.Upstream, &t), s.shared.idle, beside)
	k.via = via
	return k, nil
}

// plainDial hands a connection that is already open to plainTransport.
type plainDial struct {
	conn  net.Conn
	proxy *url.URL // set when requests on it are in absolute form
}

// plainTransport speaks HTTP/1 over connections of our own making; it neither
// dials nor keeps any.
var plainTransport = &http.Transport{
	DisableCompression: true, ResponseHeaderTimeout: answerTime, MaxResponseHeaderBytes: answerHead,
	ExpectContinueTimeout: continueTime,
	Proxy: func(r *http.Request) (*url.URL, error) {
		return r.Context().Value(plainDial{}).(*plainDial).proxy, nil
	},
	DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return ctx.Value(plainDial{}).(*plainDial).conn, nil
	},
}

// roundTrip sends one request and turns a failure into a *failure.Error.
func (c *plainConn) roundTrip(req *http.Request, u *Upstream, s *Set, t Target) (*http.Response, error) {
	if u.forwards() {
		req = c.dress(req, u, s)
	}
	start := time.Now()
	resp, err := c.send(req)
	if err != nil {
		return nil, c.failed(err, req, u, s, t, time.Since(start))
	}
	e := unfit(u, resp, t)
	if e == nil {
		return resp, nil
	}
	_ = resp.Body.Close()
	return nil, e
}

// failed returns the error of a request that has no answer after some time, and
// records that.
func (c *plainConn) failed(err error, req *http.Request, u *Upstream, s *Set, t Target, waited time.Duration) error {
	if req.Context().Err() == nil {
		e := answerError(err, u.forwards())
		if e.ProxyError == proxyNoAnswer && u.forwards() {
			recordUnanswered(u, &t, waited)
		}
		return e
	}
	left := leftWaiting(req, u, s, waited)
	if left == nil {
		return req.Context().Err()
	}
	u.state.failed(left.Class)
	if u.forwards() {
		recordUnanswered(u, &t, waited)
	}
	return left
}

// send sends a request; a body that keeps it waiting is interrupted when the connection ends.
func (c *plainConn) send(req *http.Request) (*http.Response, error) {
	c.link.await()
	body, ok := req.Body.(Interrupter)
	if !ok {
		return c.client.RoundTrip(req)
	}
	c.body.Store(&body)
	if c.client.Err() != nil { // it may have ended before it knew of the body
		c.interrupt()
	}
	resp, err := c.client.RoundTrip(req)
	// No longer: an answer may come to its end although the rest of the request goes nowhere.
	interrupted := c.body.Swap(nil) == nil
	if err != nil && interrupted {
		err = c.client.Err() // what ended the connection, not what that did to the body
	}
	return resp, err
}

// interrupt ends the reading of a body whose request can have no answer any more.
func (c *plainConn) interrupt() {
	if b := c.body.Swap(nil); b != nil {
		(*b).Interrupt()
	}
}

// unfit returns why an answer is none for the client, nil if it is one.
func unfit(u *Upstream, resp *http.Response, t Target) *failure.Error {
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired && u.forwards():
		return u.client.AuthError(resp, t.addr())
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return failure.New(failure.TargetProtocol, "reached the target, which answered 407 as only a proxy does").With(nil, "check the URL's host and port")
	case resp.StatusCode == http.StatusSwitchingProtocols:
		return protocolError(u.forwards(), "answered 101 to a request that asked for no upgrade")
	case hasSpacedName(resp.Header): // net/http takes "Content-Length " for another field
		return protocolError(u.forwards(), "answered with a space before a field's colon")
	case resp.StatusCode < 100 || resp.ProtoMajor != 1: // net/http reads any three digits
		return protocolError(u.forwards(), "answered "+printable.Clean(resp.Proto+" "+resp.Status, 60)+", which is not HTTP/1")
	}
	return nil
}

func hasSpacedName(h http.Header) bool {
	for name := range h {
		if strings.ContainsAny(name, " \t") {
			return true
		}
	}
	return false
}

// protocolError returns the error of a peer that answers, but not as HTTP has it.
func protocolError(forwards bool, what string) *failure.Error {
	if forwards {
		return failure.New(failure.UpstreamProtocol, "%s", what)
	}
	return failure.New(failure.TargetProtocol, "reached the target, which %s", what)
}

// dress makes req one for an HTTP upstream: in absolute form, with the fields
// that are only for it, and with a marker if it is on this machine.
func (c *plainConn) dress(req *http.Request, u *Upstream, s *Set) *http.Request {
	mark := c.beside
	opaque := req.URL.Opaque != ""
	basic, given := u.client.Credentials.Basic()
	if !given && !mark && !opaque {
		return req
	}
	r := *req
	if opaque { // net/http makes such a target no absolute form by itself
		whole := *req.URL
		whole.Opaque = "//" + whole.Host + whole.Opaque
		r.URL = &whole
	}
	if !given && !mark {
		return &r
	}
	r.Header = req.Header.Clone()
	if given {
		r.Header.Set("Proxy-Authorization", basic.Reveal())
	}
	if mark {
		r.Header.Add("Via", hopPrefix+s.shared.token)
	}
	return &r
}

// The Proxy-Status error types (RFC 9209 section 2.3) of an answer that did not come, or not to its end.
const (
	proxyTerminated = "connection_terminated"
	proxyIncomplete = "http_response_incomplete"
	proxyNoAnswer   = "http_response_timeout"
)

// answerError returns the error of an answer that did not come.
func answerError(err error, forwards bool) *failure.Error {
	var e *failure.Error
	switch {
	case dialer.IsTimeout(err):
		e = protocolError(forwards, "had the request and did not answer within "+printable.Seconds(answerTime))
		e.Class, e.Unsure, e.ProxyError = failure.TargetTimeout, forwards, proxyNoAnswer
	case errors.Is(err, errInterims):
		e = protocolError(forwards, "sent "+errInterims.Error())
	case dialer.IsClosed(err), strings.Contains(err.Error(), "server closed idle connection"): // net/http has no value for it
		e = protocolError(forwards, "closed the connection without an answer")
		e.ProxyError = proxyTerminated
	default:
		e = protocolError(forwards, "did not answer in HTTP")
		if forwards {
			e.Hint = "check the scheme and the port in its URL"
		}
	}
	e.Err = err
	return e
}

// early is a connection that returns some bytes first.
type early struct {
	net.Conn
	first []byte
}

// Read returns what came early, then what comes.
func (c *early) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

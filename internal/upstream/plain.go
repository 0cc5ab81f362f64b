package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"proxyd/internal/config"
)

const (
	answerTime = 60 * time.Second // a plain request's answer may take so long to begin
	answerHead = 256 << 10        // and its head may have so many bytes
)

// Trip tells which member served a plain HTTP request.
type Trip struct {
	Member *Upstream
	Tried  []Attempt
}

// RoundTrip sends one plain HTTP request to t through the first member that
// can and gives its answer; req.URL and req.Host already name the target.
// Through an http or https upstream it goes in absolute form (RFC 9112 section
// 3.2.2), else over a way of its own. budget bounds the way, not the answer.
// The error is an *Error, or the request context's.
func (p *Pool) RoundTrip(req *http.Request, t Target, budget time.Duration) (*http.Response, *Trip, error) {
	var resp *http.Response
	var member *Upstream
	w := walk{pool: p, deadline: time.Now().Add(budget), look: look{shared: p.set.shared, target: &t}}
	w.job.open = func(ctx context.Context, m *Member, h *hold) (err error) {
		member = m.Upstream
		resp, err = m.roundTrip(ctx, p.set, req, t, h) //nolint:bodyclose // it is the caller's
		return err
	}
	if repeatable(req) { // over a connection that may just be ending only what can be sent again
		w.job.reuse = func(m *Member) (done bool, err error) {
			c := p.set.shared.kept.take(m.keptKey(&t))
			if c == nil {
				return false, nil
			}
			member = m.Upstream
			resp, err = c.roundTrip(req, m.Upstream, p.set, t) //nolint:bodyclose // it is the caller's
			return err == nil || !hadEnded(err), err
		}
	}
	if err := w.run(req.Context()); err != nil {
		return nil, nil, err
	}
	return resp, &Trip{member, w.tried}, nil
}

func (u *Upstream) keptKey(t *Target) keptKey {
	return keptKey{u.lead, t.Host, t.Port, t.Trusted, t.Client}
}

// roundTrip sends req over a new connection; ctx bounds only the making of it.
func (m *Member) roundTrip(ctx context.Context, s *Set, req *http.Request, t Target, h *hold) (*http.Response, error) {
	c, err := m.connect(ctx, s, t, h)
	if err != nil {
		return nil, err
	}
	resp, err := c.roundTrip(req, m.Upstream, s, t)
	if e, ok := errors.AsType[*Error](err); ok {
		e.final, e.sent = !repeatable(req), true
	}
	if err == nil {
		h.opened() // not before: an HTTP upstream connects to the target when it has the request
	}
	return resp, err
}

// hadEnded reports whether a request on a kept connection failed as it does
// when the far end has closed it meanwhile.
func hadEnded(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Class == ClassUpstreamProtocol || e.Class == ClassTargetUnreachable)
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
func (m *Member) connect(ctx context.Context, s *Set, t Target, h *hold) (*keptConn, error) {
	dialled := &plainDial{}
	var release func()
	if m.forwards() {
		if !speakable(t) {
			return nil, fault(ClassBadRequest, "the target's name cannot be sent to a proxy")
		}
		conn, done, err := m.hopTLS(ctx, s)
		if err != nil {
			return nil, err
		}
		dialled.conn = conn
		dialled.proxy = &url.URL{Scheme: "http", Host: hostPort(t)}
		release = h.after(m.count(&t, done))
	} else {
		way, err := m.dial(ctx, s, &t, h)
		if err != nil {
			return nil, err
		}
		dialled.conn, release = way.Conn, way.Release
		if len(way.Early) > 0 {
			dialled.conn = &early{way.Conn, way.Early}
		}
	}
	dialled.conn = &released{Conn: dialled.conn, release: release}
	cc, err := plainTransport.NewClientConn(context.WithValue(context.WithoutCancel(ctx), plainDial{}, dialled), "http", hostPort(t))
	if err != nil { // the connection is there: nothing is left that could fail
		_ = dialled.conn.Close()
		return nil, fault(ClassLocal, "this machine cannot use the connection").with(err, "")
	}
	return newKeptConn(cc, dialled.conn, m.keptKey(&t), s.shared.kept), nil
}

// forwards reports whether u takes plain requests in absolute form.
func (u *Upstream) forwards() bool {
	return u.url.Scheme == config.SchemeHTTP || u.url.Scheme == config.SchemeHTTPS
}

// hopTLS is hop, and TLS on it where the upstream speaks it.
func (u *Upstream) hopTLS(ctx context.Context, s *Set) (net.Conn, func(), error) {
	conn, release, err := u.hop(ctx, s)
	if err != nil || u.tls == nil {
		return conn, release, err
	}
	stop := interruptOn(ctx, conn)
	secured, e := startTLS(conn, u.tls)
	if e = settle(stop, e); e != nil {
		_ = conn.Close()
		release()
		return nil, nil, e
	}
	return secured, release, nil
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
	Proxy: func(r *http.Request) (*url.URL, error) {
		return r.Context().Value(plainDial{}).(*plainDial).proxy, nil
	},
	DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return ctx.Value(plainDial{}).(*plainDial).conn, nil
	},
}

// roundTrip sends one request and turns a failure into an *Error.
func (c *keptConn) roundTrip(req *http.Request, u *Upstream, s *Set, t Target) (*http.Response, error) {
	if u.forwards() {
		req = u.dress(req, s, c.conn)
	}
	resp, err := c.client.RoundTrip(req)
	switch {
	case err == nil && u.forwards() && resp.StatusCode == http.StatusProxyAuthRequired:
		defer resp.Body.Close()
		return nil, authFault(resp, t, u.cred)
	case err == nil && resp.StatusCode == http.StatusProxyAuthRequired:
		defer resp.Body.Close()
		return nil, fault(ClassTargetUnreachable, "reached the target, which answered 407 as only a proxy does").with(nil, "check the URL's host and port")
	case err == nil:
		return resp, nil
	case req.Context().Err() != nil:
		return nil, req.Context().Err()
	}
	return nil, answerFault(err, u.forwards())
}

// dress gives a copy of req the fields that are for an HTTP upstream alone.
func (u *Upstream) dress(req *http.Request, s *Set, conn net.Conn) *http.Request {
	mark := isBeside(conn)
	if !u.cred.given && !mark {
		return req
	}
	r := *req
	r.Header = req.Header.Clone()
	if u.cred.given {
		r.Header.Set("Proxy-Authorization", u.cred.basic.Reveal())
	}
	if mark {
		r.Header.Add("Via", hopPrefix+s.shared.token)
	}
	return &r
}

// authFault is the upstream's 407, which is for us and not for the client.
func authFault(resp *http.Response, t Target, c *credentials) *Error {
	r := reply{status: resp.StatusCode, reason: clean(http.StatusText(resp.StatusCode), 60)}
	for _, v := range resp.Header.Values("Proxy-Authenticate") {
		r.field("Proxy-Authenticate", v)
	}
	e := r.refusal(t, c)
	e.Text = "answered " + r.quote(c) + " to a request for " + hostPort(t)
	return e
}

// answerFault puts an answer that did not come into words.
func answerFault(err error, forwards bool) *Error {
	e := &Error{Class: ClassTargetUnreachable, Err: err}
	who := "reached the target, which "
	if forwards {
		e.Class, who = ClassUpstreamProtocol, ""
	}
	switch {
	case isTimeout(err):
		e.Class, e.Unsure = ClassTargetTimeout, forwards
		e.Text = who + "had the request and did not answer within " + seconds(answerTime)
	case isClosed(err), strings.Contains(err.Error(), "server closed idle connection"): // net/http has no value for it
		e.Text = who + "closed the connection without an answer"
	default:
		e.Text = who + "did not answer in HTTP"
		if forwards {
			e.Hint = "check the scheme and the port in its URL"
		}
	}
	return e
}

// early is a connection that gives some bytes first.
type early struct {
	net.Conn
	first []byte
}

// Read gives what came early, then what comes.
func (c *early) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

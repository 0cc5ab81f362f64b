package inbound

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/elazarl/goproxy"

	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

// serveHTTP serves requests until one of them has the connection for itself or
// ends it. Only an answer 407 lets another one follow here; plain HTTP goes to
// net/http, which brings the connection back for what it shall not see. f is
// what is wrong with the request at hand, if that is known already.
func (c *client) serveHTTP(f *refusal) {
	const mostTries = 16 // of authentication; the last answer says that it is the last
	var h head
	for try := 1; ; try++ {
		if f == nil {
			if err := c.in.readHead(&h); err != nil {
				c.reportProtocol("http")
				if f = c.refuseHead(err); f == nil {
					c.close()
					return
				}
			}
		}
		if f != nil {
			c.refuseHTTP(&tunnel.Request{Protocol: "http"}, f)
			return
		}
		f = c.decide(&h, &c.req)
		c.reportProtocol(c.req.Protocol)
		if f == nil {
			c.start(&h)
			return
		}
		keep := f.class == failure.Auth && try < mostTries && h.keepAlive() && !c.s.draining.Load()
		a := answer{Refusal: c.record(&c.req.Request, f), proxy: f.proxy, head: c.req.head, keep: keep}
		c.in.use(len(h.raw))
		if !c.sendRefusal(a, f.delay) {
			return
		}
		c.conn.SetReadDeadline(time.Now().Add(c.s.handshake))
		f = nil
	}
}

// keepAlive reports whether the connection may stay for another request after
// an answer of ours: behind a body that nothing reads it cannot (RFC 9112
// section 9.3).
func (h *head) keepAlive() bool {
	return h.minor > 0 && !h.hasBody() && !h.has("connection", "close")
}

// refuseHead returns what to answer when a head did not come, nil for nothing.
func (c *client) refuseHead(err error) *refusal {
	var f *refusal
	switch {
	case errors.As(err, &f):
		return f
	case isTimeout(err) && len(c.in.pending()) > 0:
		return headTimeout()
	}
	return nil
}

// start does what a request asks for.
func (c *client) start(h *head) {
	switch c.req.action {
	case doConnect:
		c.in.use(len(h.raw))
		c.connect()
	case doUpgrade:
		c.upgrade(h)
	default:
		c.handToPlain(h)
	}
}

// connect serves a CONNECT. goproxy calls handleConnect, then Hijack, then
// finishConnect.
func (c *client) connect() {
	r := http.Request{
		Method: http.MethodConnect, URL: &url.URL{Host: c.req.Host}, Host: c.req.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
	}
	c.s.proxy.ServeHTTP((*connectWriter)(c), r.WithContext(context.WithValue(c.s.ctx, clientKey{}, c)))
}

type clientKey struct{}

func clientOf(r *http.Request) *client { return r.Context().Value(clientKey{}).(*client) }

// newProxy returns goproxy as a dispatcher: it calls the hooks below, and copies
// the body of a plain answer. It dials nothing and copies nothing of a CONNECT:
// that needs the pools, the limits and the records of tunnel, which it does not
// know. What it reads from the environment is reset.
func (s *Server) newProxy() *goproxy.ProxyHttpServer {
	p := goproxy.NewProxyHttpServer()
	p.ConnectDial, p.ConnectDialWithReq = nil, nil
	p.Tr = &http.Transport{Proxy: nil, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("goproxy must not dial")
	}}
	p.KeepAcceptEncoding = true
	p.Logger = debugWriter{s.opts.Debug}
	take := &goproxy.ConnectAction{
		Action: goproxy.ConnectHijack,
		Hijack: func(r *http.Request, _ net.Conn, _ *goproxy.ProxyCtx) { clientOf(r).finishConnect() },
	}
	p.OnRequest().HandleConnectFunc(func(host string, ctx *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		c := clientOf(ctx.Req)
		c.tunnel, c.refusal = c.open(c.complete(&c.req.Request))
		return take, host
	})
	p.OnRequest().DoFunc(s.forward)
	return p
}

// finishConnect answers, and lets the tunnel begin.
func (c *client) finishConnect() {
	if c.tunnel == nil {
		c.sendRefusal(answer{Refusal: c.refusal}, 0)
		return
	}
	if _, err := io.WriteString(c, established); err != nil {
		c.tunnel.Abandon(err)
		c.close()
		return
	}
	c.carry(c.tunnel)
}

// connectWriter is the client as goproxy wants to see one: it takes the
// connection, and writes nothing.
type connectWriter client

// Header returns fields that are never sent.
func (w *connectWriter) Header() http.Header { return http.Header{} }

// Write drops.
func (w *connectWriter) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader drops.
func (w *connectWriter) WriteHeader(int) {}

// Hijack returns the connection. What was read ahead stays in the client's
// input.
func (w *connectWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.conn, nil, nil }

// handToPlain gives the connection to net/http; h is the first request, already
// decided upon in c.req.
func (c *client) handToPlain(h *head) {
	p := &plainConn{c: c}
	c.conn.SetDeadline(time.Time{})
	r := c.req
	p.feed(h, &r)
	if !c.s.queue.put(p) {
		c.reset()
		c.leave()
	}
}

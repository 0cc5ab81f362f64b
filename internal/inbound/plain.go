package inbound

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/elazarl/goproxy"

	"proxyd/internal/tunnel"
)

// servePlain serves one plain HTTP request. goproxy calls forward and
// roundTrip, and copies the answer into the writer.
func (s *Server) servePlain(w http.ResponseWriter, r *http.Request) {
	p := r.Context().Value(plainKey{}).(*plainConn)
	req := p.next()
	if req == nil {
		p.takeBack(w)
		return
	}
	s.busy.Add(1)
	defer s.busy.Add(-1)
	if !s.stopWaiting(p.c) {
		panic(http.ErrAbortHandler)
	}
	defer s.startWaiting(p.c)
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	p.setCancel(cancel)
	defer p.setCancel(nil)
	x := &transaction{p: p, req: req, cancel: cancel, plainWriter: plainWriter{w: w, length: -1}}
	defer p.answered.Add(1)
	defer func() {
		if v := recover(); v != nil {
			if err, ok := v.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				s.panicked(v, debug.Stack())
			}
			p.resetOnClose.Store(req.http10)
			panic(http.ErrAbortHandler) // net/http closes the connection
		}
	}()
	if r.Body != http.NoBody {
		// Else net/http would itself read from a body that is still being sent on,
		// when the answer begins, and those bytes would be missing there.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: x.interim})
	s.proxy.ServeHTTP(x, r.WithContext(context.WithValue(ctx, transactionKey{}, x)))
	if x.refused == nil {
		if x.early() { // net/http would wait for the rest, and then trip over it
			p.cutBody()
		}
		return
	}
	if _, _, err := w.(http.Hijacker).Hijack(); err != nil {
		panic(http.ErrAbortHandler)
	}
	p.detach()
	p.c.sendRefusal(*x.refused, 0)
}

// takeBack goes on with what is not for net/http. All answers before it have
// been written.
func (p *plainConn) takeBack(w http.ResponseWriter) {
	if _, _, err := w.(http.Hijacker).Hijack(); err != nil {
		panic(http.ErrAbortHandler)
	}
	p.detach()
	defer func() {
		if v := recover(); v != nil {
			p.c.crash(v, debug.Stack())
		}
	}()
	p.c.conn.SetReadDeadline(time.Now().Add(handshakeTime))
	p.c.serveHTTP(p.headRefusal)
}

// transaction is one plain request and its answer. It is the ResponseWriter that
// goproxy writes to.
type transaction struct {
	plainWriter
	p       *plainConn
	req     *request
	cancel  context.CancelCauseFunc
	body    *requestBody // nil when there is none
	refused *answer
}

// interim passes a 1xx answer on (RFC 9110 section 15.2). How many there may
// be is the upstream's concern. It runs while roundTrip waits for the answer.
func (x *transaction) interim(status int, h textproto.MIMEHeader) error {
	if !x.req.http10 {
		x.plainWriter.interim(status, http.Header(h))
	}
	return nil
}

// WriteHeader writes the head. An answer that has come before the request's end
// ends the connection: the rest of the request goes nowhere.
func (x *transaction) WriteHeader(status int) {
	if !x.silent && x.early() {
		x.Header().Set("Connection", "close")
	}
	x.plainWriter.WriteHeader(status)
}

// early reports whether the client's body has not yet been read to its end.
func (x *transaction) early() bool { return x.body != nil && !x.body.whole.Load() }

type transactionKey struct{}

// forward is goproxy's hook before a request is sent: it makes the request
// what the next hop shall see.
func (s *Server) forward(r *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	x := r.Context().Value(transactionKey{}).(*transaction)
	stripRequest(r.Header)
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header["User-Agent"] = nil // else net/http would add its own
	}
	if n, err := strconv.Atoi(r.Header.Get("Max-Forwards")); err == nil {
		r.Header.Set("Max-Forwards", strconv.Itoa(n-1))
	}
	if x.req.userinfo != "" && r.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", x.req.authorization())
	}
	r.URL, r.Host = x.req.url(), x.req.authority
	r.Close = false // the client's wish concerns its own connection
	if x.req.expectsContinue {
		r.Header.Set("Expect", "100-continue") // net/http has not seen it (see hand)
		r.Close = true                         // else the transport would send the body behind an answer that does not want it
	}
	if r.Body != nil && r.Body != http.NoBody {
		x.body = &requestBody{ReadCloser: r.Body, p: x.p, cancel: x.cancel}
		r.Body = x.body
	}
	ctx.RoundTripper = goproxy.RoundTripperFunc(s.roundTrip)
	return r, nil
}

// requestBody ends the whole request when the client's body cannot be read: it
// left, or its framing is wrong. No upstream is to blame for that.
type requestBody struct {
	io.ReadCloser
	p      *plainConn
	cancel context.CancelCauseFunc
	cut    atomic.Bool // by Interrupt
	whole  atomic.Bool // read to its end
	broken atomic.Bool // net/http does not take it, although its bytes came
}

// Read reads on.
func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.whole.Store(true)
	case err != nil && !b.cut.Load():
		b.broken.Store(!b.p.failed.Load())
		b.cancel(err)
	}
	return n, err
}

// Close does nothing: net/http's own Close would read on. The server closes the
// body.
func (b *requestBody) Close() error { return nil }

// Interrupt ends a running Read, and all that follow: where the
// request was sent to, nothing is read any more.
func (b *requestBody) Interrupt() {
	b.cut.Store(true)
	b.p.cutBody()
}

// framingError returns what is wrong with the body's framing, nil for nothing.
func (p *plainConn) framingError() *refusal {
	if !p.reading.TryLock() {
		return nil // what is being waited for lies behind the body, or in it: nothing is wrong so far
	}
	defer p.reading.Unlock()
	var f *refusal
	if errors.As(p.broken, &f) {
		return f
	}
	return nil
}

var (
	errRefused = errors.New("refused")
	badBody    = bad("the body is malformed")
)

// roundTrip sends goproxy's request. A refusal is kept for servePlain, which
// writes it in our own form; what goproxy makes of the error goes nowhere.
func (s *Server) roundTrip(r *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
	x := r.Context().Value(transactionKey{}).(*transaction)
	req := x.p.c.complete(&x.req.Request)
	resp, trip, err := s.handler.RoundTrip(r, req)
	x.settle()
	if err != nil {
		refusal := asRefusal(err)
		if x.body != nil {
			f := x.p.framingError()
			if f == nil && x.body.broken.Load() {
				f = badBody
			}
			if f != nil {
				refusal = x.p.c.record(&x.req.Request, f)
			}
		}
		return nil, x.refuse(refusal)
	}
	stripResponse(resp.Header, trip.Head)
	asWritten(resp.Header, trip.Head, resp.StatusCode)
	dropTrailers(resp.Trailer)
	x.length = resp.ContentLength
	resp.Body = &answerBody{resp.Body, x, resp, resp.ContentLength != 0 && !hasData(resp, trip.Tail)}
	return resp, nil
}

// hasData reports whether tail, which has come along with the head of resp, has
// any byte of its body.
func hasData(resp *http.Response, tail []byte) bool {
	if len(resp.TransferEncoding) > 0 {
		_, tail, _ = bytes.Cut(tail, []byte{'\n'}) // behind a chunk's size
	}
	return len(tail) > 0
}

func (x *transaction) refuse(r *tunnel.Refusal) error {
	x.silent = true
	x.refused = &answer{Refusal: r, head: x.req.head}
	return errRefused
}

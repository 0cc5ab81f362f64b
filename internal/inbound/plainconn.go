package inbound

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// plainConn is a connection as net/http sees it: it gives one message at a
// time, each with a head and a framing that have been checked here. What is
// not for net/http (a head that is refused, a CONNECT, a websocket) shows as
// backHead, whose turn comes after all answers before it; the handler then
// takes the connection back.
//
// net/http sets only deadlines in the past, to interrupt a read; how long a
// read may take is decided here.
type plainConn struct {
	c *client

	reading     sync.Mutex // held by the one Read at a time
	out         []byte     // checked, to be handed out
	length      int64      // left of a body with a length
	chunks      *chunks    // of a chunked body; nil otherwise
	broken      error      // what ended the reading for good
	backGiven   bool       // backHead has been handed out
	headRefusal *refusal   // what is wrong with the head behind backHead, if known

	mu       sync.Mutex
	stopped  bool                    // a deadline in the past is set
	detached bool                    // no longer net/http's
	begun    bool                    // bytes of a request have come that the handler does not have yet
	inBody   bool                    // a body is being read
	cut      bool                    // nothing more of a body is wanted
	pending  []*request              // handed out, not yet served; nil stands for backHead
	requests int                     // requests handed out
	cancel   context.CancelCauseFunc // of the transaction being served; nil for none
	answered atomic.Int64
	failed   atomic.Bool  // a Read has
	wrote    atomic.Int64 // when bytes were last taken by the client, in Unix nanoseconds

	resetOnClose atomic.Bool // close with a reset: the answer must not look complete
}

// backHead stands for what is not for net/http.
const backHead = "GET / HTTP/1.1\r\nHost: proxyd\r\n\r\n"

type plainKey struct{}

// feed makes a head the next thing to be read, and its body what follows.
func (p *plainConn) feed(h *head, r *request) {
	p.out = h.raw
	if h.value("expect") != "" {
		p.out = h.without("expect")
	}
	p.length = h.length
	p.chunks = nil
	if h.chunked {
		p.chunks = &chunks{}
	}
	p.c.in.use(len(h.raw))
	p.push(r)
}

func (p *plainConn) push(r *request) {
	p.mu.Lock()
	p.pending = append(p.pending, r)
	p.requests++
	p.mu.Unlock()
}

// next returns the request that net/http has just given to the handler. It
// returns nil when the connection is to be taken back.
func (p *plainConn) next() *request {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = false
	r := p.pending[0]
	p.pending = p.pending[1:]
	return r
}

// setCancel sets what ends the transaction when the client leaves. net/http's
// own context does not do: it ends for good, for all requests that follow, with
// the first read that net/http itself interrupts.
func (p *plainConn) setCancel(cancel context.CancelCauseFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel = cancel
}

// Read returns what has been checked, up to the end of a message.
func (p *plainConn) Read(b []byte) (int, error) {
	n, err := p.read(b)
	if err != nil {
		p.failed.Store(true)
	}
	if err != nil && !errors.Is(err, errBodyCut) {
		p.mu.Lock()
		if p.cancel != nil && !p.stopped && !p.detached {
			p.cancel(err)
		}
		p.mu.Unlock()
	}
	return n, err
}

func (p *plainConn) read(b []byte) (int, error) {
	p.reading.Lock()
	defer p.reading.Unlock()
	for {
		if len(p.out) > 0 {
			n := copy(b, p.out)
			p.out = p.out[n:]
			return n, nil
		}
		switch {
		case p.broken != nil:
			return 0, p.broken
		case p.backGiven:
			return 0, errTakenBack
		case p.length > 0:
			return p.readBody(b)
		case p.chunks != nil:
			if err := p.readChunked(); err != nil {
				return 0, err
			}
		default:
			if err := p.readNext(); err != nil {
				return 0, err
			}
		}
	}
}

var errTakenBack = errors.New("the connection is no longer net/http's")

// readNext waits for the next head. While an answer is under way it waits
// without a limit: net/http listens there for the client to leave.
func (p *plainConn) readNext() error {
	in := &p.c.in
	busy := p.busy()
	if len(in.pending()) == 0 {
		if !busy && p.c.s.draining.Load() {
			return io.EOF
		}
		limit := time.Now().Add(idleTime)
		if busy {
			limit = time.Time{}
		}
		if err := p.allow(limit); err != nil {
			return err
		}
		if err := in.fill(); err != nil {
			if isTimeout(err) && !p.interrupted() {
				return io.EOF // idle for too long
			}
			return err
		}
	}
	// Old clients send an empty line behind a body (RFC 9112 section 2.2).
	if b := in.pending(); len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		in.use(2)
		return nil
	}
	p.mu.Lock()
	p.begun = true
	p.mu.Unlock()
	limit := time.Now().Add(handshakeTime)
	if busy {
		limit = time.Time{}
	}
	if err := p.allow(limit); err != nil {
		return err
	}
	var h head
	switch err := in.readHead(&h); {
	case err == nil:
		r := new(request)
		if p.c.decide(&h, r) == nil && r.action == doForward {
			p.feed(&h, r)
			return nil
		}
	case isTimeout(err) && p.interrupted():
		return err
	default:
		if p.headRefusal = p.c.refuseHead(err); p.headRefusal == nil {
			return err
		}
	}
	in.rescan()
	p.out, p.backGiven = []byte(backHead), true
	p.push(nil)
	return nil
}

// busy reports whether an answer is still owed.
func (p *plainConn) busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int64(p.requests) > p.answered.Load()
}

// allow lets the next read take until t, unless reading has been interrupted.
func (p *plainConn) allow(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.detached {
		return errTakenBack
	}
	if p.stopped {
		return os.ErrDeadlineExceeded
	}
	return p.c.conn.SetReadDeadline(t)
}

func (p *plainConn) interrupted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopped || p.detached
}

// SetReadDeadline interrupts a read if t has passed, and does nothing else.
func (p *plainConn) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = !t.IsZero() && !t.After(time.Now())
	if p.stopped {
		return p.c.conn.SetReadDeadline(longAgo)
	}
	return nil
}

// SetWriteDeadline does nothing: how long a write may take is decided in Write.
func (p *plainConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (p *plainConn) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// detach takes the connection from net/http after a hijack. A read that some
// transport has still under way for the request's body ends first; none begins
// afterwards. The deadline is off then.
func (p *plainConn) detach() {
	p.mu.Lock()
	p.detached = true
	p.c.conn.SetReadDeadline(longAgo)
	p.mu.Unlock()
	p.reading.Lock()
	p.broken = errTakenBack
	p.out = nil
	p.reading.Unlock()
	p.c.conn.SetDeadline(time.Time{})
}

// Write writes to the client. An answer takes as long as its client takes to
// read it, as long as it reads.
func (p *plainConn) Write(b []byte) (int, error) {
	p.c.conn.SetWriteDeadline(time.Now().Add(answerIdle))
	n, err := p.c.conn.Write(b)
	if n > 0 {
		p.wrote.Store(time.Now().UnixNano())
	}
	return n, err
}

// CloseWrite ends our side, as net/http does to end a connection.
func (p *plainConn) CloseWrite() error {
	if t, ok := p.c.conn.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return nil
}

// Close ends the connection; net/http has done with it. The buffer is left to
// the garbage collector: some transport may still read from it.
func (p *plainConn) Close() error {
	p.mu.Lock()
	// Drain has net/http end what is idle, and to net/http a connection is idle
	// until it has a whole request. One that has begun is answered first.
	mine := !p.detached && !(p.begun && p.c.s.endingIdle.Load())
	p.mu.Unlock()
	if !mine {
		return nil
	}
	if p.resetOnClose.Load() {
		p.c.reset()
	} else {
		p.letRead()
		p.c.conn.Close()
	}
	p.c.leave()
	return nil
}

// letRead gives the client time to read its answer where it may still send a
// body that is not read: bytes left unread would make the end a reset.
func (p *plainConn) letRead() {
	p.mu.Lock()
	cut := p.cut
	p.mu.Unlock()
	if cut && p.CloseWrite() == nil {
		p.c.conn.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{p.c.conn}, make([]byte, 4<<10))
	}
}

// LocalAddr returns the connection's local address.
func (p *plainConn) LocalAddr() net.Addr { return p.c.conn.LocalAddr() }

// RemoteAddr returns the client's address.
func (p *plainConn) RemoteAddr() net.Addr { return p.c.conn.RemoteAddr() }

package inbound

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// readBody returns bytes of a body with a length.
func (p *plainConn) readBody(b []byte) (n int, err error) {
	b = b[:min(int64(len(b)), p.length)]
	if have := p.c.in.pending(); len(have) > 0 {
		n = copy(b, have)
		p.c.in.use(n)
	} else {
		err = p.readIdle(func() (err error) {
			n, err = p.c.conn.Read(b)
			return err
		})
	}
	p.length -= int64(n)
	return n, err
}

// readIdle runs one read of a body, which ends the connection when the client
// sends nothing for bodyIdle, nor takes anything of an answer.
func (p *plainConn) readIdle(read func() error) error {
	for {
		if err := p.allowBody(); err != nil {
			return err
		}
		err := read()
		p.mu.Lock()
		p.inBody = false
		cut, stopped := p.cut, p.stopped || p.detached
		p.mu.Unlock()
		switch {
		case !isTimeout(err) || stopped:
			return err
		case cut:
			return errBodyCut
		case time.Since(time.Unix(0, p.wrote.Load())) < bodyIdle:
			continue
		}
		p.broken = bodyTooSlow
		return p.broken
	}
}

var (
	bodyTooSlow = badStatus(http.StatusRequestTimeout, "nothing came of the request's body for 60 s", "")
	errBodyCut  = errors.New("the rest of the body is not wanted")
)

// allowBody is allow for a read of a body; it fails if the body is cut.
func (p *plainConn) allowBody() error {
	if err := p.allow(time.Now().Add(bodyIdle)); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		return errBodyCut
	}
	p.inBody = true
	return nil
}

// cutBody ends a running read of a body, and all later ones. It
// is safe for concurrent use.
func (p *plainConn) cutBody() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	if p.inBody {
		p.c.conn.SetReadDeadline(longAgo)
	}
}

// readChunked reads and checks the next part of a chunked body into p.out.
func (p *plainConn) readChunked() error {
	if len(p.c.in.pending()) == 0 {
		if err := p.readIdle(p.c.in.fill); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	have := p.c.in.pending()
	n, f := p.chunks.feed(have)
	p.out = have[:n]
	p.c.in.use(n)
	if p.chunks.done {
		p.chunks = nil
	}
	if f != nil {
		p.broken = f
		if n == 0 {
			return f
		}
	}
	return nil
}

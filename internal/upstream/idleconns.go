package upstream

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"proxyd/internal/dialer"
)

const (
	keptTime    = 20 * time.Second // how long an idle connection is kept: less than most servers keep it
	keptPerKey  = 4                // idle connections to one target through one member
	keptInTotal = 48               // the only limit that idle connections count against
	bodyIdle    = 5 * time.Minute  // an answer's body, and a request's, between two bytes
)

// idleKey is what an idle connection may be used for: one target through one member,
// for one client connection. So a server that loses count of its answers can mix up
// only those of one client.
type idleKey struct {
	epoch   *connEpoch
	host    string
	port    uint16
	trusted bool
	named   bool
	client  netip.AddrPort
}

// idleConns holds the idle connections of plain HTTP. It lives as long as the process, and is safe for
// concurrent use.
type idleConns struct {
	mu    sync.Mutex
	idle  map[idleKey][]*plainConn // the last used last
	total int
	may   func(idleKey) bool // which may be kept
}

func newIdleConns() *idleConns {
	return &idleConns{idle: map[idleKey][]*plainConn{}, may: func(idleKey) bool { return true }}
}

// plainConn is one connection for plain requests, in use or idle.
type plainConn struct {
	client *http.ClientConn
	link   *plainLink
	key    idleKey
	pool   *idleConns
	beside bool                        // the upstream is a process on this machine
	via    string                      // as in Conn
	timer  *time.Timer                 // ends it when idle; under pool.mu
	body   atomic.Pointer[Interrupter] // of the request that has no answer yet
}

func newPlainConn(c *http.ClientConn, link *plainLink, key idleKey, pool *idleConns, beside bool) *plainConn {
	k := &plainConn{client: c, link: link, key: key, pool: pool, beside: beside}
	c.SetStateHook(func(c *http.ClientConn) {
		switch {
		case c.Err() != nil:
			pool.drop(k)
			k.interrupt()
		case c.Available() > 0:
			pool.put(k)
		}
	})
	return k
}

// take returns an idle connection, nil if there is none.
func (p *idleConns) take(key idleKey) *plainConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for list := p.idle[key]; len(list) > 0; list = p.idle[key] {
		c := list[len(list)-1]
		p.remove(c, len(list)-1)
		if c.client.Err() == nil {
			return c
		}
	}
	return nil
}

// put keeps a connection whose answer has been read to its end.
func (p *idleConns) put(c *plainConn) {
	p.mu.Lock()
	list := p.idle[c.key]
	full := !p.may(c.key) || len(list) >= keptPerKey || p.total >= keptInTotal
	if !full && !slices.Contains(list, c) {
		p.idle[c.key] = append(list, c)
		p.total++
		c.timer = time.AfterFunc(keptTime, func() { p.end(c) })
	}
	p.mu.Unlock()
	if full {
		_ = c.client.Close()
	}
}

// drop forgets a connection that has ended by itself.
func (p *idleConns) drop(c *plainConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.idle[c.key], c); i >= 0 {
		p.remove(c, i)
	}
}

// end closes a connection if it is still idle.
func (p *idleConns) end(c *plainConn) {
	p.mu.Lock()
	i := slices.Index(p.idle[c.key], c)
	if i >= 0 {
		p.remove(c, i)
	}
	p.mu.Unlock()
	if i >= 0 {
		_ = c.client.Close()
	}
}

// only sets which connections may be kept from now on, and closes the other idle
// ones.
func (p *idleConns) only(may func(idleKey) bool) {
	p.mu.Lock()
	p.may = may
	p.mu.Unlock()
	p.closeIdle(func(k idleKey) bool { return !may(k) })
}

// closeIdle closes the idle connections that which selects, and returns their number.
func (p *idleConns) closeIdle(which func(idleKey) bool) int {
	p.mu.Lock()
	var all []*plainConn
	for key, list := range p.idle {
		if which(key) {
			all = append(all, list...)
		}
	}
	for _, c := range all {
		p.remove(c, slices.Index(p.idle[c.key], c))
	}
	p.mu.Unlock()
	for _, c := range all {
		_ = c.client.Close()
	}
	return len(all)
}

// remove removes the i-th idle connection of c's key. p.mu is held.
func (p *idleConns) remove(c *plainConn, i int) {
	c.timer.Stop()
	p.total--
	if list := slices.Delete(p.idle[c.key], i, i+1); len(list) > 0 {
		p.idle[c.key] = list
	} else {
		delete(p.idle, c.key)
	}
}

// plainLink is the connection below a plainConn: it gives up when no byte moves
// in either direction for bodyIdle, keeps the head of the last answer as it
// came, and reports when it is closed.
type plainLink struct {
	net.Conn
	release func()
	once    atomic.Bool
	wrote   atomic.Int64 // when bytes were last taken by the far end, in Unix nanoseconds

	mu  sync.Mutex
	buf []byte // the head of the answer, interim ones before it left out, and what came along with its end
	end int    // of the head in buf; negative while there is none

	interims int // answers 1xx that came before it
}

// Read waits for bytes, and longer than bodyIdle while a request's body is being sent.
func (l *plainLink) Read(p []byte) (int, error) {
	for {
		_ = l.SetReadDeadline(time.Now().Add(bodyIdle))
		n, err := l.Conn.Read(p)
		if n > 0 && !l.look(p[:n]) {
			return 0, errInterims
		}
		if n > 0 || !dialer.IsTimeout(err) || time.Since(time.Unix(0, l.wrote.Load())) >= bodyIdle {
			return n, err
		}
	}
}

// await begins to wait for the head of an answer. What answer returned is no longer
// valid.
func (l *plainLink) await() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf, l.end, l.interims = l.buf[:0], noHead, 0
}

// answer returns the head that came, and the first bytes of what follows it.
func (l *plainLink) answer() (head, tail []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := max(0, l.end)
	return l.buf[:end:end], l.buf[end:]
}

const noHead = -1

const maxInterims = 32 // answers 1xx before the real one; each is passed on to the client

var errInterims = fmt.Errorf("more than %d interim answers", maxInterims)

// look keeps bytes that belong to the head of an answer. It reports whether there
// were not too many interim ones before it. net/http limits its length.
func (l *plainLink) look(b []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end >= 0 {
		return true
	}
	from := max(0, len(l.buf)-len("\n\r"))
	l.buf = append(l.buf, b...)
	for {
		l.end = headEnd(l.buf, from)
		if i := len("HTTP/1.1 "); l.end <= i || l.buf[i] != '1' {
			return true
		}
		if l.interims++; l.interims > maxInterims {
			return false
		}
		l.buf, from = append(l.buf[:0], l.buf[l.end:]...), 0 // it was an interim answer
	}
}

// headEnd returns where the head in b ends, at from or later, or noHead.
func headEnd(b []byte, from int) int {
	for i := from; i < len(b); i++ {
		if b[i] != '\n' {
			continue
		}
		switch rest := b[i+1:]; {
		case bytes.HasPrefix(rest, []byte("\n")):
			return i + 2
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return i + 3
		}
	}
	return noHead
}

// Write writes p, and gives up if nothing moves for bodyIdle.
func (l *plainLink) Write(p []byte) (int, error) {
	_ = l.SetWriteDeadline(time.Now().Add(bodyIdle))
	n, err := l.Conn.Write(p)
	if n > 0 {
		l.wrote.Store(time.Now().UnixNano())
	}
	return n, err
}

// Close closes the connection, and releases it the first time.
func (l *plainLink) Close() error {
	err := l.Conn.Close()
	if l.once.CompareAndSwap(false, true) {
		l.release()
	}
	return err
}

// keptKeyOf returns the key of idle connections through u to t.
func idleKeyOf(u *Upstream, t *Target) idleKey {
	return idleKey{u.epoch, t.Host, t.Port, t.Trusted, t.Named, t.Client}
}

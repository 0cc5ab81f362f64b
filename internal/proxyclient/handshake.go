// Package proxyclient asks upstream proxies for tunnels: CONNECT over HTTP and
// HTTPS, SOCKS4, SOCKS4a and SOCKS5, and turns whatever goes wrong into an error
// that says what to do.
//
// It opens no connection, resolves no name, and chooses no proxy.
package proxyclient

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/dialer"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
)

// headLimit is the most bytes that a proxy may send before the tunnel is open.
const headLimit = 16 << 10

// scratch holds the buffers of handshakes. Most need a few dozen bytes, and none
// keeps its buffer once the tunnel is open.
var scratch = sync.Pool{New: func() any { return new([2 << 10]byte) }}

// Client speaks to one proxy. It is safe for concurrent use.
type Client struct {
	Scheme      config.Scheme
	Credentials *Credentials
	TLS         *tls.Config  // nil unless Scheme is https
	Certificate *Certificate // of the proxy, as its handshakes show it
}

// New returns the client of p. It reads the files that p names for TLS, whether
// or not the scheme uses them.
func New(p config.Proxy) (*Client, error) {
	settings, err := newTLSConfig(p)
	if err != nil {
		return nil, err
	}
	c := &Client{Scheme: p.URL.Scheme, Credentials: newCredentials(p.URL), Certificate: &Certificate{}}
	if c.Scheme == config.SchemeHTTPS {
		c.TLS = settings
	}
	return c, nil
}

// Request is what a proxy is asked for.
type Request struct {
	To  Addr
	IP  netip.Addr // the address of To if that is a name and NeedsIP says so
	Via string     // the value of a Via line, "" for none; HTTP only
}

// NeedsIP reports whether the proxy must be given an address for the name a:
// SOCKS4 sends no names.
func (c *Client) NeedsIP(a Addr) bool { return c.Scheme == config.SchemeSOCKS4 && !a.IsIP() }

// Connect asks the proxy at the far end of conn for a tunnel. It returns the
// connection to use, TLS if the proxy speaks it, and the bytes that came behind
// the reply. The caller closes conn, whatever happens. When ctx ends, conn can be
// used no more.
func (c *Client) Connect(ctx context.Context, conn net.Conn, r Request) (tunnel net.Conn, early []byte, fail *failure.Error) {
	stop := interruptOn(ctx, conn)
	buf := scratch.Get().(*[2 << 10]byte)
	defer scratch.Put(buf)
	tunnel, e := c.startTLS(conn)
	k := &handshake{conn: tunnel, scheme: c.Scheme, buf: buf[:]}
	if e == nil {
		e = k.connect(r, c.Credentials)
	}
	if e = settle(stop, e); e != nil {
		e.Sent = k.asked
		return nil, nil, e
	}
	return tunnel, k.rest(), nil
}

// Secure starts TLS on conn if the proxy speaks it, and returns the connection to
// use, else conn itself. The caller closes conn, whatever happens.
func (c *Client) Secure(ctx context.Context, conn net.Conn) (net.Conn, *failure.Error) {
	if c.TLS == nil {
		return conn, nil
	}
	stop := interruptOn(ctx, conn)
	secured, e := c.startTLS(conn)
	if e = settle(stop, e); e != nil {
		return nil, e
	}
	return secured, nil
}

// handshake is one handshake with one proxy on a new connection.
type handshake struct {
	conn   net.Conn
	scheme config.Scheme
	buf    []byte // pooled until an answer outgrows it
	have   int    // bytes of buf that were received and not yet taken
	step   string // what is being waited for, for people
	since  time.Time
	asked  bool // the proxy has the whole request: from now on the time is the target's
}

// connect asks for a tunnel in the protocol of the scheme.
func (k *handshake) connect(r Request, c *Credentials) *failure.Error {
	switch k.scheme {
	case config.SchemeHTTP, config.SchemeHTTPS:
		return k.httpConnect(r.To, c, r.Via)
	case config.SchemeSOCKS5, config.SchemeSOCKS5H:
		return k.socks5Connect(r.To, c)
	}
	if e := socks4Carries(r.To, k.scheme); e != nil {
		return e
	}
	ip := r.IP
	if r.To.IsIP() {
		ip = r.To.IP.Unmap()
	}
	return k.socks4Connect(r.To, ip, c)
}

// interruptOn makes the I/O of conn fail as soon as ctx ends, without a goroutine
// that waits for it.
func interruptOn(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// settle ends what interruptOn began. It turns a success into an error when ctx
// has ended meanwhile: conn has its deadline in the past, or is about to.
func settle(stop func() bool, e *failure.Error) *failure.Error {
	if !stop() && e == nil {
		return &failure.Error{Class: failure.UpstreamTimeout, Text: "opened the tunnel just as the time ended"}
	}
	return e
}

// rest returns what was received behind the last answer, nil if nothing.
func (k *handshake) rest() []byte {
	if k.have == 0 {
		return nil
	}
	return append([]byte(nil), k.buf[:k.have]...)
}

// send writes one message in one write.
func (k *handshake) send(step string, message []byte) *failure.Error {
	k.step, k.since = step, time.Now()
	if _, err := k.conn.Write(message); err != nil {
		return k.broken(err)
	}
	return nil
}

// receive reads what there is, at least one byte, behind what it has.
func (k *handshake) receive() *failure.Error {
	if k.have == len(k.buf) {
		bigger := make([]byte, headLimit)
		copy(bigger, k.buf[:k.have])
		k.buf = bigger
	}
	n, err := k.conn.Read(k.buf[k.have:])
	k.have += n
	if n == 0 && err != nil {
		return k.broken(err)
	}
	return nil
}

// receiveAll reads until at least n bytes are there.
func (k *handshake) receiveAll(n int) *failure.Error {
	for k.have < n {
		if e := k.receive(); e != nil {
			return e
		}
	}
	return nil
}

// take drops the first n received bytes.
func (k *handshake) take(n int) {
	k.have = copy(k.buf, k.buf[n:k.have])
}

// garbage returns the error of an answer in the wrong protocol.
func (k *handshake) garbage() *failure.Error { return garbage(k.buf[:k.have], k.scheme) }

// mayBeOther is the hint for a proxy that stays silent: one of another protocol
// waits for a line that never comes.
const mayBeOther = "it may speak another protocol: check the scheme and the port in its URL; if it is only slow, raise timeout_seconds"

// broken returns the error of a read or write that failed.
func (k *handshake) broken(err error) *failure.Error {
	e := &failure.Error{Class: failure.UpstreamProtocol, Err: err}
	switch {
	case dialer.IsTimeout(err):
		e.Class = failure.UpstreamTimeout
		if k.asked {
			e.Class, e.Unsure = failure.TargetTimeout, true
		}
		e.Text = "accepted TCP, then silent at " + k.step + " for " + printable.Seconds(time.Since(k.since))
		if k.have == 0 && k.scheme != config.SchemeHTTP {
			e.Hint = mayBeOther
		}
		if k.have > 0 {
			e.Text = "sent only a part of " + k.step + " in " + printable.Seconds(time.Since(k.since))
		}
	case alertOf(err) != nil: // in TLS 1.3 our side is open before a certificate of ours is judged
		return tlsError(err)
	case errors.Is(err, io.EOF) && k.have > 0:
		e.Text = "closed the connection in the middle of " + k.step
	case errors.Is(err, io.EOF):
		e.Text = "closed the connection at " + k.step
	case dialer.IsReset(err):
		e.Text = "reset the connection at " + k.step
	default:
		e.Text = "broke off at " + k.step
	}
	return e
}

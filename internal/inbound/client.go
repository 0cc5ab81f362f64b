package inbound

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
)

// client is one accepted connection until it is a tunnel.
type client struct {
	s                 *Server
	listener          *listener
	conn              net.Conn     // what is spoken on: tcp, or TLS over it
	tcp               *net.TCPConn // nil only if the listener is no TCP listener
	addr              netip.AddrPort
	settings          config.Listener
	users             *users
	deadline          time.Time // of the handshake
	in                input
	req               request       // the request being served, but for plain HTTP
	protocolReported  bool          // its protocol has been reported
	waitElem          *list.Element // among Server.waiting, nil when it is not; under Server.mu, as the next three
	since             time.Time     // when it began to wait
	answered, evicted bool
	busy              atomic.Bool // it is among Server.busy, until it leaves
	tunnel            *tunnel.Tunnel
	refusal           *tunnel.Refusal
}

// serve detects the protocol by the first byte.
func (c *client) serve() {
	c.in.conn = c.conn
	if c.settings.Transparent {
		c.serveTransparent()
		return
	}
	if !c.allowed() {
		c.reject()
		return
	}
	if c.settings.TLSCert != "" && !c.startTLS() {
		return
	}
	first, ok := c.firstByte()
	if !ok {
		return
	}
	switch {
	case first == 5:
		c.reportProtocol("socks5")
		c.serveSOCKS5()
	case first == 4:
		c.reportProtocol("socks4")
		c.serveSOCKS4()
	case isLetter(first):
		c.serveHTTP(nil)
	case first == 0x16:
		c.reportProtocol("tls")
		c.refuseHTTP(&tunnel.Request{Protocol: "http"}, plainPort)
	default:
		c.reportProtocol("unknown")
		c.drop("unknown", cleanLine("first byte 0x%02x: neither HTTP nor SOCKS", first))
	}
}

// reportProtocol reports what the connection speaks, the first time.
func (c *client) reportProtocol(protocol string) {
	if !c.protocolReported && c.s.opts.Accepted != nil {
		c.s.opts.Accepted(protocol)
	}
	c.protocolReported = true
}

var (
	plainPort = &refusal{
		class: failure.BadRequest, text: "this port speaks plain HTTP, use http:// in the proxy URL",
		hint: "the client began a TLS handshake",
	}
	tlsPort = &refusal{
		class: failure.BadRequest, text: "this port speaks TLS, use https:// in the proxy URL",
		hint: "the listener has a certificate (tls), so nothing is accepted in clear",
	}
)

// firstByte reads until there is a first byte, which it does not consume. It
// returns false if there is none; the connection is closed then.
func (c *client) firstByte() (byte, bool) {
	if len(c.in.pending()) == 0 {
		if err := c.in.fill(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.drop("unknown", "the client sent nothing for "+handshakeWords)
			} else {
				c.close() // the client left without sending anything, as port probes do
			}
			return 0, false
		}
	}
	return c.in.pending()[0], true
}

// allowed checks the listener's list of client addresses.
func (c *client) allowed() bool {
	if len(c.settings.Allow) == 0 {
		return true
	}
	for _, p := range c.settings.Allow {
		if p.Contains(c.addr.Addr()) {
			return true
		}
	}
	return false
}

// reject answers a client that may not connect here. It reads no request, only
// the first byte, for the protocol, and waits for that a short time.
func (c *client) reject() {
	f := c.notAllowed()
	c.conn.SetReadDeadline(time.Now().Add(lingerTime))
	err := c.in.fill()
	switch {
	case err != nil:
		c.record(&tunnel.Request{Protocol: "unknown"}, f)
		c.reset()
		c.leave()
	case c.in.pending()[0] == 5:
		c.record(&tunnel.Request{Protocol: "socks5"}, f)
		c.reply([]byte{5, 0xff})
		c.linger()
	case c.in.pending()[0] == 4:
		c.record(&tunnel.Request{Protocol: "socks4"}, f)
		c.reply(socks4Refused)
		c.linger()
	default:
		c.refuseHTTP(&tunnel.Request{Protocol: "http"}, f)
	}
}

func (c *client) notAllowed() *refusal {
	return &refusal{
		class: failure.Denied, text: "client address " + c.addr.Addr().String() + " is not on this listener's list",
		hint: "add it to the listener's allow",
	}
}

// open opens a tunnel to the target. If the client leaves, the attempt ends.
func (c *client) open(r tunnel.Request) (*tunnel.Tunnel, *tunnel.Refusal) {
	if !c.s.stopWaiting(c) {
		return nil, &tunnel.Refusal{Class: failure.ClientGone, Text: errLeft.Error()}
	}
	if !c.busy.Swap(true) {
		c.s.busy.Add(1)
	}
	ctx, cancel := context.WithCancel(c.s.ctx)
	defer cancel()
	w := startWatch(c.tcp, c.settings.Transparent, cancel)
	t, err := c.s.handler.Open(ctx, r)
	w.stop()
	if err != nil {
		c.s.startWaiting(c)
		return nil, asRefusal(err)
	}
	if ctx.Err() != nil {
		t.Abandon(errLeft)
		return nil, &tunnel.Refusal{Class: failure.ClientGone, Text: errLeft.Error()}
	}
	return t, nil
}

var errLeft = errors.New("the client left before the reply")

func asRefusal(err error) *tunnel.Refusal {
	var r *tunnel.Refusal
	if errors.As(err, &r) {
		return r
	}
	return &tunnel.Refusal{Class: failure.Local, Text: "internal error", Err: err}
}

// carry makes the connection a tunnel. The client has had its reply.
func (c *client) carry(t *tunnel.Tunnel) {
	early := c.in.take()
	c.leave()
	t.Carry(c.conn, early)
}

// wait delays an answer. It returns false when the client left meanwhile.
func (c *client) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(c.s.ctx, d)
	defer cancel()
	w := startWatch(c.tcp, c.settings.Transparent, cancel)
	<-ctx.Done()
	w.stop()
	return errors.Is(ctx.Err(), context.DeadlineExceeded)
}

// complete adds the client's address and the listener to a request.
func (c *client) complete(r *tunnel.Request) tunnel.Request {
	r.Client = c.addr
	r.Hint.Listener = c.settings.Address
	return *r
}

// record counts and logs a refusal that is decided here.
func (c *client) record(r *tunnel.Request, f *refusal) *tunnel.Refusal {
	return c.s.handler.Refuse(c.complete(r), f.class, f.status, f.text, f.hint)
}

// drop closes a connection that cannot be answered in any protocol, and says
// why in the log.
func (c *client) drop(protocol, why string) {
	c.record(&tunnel.Request{Protocol: protocol, Hint: router.Hint{}}, &refusal{class: failure.BadRequest, text: why})
	c.close()
}

// Write sends an answer to the client, in every protocol but plain
// HTTP, where net/http writes. Each write has a deadline of its own: how long
// the request took, or the upstream, is none of its concern.
func (c *client) Write(b []byte) (int, error) {
	c.conn.SetWriteDeadline(time.Now().Add(answerTime))
	return c.conn.Write(b)
}

// reply writes a reply, in one write.
func (c *client) reply(b []byte) bool {
	_, err := c.Write(b)
	return err == nil
}

// linger ends a connection so that the client can read the answer: bytes
// that it sent and that were not read would make a plain close a reset, and a reset
// discards the answer.
func (c *client) linger() {
	defer c.close()
	c.s.startWaiting(c)
	if t, ok := c.conn.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	var raw net.Conn = c.conn
	if c.tcp != nil {
		raw = c.tcp
		c.tcp.CloseWrite()
	}
	raw.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{raw}, make([]byte, 4<<10))
}

// close ends the connection.
func (c *client) close() {
	c.conn.Close()
	c.in.release()
	c.leave()
}

// reset ends the connection's socket with a reset. The goroutine that serves
// it notices and returns.
func (c *client) reset() {
	if c.tcp != nil {
		_ = c.tcp.SetLinger(0)
		c.tcp.Close()
		return
	}
	c.conn.Close()
}

func (c *client) leave() { c.s.remove(c) }

// crash ends a connection whose handling has panicked.
func (c *client) crash(v any, stack []byte) {
	c.s.panicked(v, stack)
	c.reset()
	c.leave()
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

func isLetter(b byte) bool { return 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z' }

// refuseHTTP records a refusal, answers it and closes the connection.
func (c *client) refuseHTTP(r *tunnel.Request, f *refusal) {
	c.sendRefusal(answer{Refusal: c.record(r, f), proxy: f.proxy}, f.delay)
}

// sendRefusal answers and closes the connection, unless the answer keeps it;
// then it says whether the connection lives on.
func (c *client) sendRefusal(a answer, delay time.Duration) bool {
	if a.Class == failure.ClientGone || !c.wait(a.Delay+delay) || !c.reply(a.bytes()) {
		c.close()
		return false
	}
	if a.keep {
		return true
	}
	c.linger()
	return false
}

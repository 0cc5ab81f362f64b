// Package inbound speaks to clients: it detects SOCKS and HTTP on one port,
// parses, authenticates, and answers in the client's own protocol. It neither
// dials nor copies; tunnel does.
//
// goproxy dispatches CONNECT and plain HTTP, go-socks5 parses SOCKS5. Request
// heads and the framing of request bodies are read here, strictly, before any
// library sees them: what two readers could understand differently is refused.
package inbound

import (
	"container/list"
	"context"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elazarl/goproxy"

	"proxyd/internal/config"
	"proxyd/internal/printable"
	"proxyd/internal/transparent"
	"proxyd/internal/tunnel"
)

const (
	handshakeTime = 10 * time.Second // from accept, or the last answer on a kept connection, until the request is complete
	answerTime    = 10 * time.Second // for the client to take one write of an answer
	idleTime      = 90 * time.Second // a kept plain HTTP connection between two requests
	bodyIdle      = 60 * time.Second // a request's body between two bytes of it, while no answer goes to the client
	answerIdle    = 5 * time.Minute  // a plain answer between two bytes that come, or that the client takes
	mostWaiting   = 16384            // connections that wait for their request, whatever the limit of open files
	lingerTime    = 2 * time.Second  // for the client to read the answer, before its connection is closed
)

// handshakeWords is handshakeTime in messages.
var handshakeWords = printable.Seconds(handshakeTime)

// Options are what a Server needs.
type Options struct {
	Handler *tunnel.Handler
	// HopToken is the name that this process gives itself in Via fields: a
	// request that bears it has been here before. "" looks for none.
	HopToken string
	// Debug takes what the protocol libraries have to say; nil drops it.
	Debug func(msg string)
	// Panicked is called after a panic in one connection's handling, with its stack; nil drops it.
	Panicked func(v any, stack []byte)
	// Accepted is called once for each connection with what it speaks: "connect" or
	// "http" by its first request, "socks4", "socks5", "tls" (where it should
	// not), "unknown" by its first byte, "transparent" by its listener; nil drops it.
	Accepted func(protocol string)
	// AcceptFailed is called after failed accepts (out of descriptors, say), at most
	// once a second; Serve goes on.
	AcceptFailed func(err error)
	// Room reports how many connections may wait for their request now; beyond
	// it the one that has waited longest is closed. nil: a few thousand. It must
	// not block.
	Room func() int
	// OutOfFiles is called for each accept that found no descriptor, and reports
	// whether it has freed one; nil: Server.Relieve.
	OutOfFiles func() bool
	// Evicted is called for each that was closed so; nil drops it.
	Evicted func()
	// Destination returns the address that the client of a redirected connection
	// connected to; nil: the one that the kernel has kept.
	Destination func(*net.TCPConn) (netip.AddrPort, error)
	// NameOf returns the name that a name server of ours has given an address out for,
	// if it has. It must not block. nil: there is none.
	NameOf func(netip.Addr) (name string, ok bool)
}

// Server serves clients on any number of listeners.
type Server struct {
	handler     *tunnel.Handler
	opts        Options
	ctx         context.Context // ends with Close; what is being opened for a client hangs on it
	cancel      context.CancelFunc
	proxy       *goproxy.ProxyHttpServer
	plainServer *http.Server
	queue       *connQueue // connections that are handed to plainServer

	handshake time.Duration // handshakeTime, shorter in tests
	reply     time.Duration // replyTime, shorter in tests

	draining   atomic.Bool
	endingIdle atomic.Bool  // Drain is having net/http close its idle connections
	busy       atomic.Int64 // requests that have been read and not yet answered to the end

	mu      sync.Mutex
	closed  bool
	serving bool // plain has been started
	conns   map[*client]struct{}
	serves  map[*listener]struct{}
	waiting list.List      // the conns that wait, each a *client, the one that has waited longest first
	done    sync.WaitGroup // one for each of conns, one for plain
}

// New returns a Server. It starts nothing.
func New(o Options) *Server {
	s := &Server{handler: o.Handler, opts: o, queue: newConnQueue(), conns: map[*client]struct{}{}, serves: map[*listener]struct{}{}, handshake: handshakeTime, reply: replyTime}
	// No caller's context lives as long as the Server; Close ends this one.
	if s.opts.Destination == nil {
		s.opts.Destination = transparent.OriginalDestination
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.proxy = s.newProxy()
	s.plainServer = &http.Server{
		Handler:                      http.HandlerFunc(s.servePlain),
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(debugWriter{o.Debug}, "", 0),
		BaseContext:                  func(net.Listener) context.Context { return s.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, plainKey{}, c)
		},
	}
	return s
}

// Serve accepts on ln until it is closed, and returns nil then. settings is
// called once for each connection, so that a reload takes effect without a new
// listener. Serve owns ln, whose connections are expected to have keepalive on.
func (s *Server) Serve(ln net.Listener, settings func() config.Listener) error {
	defer ln.Close()
	s.startPlain()
	d := &listener{s: s, settings: settings}
	s.mu.Lock()
	s.serves[d] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.serves, d)
		s.mu.Unlock()
	}()
	return d.accept(ln)
}

// Drain lets kept plain HTTP connections end after their current request, which
// may have come only in part, and answers no new ones; connections in their
// handshake go on.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.endingIdle.Store(true)
	s.plainServer.SetKeepAlivesEnabled(false)
	s.endingIdle.Store(false)
}

// Wait blocks until no request is being served, or ctx ends. Connections that
// have not sent a whole request, or wait between two, are not waited for.
func (s *Server) Wait(ctx context.Context) error {
	const look = 10 * time.Millisecond
	for s.busy.Load() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
	}
	return nil
}

// Idle reports whether no connection is left that is not a tunnel.
func (s *Server) Idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) == 0
}

// Close ends all connections that are not yet tunnels and waits for them. A
// client that still waits for its answer sees a reset: some take an orderly
// end without an answer for an invitation to retry at once.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	conns := make([]*client, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.reset() // before anything can end them in order
	}
	s.cancel()
	s.queue.Close()
	s.plainServer.Close()
	s.done.Wait()
}

// startPlain starts the server of plain HTTP, the first time. It ends with Close.
func (s *Server) startPlain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving || s.closed {
		return
	}
	s.serving = true
	s.done.Go(func() { _ = s.plainServer.Serve(s.queue) })
}

// remove forgets a connection that is closed or has become a tunnel.
func (s *Server) remove(c *client) {
	s.mu.Lock()
	_, there := s.conns[c]
	delete(s.conns, c)
	if c.waitElem != nil {
		s.waiting.Remove(c.waitElem)
		c.waitElem = nil
	}
	s.mu.Unlock()
	if c.busy.Swap(false) {
		s.busy.Add(-1)
	}
	if there {
		s.done.Done()
	}
}

func (s *Server) panicked(v any, stack []byte) {
	if s.opts.Panicked != nil {
		s.opts.Panicked(v, stack)
	}
}

// debugWriter passes the lines of a library's log on.
type debugWriter struct{ debug func(string) }

// Write takes one line.
func (w debugWriter) Write(p []byte) (int, error) {
	if w.debug != nil {
		w.debug(string(p))
	}
	return len(p), nil
}

// Printf is goproxy's idea of a logger.
func (w debugWriter) Printf(format string, v ...any) {
	if w.debug != nil {
		w.debug(cleanLine(format, v...))
	}
}

// connQueue is a listener that is fed by hand.
type connQueue struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newConnQueue() *connQueue {
	return &connQueue{conns: make(chan net.Conn), done: make(chan struct{})}
}

// put hands a connection to Accept. It returns false when the
// queue is closed.
func (h *connQueue) put(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

// Accept returns the next connection.
func (h *connQueue) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *connQueue) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr returns an empty address: a queue has none.
func (h *connQueue) Addr() net.Addr { return &net.TCPAddr{} }

package testkit

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// server accepts connections and knows all that it and its handlers hold, so
// that the end of a test can close them and wait.
type server struct {
	ln net.Listener
	wg sync.WaitGroup

	mu       sync.Mutex
	open     map[net.Conn]struct{}
	accepted int
	closed   bool
}

// newServer listens on a free port of an address.
func newServer(t testing.TB, host string) *server {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{ln: ln, open: map[net.Conn]struct{}{}}
	t.Cleanup(s.Stop)
	return s
}

// serve hands every connection to handle, which may return early: the
// connection is closed then.
func (s *server) serve(handle func(net.Conn)) {
	s.wg.Go(func() { // ends when Stop closes the listener
		for {
			c, err := s.ln.Accept()
			if err != nil || !s.admit(c) {
				return
			}
			s.wg.Go(func() { // ends when handle does: at the latest when Stop closes c
				defer s.drop(c)
				handle(c)
			})
		}
	})
}

// admit counts a connection and tracks it.
func (s *server) admit(c net.Conn) bool {
	s.mu.Lock()
	s.accepted++
	s.mu.Unlock()
	return s.track(c)
}

// track makes Stop close c too. It reports false, and closes c, when it is too
// late.
func (s *server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return false
	}
	s.open[c] = struct{}{}
	return true
}

// enter makes Stop wait until the caller calls done. It
// reports false when it is too late.
func (s *server) enter() (done func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false
	}
	s.wg.Add(1)
	return s.wg.Done, true
}

func (s *server) drop(c net.Conn) {
	_ = c.Close()
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
}

// Stop closes the listener and every connection, as a peer that dies does, and
// waits until all is quiet. The end of the test does it too.
func (s *server) Stop() {
	_ = s.ln.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Accepted returns how many connections have been accepted so far.
func (s *server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Open returns how many connections are open now, the outgoing ones included.
func (s *server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// ResetAll resets every connection that is open now; new ones are served as before.
func (s *server) ResetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		Reset(c)
	}
}

// pipe copies in both directions until both have ended, passing on half-closes
// and, as a reset, any error. What a buffered reader of a still holds comes
// from fromA.
func pipe(a, b net.Conn, fromA io.Reader) {
	var both sync.WaitGroup
	both.Go(func() { oneWay(b, fromA, a) })
	both.Go(func() { oneWay(a, b, b) })
	both.Wait()
}

func oneWay(dst net.Conn, src io.Reader, srcConn net.Conn) {
	_, err := copyAll(dst, src)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		Reset(dst)
		Reset(srcConn)
		return
	}
	CloseWrite(dst)
}

// copyAll is io.Copy that does not splice: the pipes of that stay open
// until the garbage is collected, and tests count descriptors.
func copyAll(dst io.Writer, src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{dst}, struct{ io.Reader }{src})
}

// CloseWrite sends a FIN (over TLS, first a close_notify) and leaves the other
// direction open.
func CloseWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}

// Reset closes a connection with a RST.
func Reset(c net.Conn) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

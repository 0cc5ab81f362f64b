package testkit

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
)

// TCP is a server that does one thing with each connection.
type TCP struct {
	*server
	Addr string // "127.0.0.1:port"
}

// NewTCP serves each connection with handle; the connection is closed when
// handle returns.
func NewTCP(t testing.TB, handle func(net.Conn)) *TCP {
	t.Helper()
	return NewTCPOn(t, "127.0.0.1", handle)
}

// NewTCPOn is NewTCP on a port of another address, such as "::1".
func NewTCPOn(t testing.TB, host string, handle func(net.Conn)) *TCP {
	t.Helper()
	s := newServer(t, host)
	s.serve(handle)
	return &TCP{s, s.ln.Addr().String()}
}

// Echo sends back what it gets, and ends when the peer has.
func Echo(c net.Conn) {
	_, _ = copyAll(c, c)
	CloseWrite(c)
}

// Hang reads and never answers, until the peer ends.
func Hang(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// Stall neither reads nor writes until the test ends, so that what the peer
// sends piles up.
func Stall(c net.Conn) {
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = raw.Read(func(uintptr) bool { return false }) // waits on until c is closed
		}
	}
}

// Source sends n bytes of Pattern, then a FIN, and waits for the peer's.
func Source(n int) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = c.Write(Pattern(n))
		CloseWrite(c)
		Hang(c)
	}
}

// HalfCloser sends its greeting and a FIN first, and reads on: it is done when
// the peer's FIN comes. What came is in Received.
type HalfCloser struct {
	Greeting []byte
	Recorder
}

// Handle serves one connection.
func (h *HalfCloser) Handle(c net.Conn) {
	_, _ = c.Write(h.Greeting)
	CloseWrite(c)
	h.Recorder.Handle(c)
}

// ResetAfter reads n bytes (or none) and resets the connection.
func ResetAfter(n int) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.CopyN(io.Discard, c, int64(n))
		Reset(c)
	}
}

// Recorder keeps all that it gets, connection by connection, and says Answer
// to each when its first bytes have come.
type Recorder struct {
	Answer []byte

	mu   sync.Mutex
	got  []*bytes.Buffer
	ends []error // how each ended connection ended; nil is a FIN
}

// Handle serves one connection.
func (r *Recorder) Handle(c net.Conn) {
	buf := &bytes.Buffer{}
	r.mu.Lock()
	r.got = append(r.got, buf)
	r.mu.Unlock()
	block := make([]byte, 32<<10)
	for first := true; ; first = false {
		n, err := c.Read(block)
		r.mu.Lock()
		buf.Write(block[:n])
		if err != nil {
			end := err
			if errors.Is(err, io.EOF) {
				end = nil
			}
			r.ends = append(r.ends, end)
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
		if first && len(r.Answer) > 0 {
			_, _ = c.Write(r.Answer)
		}
	}
}

// Received returns what each connection has sent so far.
func (r *Recorder) Received() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]string, len(r.got))
	for i, b := range r.got {
		list[i] = b.String()
	}
	return list
}

// Ended returns how the connections that have ended did, in the order of their
// ends; nil is a FIN.
func (r *Recorder) Ended() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]error(nil), r.ends...)
}

// Pattern returns n bytes in which no two parts look alike, so that a lost,
// doubled or swapped byte shows.
func Pattern(n int) []byte {
	b := make([]byte, n)
	x := uint32(2463534242)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

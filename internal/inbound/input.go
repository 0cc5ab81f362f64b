package inbound

import (
	"net"
	"sync"
)

const (
	maxHead  = 32 << 10
	smallBuf = 4 << 10
)

// input is what has been read from a client and not yet used. It holds a
// buffer only from the first read on, and grows it only for a long head.
type input struct {
	conn net.Conn
	buf  *[smallBuf]byte // from the pool; nil when none is held
	b    []byte          // b[r:] is pending
	r    int

	// How far the head at b[r:] has been looked at.
	scanned, lines, lineStart int
}

var smallBufs = sync.Pool{New: func() any { return new([smallBuf]byte) }}

// pending returns what has been read and not used.
func (in *input) pending() []byte { return in.b[in.r:] }

// fill reads more, at most maxHead in all. What pending returned before is void.
func (in *input) fill() error {
	if in.b == nil {
		in.buf = smallBufs.Get().(*[smallBuf]byte)
		in.b = in.buf[:0]
	}
	if in.r == len(in.b) {
		in.b, in.r = in.b[:0], 0
	}
	if len(in.b) == cap(in.b) {
		in.makeRoom()
	}
	n, err := in.conn.Read(in.b[len(in.b):cap(in.b)])
	in.b = in.b[:len(in.b)+n]
	if n > 0 {
		return nil
	}
	return err
}

func (in *input) makeRoom() {
	if in.r > 0 {
		n := copy(in.b, in.b[in.r:])
		in.b, in.r = in.b[:n], 0
		return
	}
	big := make([]byte, len(in.b), maxHead)
	copy(big, in.b)
	in.b = big
}

// use consumes n pending bytes.
func (in *input) use(n int) {
	in.r += n
	in.rescan()
}

// rescan forgets how far the pending bytes have been looked at.
func (in *input) rescan() { in.scanned, in.lines, in.lineStart = 0, 0, 0 }

// take returns what is pending, as the caller's own, and lets the buffer go.
func (in *input) take() []byte {
	var rest []byte
	if p := in.pending(); len(p) > 0 {
		rest = append(rest, p...)
	}
	in.release()
	return rest
}

// release gives the buffer back. The caller must hold no part of it.
func (in *input) release() {
	if in.buf != nil {
		smallBufs.Put(in.buf)
	}
	in.buf, in.b, in.r = nil, nil, 0
	in.rescan()
}

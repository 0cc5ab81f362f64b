package relay

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

const canFreeze = true

// mover is what a direction between two plain TCP conns holds while bytes are
// there; one that waits holds none. It reads and writes inside the wait for src
// to become readable, with non-blocking system calls that bypass the
// scheduler: a message costs 44 CPU µs so, 78-104 through Read and Write (5,000
// messages a second over 100 tunnels). It allocates nothing per message.
type mover struct {
	d      *direction
	flush  func(fd uintptr) bool // the method flushRest, bound once: binding allocates
	drain  func(fd uintptr) bool // drainPipe, likewise
	rest   []byte                // read and not yet written
	pipe   *pipe                 // while splicing
	inPipe int                   // bytes in it
	turn   turn
	buf    buffer
}

func newMover() *mover {
	m := new(mover)
	m.flush, m.drain = m.flushRest, m.drainPipe
	return m
}

// moveTCP moves everything from src to dst.
func (d *direction) moveTCP(src, dst *net.TCPConn) *sideError {
	source, err := src.SyscallConn()
	if err != nil {
		return &sideError{d.from(), err}
	}
	if d.sink, err = dst.SyscallConn(); err != nil {
		return &sideError{d.to(), err}
	}
	if err = source.Read(d.readable); err != nil { // the wait has failed, not a mover
		if d.frozen(err, nil) {
			err = errFrozen
		}
		d.failure = &sideError{d.from(), err}
	}
	return d.failure
}

// moveFromTCP moves everything from src to a conn that is not plain TCP. The
// write stands outside the wait: it may block.
func (d *direction) moveFromTCP(src *net.TCPConn) *sideError {
	source, err := src.SyscallConn()
	if err != nil {
		return &sideError{d.from(), err}
	}
	var (
		m     *mover
		n     int
		errno syscall.Errno
	)
	arrived := func(fd uintptr) bool {
		m = d.flow.engine.movers.Get().(*mover)
		for n, errno = read(fd, m.buf[:]); errno == syscall.EINTR; {
			n, errno = read(fd, m.buf[:])
		}
		if errno == syscall.EAGAIN {
			d.flow.engine.movers.Put(m)
			m = nil // else a waiting direction keeps what it has given back
			return false
		}
		return true
	}
	for turn := turnSize; ; turn.moved(n, d) {
		if err := source.Read(arrived); err != nil {
			return &sideError{d.from(), err}
		}
		var err error
		switch {
		case errno != 0:
			err = errno
		case n == 0:
			err = io.EOF
		}
		failure := d.write(m.buf[:max(n, 0)], err)
		d.flow.engine.movers.Put(m)
		m = nil
		if failure != nil || err != nil {
			return failure
		}
	}
}

// readable runs when src may have bytes. It answers false to wait for more, and
// true when this direction has ended; d.failure says why.
func (d *direction) readable(fd uintptr) bool {
	m := d.flow.engine.movers.Get().(*mover)
	m.d, m.turn = d, turnSize
	defer func() {
		m.d, m.rest = nil, nil
		d.flow.engine.movers.Put(m)
	}()
	return m.move(fd)
}

// move reads and writes until src has no more for now. The last read must find
// nothing: the poller reports changes only, and a short read can hide an end that
// came with the bytes.
func (m *mover) move(fd uintptr) (ended bool) {
	for full := 0; ; {
		n, errno := read(fd, m.buf[:])
		switch {
		case errno == syscall.EAGAIN:
			if m.d.room == wide { // where bulk goes on, splice finds that there is no more
				m.d.give(narrow)
			}
			return false
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			m.d.failure = &sideError{m.d.from(), errno}
			return true
		case n == 0:
			return true
		}
		m.rest = m.buf[:n]
		if !m.wrote(m.d.sink.Write(m.flush)) {
			return true
		}
		m.turn.moved(n, m.d)
		if n < len(m.buf) {
			full = 0
			continue
		}
		if full++; full < 4 {
			continue
		}
		// Four full reads in a row are bulk: 0.32 CPU s/GB by splice, 0.8-1.3 by
		// copying. Small messages never come here.
		full = 0
		if m.d.room != wide {
			m.d.give(narrow)
		}
		if again, ended := m.splice(fd); !again {
			return ended
		}
	}
}

// flushRest writes m.rest; false waits for room in the sink.
func (m *mover) flushRest(fd uintptr) bool {
	for len(m.rest) > 0 {
		n, errno := write(fd, m.rest)
		switch {
		case errno == syscall.EAGAIN:
			m.d.blocked.Store(waiting)
			return false
		case errno == syscall.EINTR:
		case errno != 0:
			m.d.failure = &sideError{m.d.to(), errno}
			return true
		default:
			m.rest = m.rest[n:]
			m.d.n.Add(int64(n))
		}
	}
	return true
}

// wrote looks at how a wait for the sink ended.
func (m *mover) wrote(err error) bool {
	if m.d.blocked.Load() != 0 {
		m.d.blocked.Store(0)
	}
	if err != nil && m.d.failure == nil {
		if m.d.frozen(err, m.rest) {
			m.emptyPipe()
			err = errFrozen
		}
		m.d.failure = &sideError{m.d.to(), err}
	}
	return m.d.failure == nil
}

// splice moves bytes through a pipe, inside the kernel, until src has none left.
// again means that no pipe was free and copying goes on; else ended is what move
// has to answer.
func (m *mover) splice(fd uintptr) (again, ended bool) {
	m.pipe = m.d.flow.engine.pipes.get()
	if m.pipe == nil {
		return true, false
	}
	defer func() {
		m.d.flow.engine.pipes.put(m.pipe, m.inPipe == 0)
		m.pipe, m.inPipe = nil, 0
	}()
	for moved := 0; ; {
		n, errno := splice(fd, uintptr(m.pipe.w), min(m.pipe.size, int(turnSize)))
		switch {
		case errno == syscall.EAGAIN:
			return false, false
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			m.d.failure = &sideError{m.d.from(), errno}
			return false, true
		case n == 0:
			return false, true
		}
		m.inPipe = n
		if !m.wrote(m.d.sink.Write(m.drain)) {
			return false, true
		}
		moved += n
		if m.turn.moved(n, m.d) && moved >= provenBy {
			m.d.give(wide)
		}
	}
}

// drainPipe empties the pipe into the sink; false waits for room.
func (m *mover) drainPipe(fd uintptr) bool {
	for m.inPipe > 0 {
		n, errno := splice(uintptr(m.pipe.r), fd, m.inPipe)
		switch {
		case errno == syscall.EAGAIN:
			m.d.blocked.Store(waiting)
			return false
		case errno == syscall.EINTR:
		case errno != 0:
			m.d.failure = &sideError{m.d.to(), errno}
			return true
		default:
			m.inPipe -= n
			m.d.n.Add(int64(n))
		}
	}
	return true
}

// emptyPipe takes what is in the pipe out, for a direction that is frozen.
func (m *mover) emptyPipe() {
	buf := make([]byte, m.inPipe)
	for m.inPipe > 0 {
		n, errno := read(uintptr(m.pipe.r), buf[:m.inPipe])
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 || n == 0 {
			return // cannot be: the pipe holds so many
		}
		m.d.flow.freeze.Load().keep(m.d, buf[:n])
		m.inPipe -= n
	}
}

// The calls below never block: sockets and pipes are non-blocking. So the
// scheduler need not know of them (RawSyscall): the same loop with Syscall
// costs 73 CPU µs a message instead of 44.

func read(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

func write(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

func splice(from, to uintptr, most int) (int, syscall.Errno) {
	const move, nonBlock = 1, 2 // SPLICE_F_MOVE, SPLICE_F_NONBLOCK
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SPLICE, from, 0, to, 0, uintptr(most), move|nonBlock)
	return int(n), errno
}

package relay

import (
	"net"
	"syscall"
	"unsafe"
)

const canFreeze = true

// mover moves bytes between two plain TCP conns. It waits for src to become
// readable and does all its work inside that wait, with non-blocking system
// calls that the runtime is not told of: a message costs 44 CPU µs so, 78-104
// through Read and Write (5,000 messages a second over 100 tunnels). It
// allocates nothing per message and holds no buffer while it waits.
type mover struct {
	d      *direction
	sink   syscall.RawConn
	flush  func(fd uintptr) bool // the method of that name, bound once: binding allocates
	drain  func(fd uintptr) bool // likewise
	rest   []byte                // read and not yet written
	pipe   *pipe                 // while splicing
	inPipe int                   // bytes in it
	eof    bool
	fault  *sideError
}

// moveTCP moves everything from src to dst.
func (d *direction) moveTCP(src, dst *net.TCPConn) *sideError {
	source, err := src.SyscallConn()
	if err != nil {
		return &sideError{d.from(), err}
	}
	sink, err := dst.SyscallConn()
	if err != nil {
		return &sideError{d.to(), err}
	}
	m := &mover{d: d, sink: sink}
	m.flush, m.drain = m.flushRest, m.drainPipe
	err = source.Read(m.readable)
	if m.fault == nil && err != nil && !m.eof {
		if d.frozen(err, nil) {
			err = errFrozen
		}
		m.fault = &sideError{d.from(), err}
	}
	return m.fault
}

// readable runs when src may have bytes. It answers false to wait for more, and
// true when this direction has ended (m.eof, m.fault). The last read of a wait
// must find nothing: the poller tells changes only, and a short read can hide
// an end that came with the bytes.
func (m *mover) readable(fd uintptr) bool {
	buf := m.d.flow.engine.buffers.Get().(*buffer)
	defer m.d.flow.engine.buffers.Put(buf)
	for full := 0; ; {
		n, errno := read(fd, buf[:])
		switch {
		case errno == syscall.EAGAIN:
			return false
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			m.fault = &sideError{m.d.from(), errno}
			return true
		case n == 0:
			m.eof = true
			return true
		}
		m.rest = buf[:n]
		if !m.wrote(m.sink.Write(m.flush)) {
			return true
		}
		m.rest = nil // else a waiting direction keeps the buffer that it has given back
		if n < len(buf) {
			full = 0
			continue
		}
		if full++; full < 2 {
			continue
		}
		// Two full reads in a row are bulk: 0.32 CPU s/GB by splice, 0.8-1.3 by
		// copying. Small messages never come here.
		full = 0
		if again, ok := m.splice(fd); !again {
			return ok
		}
	}
}

// flushRest writes m.rest; false waits for room in the sink.
func (m *mover) flushRest(fd uintptr) bool {
	for len(m.rest) > 0 {
		n, errno := write(fd, m.rest)
		switch {
		case errno == syscall.EAGAIN:
			return false
		case errno == syscall.EINTR:
		case errno != 0:
			m.fault = &sideError{m.d.to(), errno}
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
	if err != nil && m.fault == nil {
		if m.d.frozen(err, m.rest) {
			m.emptyPipe()
			err = errFrozen
		}
		m.fault = &sideError{m.d.to(), err}
	}
	return m.fault == nil
}

// splice moves bytes through a pipe, inside the kernel, until src has none left.
// again means that no pipe was free and copying goes on; else ended is what
// readable has to answer.
func (m *mover) splice(fd uintptr) (again, ended bool) {
	m.pipe = m.d.flow.engine.pipes.get()
	if m.pipe == nil {
		return true, false
	}
	defer func() {
		m.d.flow.engine.pipes.put(m.pipe, m.inPipe == 0)
		m.pipe, m.inPipe = nil, 0
	}()
	for {
		n, errno := splice(fd, uintptr(m.pipe.w), m.pipe.size)
		switch {
		case errno == syscall.EAGAIN:
			return false, false
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			m.fault = &sideError{m.d.from(), errno}
			return false, true
		case n == 0:
			m.eof = true
			return false, true
		}
		m.inPipe = n
		if !m.wrote(m.sink.Write(m.drain)) {
			return false, true
		}
	}
}

// drainPipe empties the pipe into the sink; false waits for room.
func (m *mover) drainPipe(fd uintptr) bool {
	for m.inPipe > 0 {
		n, errno := splice(uintptr(m.pipe.r), fd, m.inPipe)
		switch {
		case errno == syscall.EAGAIN:
			return false
		case errno == syscall.EINTR:
		case errno != 0:
			m.fault = &sideError{m.d.to(), errno}
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
// scheduler need not hear of them (RawSyscall): the same loop with Syscall
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

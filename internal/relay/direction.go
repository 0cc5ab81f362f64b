package relay

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

// direction is one direction of a flow: it moves what src has to dst.
type direction struct {
	flow    *Flow
	n       atomic.Int64    // bytes written to dst
	sink    syscall.RawConn // dst, between plain TCP conns on Linux
	failure *sideError      // why a mover has ended this direction; nil after an EOF
	up      bool            // from client to server
	room    room            // what dst may leave unsent
	held    bool            // the receive buffer of src has its bound
	eof     atomic.Bool     // src has ended, and that was passed on
	blocked atomic.Uint32   // whether a write to dst waits for room: 0, writing or waiting
}

// The values of direction.blocked but 0.
const (
	writing uint32 = iota + 1 // a write is in progress that may wait
	waiting                   // there is no room
)

// send writes p to dst, however long that takes.
func (d *direction) send(p []byte) (int, error) {
	d.blocked.Store(writing)
	defer d.blocked.Store(0)
	n, err := d.dst().Write(p)
	d.n.Add(int64(n))
	return n, err
}

// room says what a sink may leave unsent.
type room uint8

// The rooms; 0 is the kernel's own.
const (
	narrow room = iota + 1 // narrowRoom
	wide                   // Options.Buffer
)

// sideError is an error and the side at which it came up.
type sideError struct {
	side Side
	err  error
}

// src, dst, from and to are not fields: an idle tunnel would hold them twice.
func (d *direction) src() net.Conn {
	if d.up {
		return d.flow.client
	}
	return d.flow.server
}

func (d *direction) dst() net.Conn {
	if d.up {
		return d.flow.server
	}
	return d.flow.client
}

func (d *direction) from() Side {
	if d.up {
		return Client
	}
	return Server
}

func (d *direction) to() Side {
	if d.up {
		return Server
	}
	return Client
}

// run moves everything until src ends or something fails.
func (d *direction) run(first []byte) {
	if len(first) > 0 {
		n, err := d.send(first)
		if err != nil {
			if d.frozen(err, first[n:]) {
				err = errFrozen
			}
			d.flow.stopped(d, &sideError{d.to(), err})
			return
		}
	}
	failure := d.move()
	if d.cut(failure) {
		failure = &sideError{d.from(), syscall.ECONNRESET}
	}
	d.flow.stopped(d, failure)
}

// cut reports whether the end of src is in truth a reset, because the write of the
// other direction has got the error.
func (d *direction) cut(failure *sideError) bool {
	if failure != nil && (failure.side != d.from() || !errors.Is(failure.err, io.ErrUnexpectedEOF)) { // which is what TLS says
		return false
	}
	other := &d.flow.up
	if d.up {
		other = &d.flow.down
	}
	cut := cutOff(d.src())
	if _, plain := d.src().(*net.TCPConn); plain && other.eof.Load() { // asked last: behind it a FIN is sent
		return false
	}
	return cut
}

// move uses the cheapest method that the two conns allow.
func (d *direction) move() *sideError {
	src, ok1 := d.src().(*net.TCPConn)
	dst, ok2 := d.dst().(*net.TCPConn)
	if !d.up || !ok1 || !ok2 { // a set-up is half a percent cheaper so; what goes up is narrowed when it is bulk
		d.give(narrow)
	}
	switch {
	case ok1 && ok2:
		return d.moveTCP(src, dst)
	case ok1:
		return d.moveFromTCP(src)
	}
	return d.moveAny()
}

// A direction that cannot wait without a buffer, because TLS to its source ends
// in this process, holds a small one: a message that is longer takes two writes.
// (An idle tunnel takes 29 KiB so, 41 with 4 KiB for either direction.) The
// sizes are odd ones: a message that fills the small one to the byte would let
// the big one be held until the next comes.
const (
	leastHeld = 255
	mostHeld  = 4 << 10
	growAfter = 8       // so many longer messages, and it is doubled
	bigRead   = 8 << 10 // as long as one read brings so much, a big one is used; a TLS record brings 16 KiB at most
)

// turn is how many bytes a direction may still move before it lets everything
// else run that is ready. Without it, one that always has bytes would keep a
// processor until the scheduler takes it away, 10 ms later: so long a message
// on another tunnel would wait.
type turn int

const (
	turnSize     turn = 512 << 10 // with what the last splice moves, at most as much, half a millisecond
	leastCounted      = 4 << 10   // a read and a write take time however few their bytes
)

// moved counts n bytes, and lets others run when the turn of d is over. It reports
// whether a new one has begun.
func (t *turn) moved(n int, d *direction) bool {
	if *t -= turn(max(n, leastCounted)); *t > 0 {
		return false
	}
	d.flow.engine.turns.yield()
	if !d.held {
		d.held = true
		d.bound()
	}
	*t = turnSize
	return true
}

// moveAny reads into a small buffer of its own, and then into a big one from
// the pool if the small one came back full.
func (d *direction) moveAny() *sideError {
	small := make([]byte, leastHeld)
	turn := turnSize
	for full := 0; ; {
		n, err := d.src().Read(small)
		if failure := d.write(small[:n], err); failure != nil || errors.Is(err, io.EOF) {
			return failure
		}
		if turn.moved(n, d); n < len(small) {
			continue
		}
		if ended, failure := d.moveBig(&turn); ended {
			return failure
		}
		if full++; full == growAfter && 2*len(small) < mostHeld {
			small, full = make([]byte, 2*len(small)), 0
		}
	}
}

func (d *direction) moveBig(turn *turn) (ended bool, failure *sideError) {
	m := d.flow.engine.movers.Get().(*mover)
	defer d.flow.engine.movers.Put(m)
	for n := bigRead; n >= bigRead; turn.moved(n, d) {
		var err error
		n, err = d.src().Read(m.buf[:])
		if failure := d.write(m.buf[:n], err); failure != nil || errors.Is(err, io.EOF) {
			return true, failure
		}
	}
	return false, nil
}

// write passes on what a read gave, and then its error unless that is EOF.
func (d *direction) write(p []byte, readErr error) *sideError {
	if len(p) > 0 {
		if _, err := d.send(p); err != nil {
			return &sideError{d.to(), err}
		}
	}
	if readErr != nil && !errors.Is(readErr, io.EOF) {
		return &sideError{d.from(), readErr}
	}
	return nil
}

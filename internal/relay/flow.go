package relay

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Flow is one running relay. What most need only at their end, or not at all,
// hangs on pointers: a byte less here is two or three less for each idle tunnel,
// since the collector lets the heap grow to twice what is in use.
type Flow struct {
	engine         *Engine
	onDone         func(Stats) // Options.Done
	limits         *limits     // nil if there are none
	client, server net.Conn
	up, down       direction
	running        atomic.Int32 // directions that have not ended
	buffer         int32        // Options.Buffer

	mu     sync.Mutex
	ending bool          // both conns are being closed
	over   bool          // Options.Done has returned
	stats  *Stats        // why it ends, set by the first that knows
	done   chan struct{} // closed when over; made only if Wait is called

	freeze atomic.Pointer[freeze] // set when it is to stand still
	watch  watched                // the engine's alone
}

// Start carries bytes between client and server until both directions have
// ended. It owns both conns from here on, clears their deadlines, and closes
// them. early is written to the server first, and toClient to the client.
func (e *Engine) Start(client, server net.Conn, early, toClient []byte, o Options) *Flow {
	f := e.newFlow(client, server, o)
	e.add(f)
	// Two fresh goroutines, so that the stack that set-up has grown is not kept
	// for the life of the tunnel (11-12 KiB a tunnel became 7.8). They end when
	// their direction does, at the latest when end closes both conns.
	go f.up.run(early)
	go f.down.run(toClient)
	return f
}

func (e *Engine) newFlow(client, server net.Conn, o Options) *Flow {
	f := &Flow{engine: e, onDone: o.Done, client: client, server: server}
	if o.limited() {
		f.limits = &limits{Options: o}
	}
	f.buffer = int32(o.Buffer) //nolint:gosec // see there
	f.running.Store(2)
	_ = client.SetDeadline(time.Time{}) // a conn that is closed already says so when it is read
	_ = server.SetDeadline(time.Time{})
	f.up = direction{flow: f, up: true}
	f.down = direction{flow: f}
	return f
}

// options returns the Options that the flow was started with.
func (f *Flow) options() Options {
	if f.limits != nil {
		return f.limits.Options
	}
	return Options{Done: f.onDone, Buffer: int(f.buffer)}
}

// Wait blocks until the flow has ended and Options.Done has returned.
func (f *Flow) Wait() Stats {
	<-f.ended()
	if f.stats == nil { // it was frozen
		return Stats{}
	}
	return *f.stats
}

// ended returns a channel that is closed when the flow has ended and
// Options.Done has returned.
func (f *Flow) ended() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil {
		f.done = make(chan struct{})
		if f.over {
			close(f.done)
		}
	}
	return f.done
}

// Bytes reads the counts so far.
func (f *Flow) Bytes() (up, down int64) { return f.up.n.Load(), f.down.n.Load() }

// HalfClosed reports whether one side has ended in order.
func (f *Flow) HalfClosed() bool { return f.up.eof.Load() || f.down.eof.Load() }

// Moving reports whether the flow stands still, or will in a moment (see Freeze).
func (f *Flow) Moving() bool { return f.freeze.Load() != nil }

// Server reports whether the server is still there, for all that is known now: the
// kernel may have its end before the flow does. If it ended first, at is when that
// was seen; if the client did, neither holds.
func (f *Flow) Server() (there, ended bool, at time.Time) {
	f.mu.Lock()
	stats, moved := f.stats, f.over || f.freeze.Load() != nil
	if stats != nil {
		ended, at = stats.ClosedBy == Server, stats.At
	}
	f.mu.Unlock()
	switch {
	case stats != nil || moved:
		return false, ended, at
	case over(f.server):
		return false, true, time.Now()
	}
	return true, false, time.Time{}
}

// ClientStalled reports whether bytes for the client wait for it to read: those of
// proxyd and those that the kernel holds for a slow reader have no more room.
func (f *Flow) ClientStalled() bool {
	switch f.down.blocked.Load() {
	case waiting:
		return true
	case writing: // which rarely takes long: ask
		return !writable(f.client)
	}
	return false
}

// Close ends the flow now, with ReasonClosed. It does not wait.
func (f *Flow) Close() { f.CloseFor(ReasonClosed) }

// CloseFor ends the flow now, by proxyd and for a reason. It does not wait. It
// returns false if the flow is ending already, or has been given away by Freeze.
func (f *Flow) CloseFor(why Reason) (closed bool) { return f.end(Proxyd, why, nil) }

// stopped is called by a direction when it has ended; failure is nil after an EOF.
func (f *Flow) stopped(d *direction, failure *sideError) {
	switch {
	case failure != nil && errors.Is(failure.err, errFrozen):
		f.park()
		return
	case failure != nil:
		f.failed(failure)
	default:
		f.mu.Lock()
		if f.stats == nil {
			f.stats = &Stats{ClosedBy: d.from(), Reason: ReasonEOF, At: time.Now()}
		}
		f.mu.Unlock()
		d.eof.Store(true)
		closeWrite(d.dst())
	}
	f.left()
}

// failed ends the flow because of an error at one side. A side that has ended
// in order before and then resets has merely left.
func (f *Flow) failed(failure *sideError) {
	reason, err := ReasonError, failure.err
	switch {
	case isReset(failure.err):
		reason = ReasonReset
	case errors.Is(failure.err, syscall.ETIMEDOUT), errors.Is(failure.err, syscall.EHOSTUNREACH): // the kernel's keepalive gave up
		reason = ReasonDead
	}
	if gone := f.sideEnded(failure.side); gone && reason == ReasonReset {
		reason, err = ReasonEOF, nil
	}
	f.end(failure.side, reason, err)
}

func (f *Flow) sideEnded(s Side) bool {
	if s == Client {
		return f.up.eof.Load()
	}
	return f.down.eof.Load()
}

// end closes both conns, the first time. After a reset the other side is reset
// too: to it, a tunnel that broke must not look like one that ended.
func (f *Flow) end(by Side, why Reason, err error) (first bool) {
	f.mu.Lock()
	if z := f.freeze.Load(); f.ending || z != nil && z.moved {
		f.mu.Unlock()
		return false
	}
	f.ending = true
	f.stats = f.endStats(Stats{ClosedBy: by, Reason: why, Err: err, At: time.Now()})
	f.mu.Unlock()
	wake(f.client)
	wake(f.server)
	if why == ReasonReset {
		if by == Client {
			reset(f.server)
		} else {
			reset(f.client)
		}
	}
	_ = f.client.Close()
	_ = f.server.Close()
	return true
}

// endStats returns how the flow went if last is what ended it. The time is that of
// the first end. A client that resets its connection once the server has sent all
// of it has merely left: the server ended the flow. The caller holds mu.
func (f *Flow) endStats(last Stats) *Stats {
	if first := f.stats; first != nil {
		last.At = first.At
		if first.ClosedBy == Server && last.ClosedBy == Client && last.Reason == ReasonReset {
			last.ClosedBy, last.Reason, last.Err = Server, ReasonEOF, nil
		}
	}
	return &last
}

// finish runs in the direction that ends last.
func (f *Flow) finish() {
	f.mu.Lock()
	f.ending = true
	f.mu.Unlock()
	_ = f.client.Close()
	_ = f.server.Close()
	f.engine.remove(f)
	f.stats.Up, f.stats.Down = f.Bytes()
	if f.onDone != nil {
		f.onDone(*f.stats)
	}
	f.mu.Lock()
	f.over = true
	if f.done != nil {
		close(f.done)
	}
	f.mu.Unlock()
}

// wake ends all waits for a plain TCP conn. A direction waits for room in one
// conn inside a read of the other, and Close of the other waits for that read.
// A TLS conn has no such wait; if woken, it would give its close_notify 5 s.
func wake(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetDeadline(time.Unix(1, 0))
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}

// closeWrite passes an EOF on as a half-close; a conn that cannot is closed.
func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite() // if it fails, the other direction sees the error too
		return
	}
	_ = c.Close()
}

// reset closes the socket itself: TLS would say first that all is in order.
func reset(c net.Conn) {
	if t := socket(c); t != nil {
		_ = t.SetLinger(0)
		_ = t.Close()
	}
}

// socket returns the TCP connection below c, however many layers of TLS are on
// it (an https upstream through an https hop has two); nil if there is none.
func socket(c net.Conn) *net.TCPConn {
	for {
		switch layer := c.(type) {
		case *net.TCPConn:
			return layer
		case interface{ NetConn() net.Conn }:
			c = layer.NetConn()
		default:
			return nil
		}
	}
}

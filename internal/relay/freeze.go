package relay

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

// State is a flow that stands still: its conns, and all that is needed to go on
// with it, in this process or, with the descriptors handed over, in another.
type State struct {
	Client, Server net.Conn // open, owned by the caller, their deadlines in the past
	Up, Down       Half
	Options        Options
}

// Half is one direction of a frozen flow.
type Half struct {
	Ended bool   // its source has ended, and that was passed on
	Rest  []byte // read and not yet written
	Count int64  // bytes written so far
}

// The reasons why a flow cannot be frozen.
var (
	ErrCannotFreeze = errors.New("a conn of the flow cannot be moved: TLS ends in this process, or this system does not support it")
	ErrEnded        = errors.New("the flow has ended")
)

// errFrozen ends a direction's work, and not the direction.
var errFrozen = errors.New("frozen")

// freeze is the state of a Freeze that is under way.
type freeze struct {
	parked int           // directions that stand still; under Flow.mu
	rest   [2][]byte     // by direction.index
	still  chan struct{} // closed when none runs
	moved  bool          // the State has been given away; under Flow.mu
}

// Freeze stops a flow between two bytes: nothing is lost, written twice or
// closed. The flow is no more; Options.Done is not called, and Wait returns. A
// flow that ends meanwhile ends as always, and the error is ErrEnded. It waits
// for system calls that do not block, so ctx is looked at once.
func (f *Flow) Freeze(ctx context.Context) (State, error) {
	if err := ctx.Err(); err != nil {
		return State{}, err
	}
	_, ok1 := f.client.(*net.TCPConn)
	_, ok2 := f.server.(*net.TCPConn)
	if !ok1 || !ok2 || !canFreeze {
		return State{}, ErrCannotFreeze
	}
	z := &freeze{still: make(chan struct{})}
	f.mu.Lock()
	if f.ending || f.over || f.freeze.Load() != nil {
		f.mu.Unlock()
		return State{}, ErrEnded
	}
	f.freeze.Store(z)
	f.mu.Unlock()
	// A wait for the source or for the sink ends at once; one that begins, too.
	longAgo := time.Unix(1, 0)
	_ = f.client.SetDeadline(longAgo)
	_ = f.server.SetDeadline(longAgo)
	select {
	case <-z.still:
	case <-f.ended():
		return State{}, ErrEnded
	}
	f.mu.Lock()
	if z.moved = !f.ending; z.moved {
		f.over = true
		if f.done != nil {
			close(f.done)
		}
	}
	f.mu.Unlock()
	if !z.moved {
		f.finish()
		return State{}, ErrEnded
	}
	f.engine.remove(f)
	half := func(d *direction) Half {
		return Half{Ended: d.eof.Load(), Rest: z.rest[d.index()], Count: d.n.Load()}
	}
	return State{f.client, f.server, half(&f.up), half(&f.down), f.options()}, nil
}

// Resume goes on with a frozen flow. It owns the conns from here on.
func (e *Engine) Resume(s State) *Flow {
	f := e.newFlow(s.Client, s.Server, s.Options)
	var run []func()
	for _, h := range []struct {
		d *direction
		Half
	}{{&f.up, s.Up}, {&f.down, s.Down}} {
		h.d.n.Store(h.Count)
		h.d.eof.Store(h.Ended)
		if h.Ended {
			f.running.Add(-1)
			f.stats = &Stats{ClosedBy: h.d.from(), Reason: ReasonEOF, At: time.Now()} // when is not known
			continue
		}
		run = append(run, func() { h.d.run(h.Rest) })
	}
	e.add(f)
	for _, direction := range run {
		go direction() // as in Start
	}
	return f
}

// frozen reports whether an error is a freeze's doing and keeps what a
// direction has read and not written.
func (d *direction) frozen(err error, rest []byte) bool {
	z := d.flow.freeze.Load()
	if z == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	z.keep(d, rest)
	return true
}

func (z *freeze) keep(d *direction, p []byte) {
	z.rest[d.index()] = append(z.rest[d.index()], p...)
}

// index returns a direction's index in freeze.rest.
func (d *direction) index() int {
	if d.up {
		return 0
	}
	return 1
}

// park is called by a direction that stands still.
func (f *Flow) park() {
	f.mu.Lock()
	f.freeze.Load().parked++
	f.mu.Unlock()
	f.left()
}

// left counts a direction out; the last one ends the flow, or its freezing.
func (f *Flow) left() {
	if f.running.Add(-1) > 0 {
		return
	}
	f.mu.Lock()
	z := f.freeze.Load()
	still := z != nil && z.parked > 0
	f.mu.Unlock()
	if still {
		close(z.still)
		return
	}
	f.finish()
}

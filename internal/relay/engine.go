package relay

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// buffer is what bytes pass through. A mover with it takes 32 KiB: a tunnel
// whose reader has stalled holds one.
type buffer [32<<10 - 256]byte

// Engine holds what the flows of one process share: movers, pipes, and the
// list that the watchdog walks.
type Engine struct {
	DeadAfter time.Duration // how long a side may leave what was sent to it unanswered
	Tick      time.Duration // how often limits are looked at; dead peers every fifth time

	movers  sync.Pool // taken only while bytes are there
	pipes   pipes
	turns   turns
	limited atomic.Int64 // flows with limits
	changes atomic.Int64 // flows that have begun, and those that have ended

	mu    sync.Mutex
	flows map[*Flow]struct{}
}

// pathsEvery is after how many ticks dead peers are looked for.
const pathsEvery = 5

// NewEngine returns an Engine. It starts nothing.
func NewEngine() *Engine {
	return &Engine{
		DeadAfter: 15 * time.Second,
		Tick:      time.Second,
		movers:    sync.Pool{New: func() any { return newMover() }},
		flows:     map[*Flow]struct{}{},
	}
}

// Run watches over all flows, for dead peers and for the limits of Options, and
// gives memory back after a burst of them, until ctx ends. It is one goroutine
// for all of them, and costs nothing per message. Flows live without it,
// unwatched.
func (e *Engine) Run(ctx context.Context) error {
	defer e.pipes.close()
	defer e.turns.close()
	ticker, quarters := time.NewTicker(e.Tick), time.NewTicker(e.Tick/4)
	defer ticker.Stop()
	defer quarters.Stop()
	start := time.Now().Add(-e.Tick) // so that no look is at 0
	var b burst
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-quarters.C:
			if b.over(e.changes.Load(), now.Sub(start)) {
				giveBack()
			}
		case now := <-ticker.C:
			n++
			paths := n%pathsEvery == 0
			if !paths && e.limited.Load() == 0 {
				continue
			}
			for _, f := range e.snapshot() {
				f.look(now.Sub(start), paths)
			}
		}
	}
}

func (e *Engine) add(f *Flow) {
	if f.limits != nil {
		e.limited.Add(1)
	}
	e.changes.Add(1)
	e.mu.Lock()
	e.flows[f] = struct{}{}
	e.mu.Unlock()
}

func (e *Engine) remove(f *Flow) {
	if f.limits != nil {
		e.limited.Add(-1)
	}
	e.changes.Add(1)
	e.mu.Lock()
	delete(e.flows, f)
	e.mu.Unlock()
}

func (e *Engine) snapshot() []*Flow {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]*Flow, 0, len(e.flows))
	for f := range e.flows {
		list = append(list, f)
	}
	return list
}

func (o Options) limited() bool { return o.Idle > 0 || o.HalfClose > 0 || o.Stall > 0 }

// limits are those of a flow that has any, and what the engine remembers for
// them between two looks. Times are since Run began, by the monotonic
// clock; 0 is not yet.
type limits struct {
	Options
	bytes     int64 // in both directions, when they last changed
	since     time.Duration
	halfSince time.Duration
	downBytes int64 // when the stall window began
	stallFrom time.Duration
}

// watched is what the watchdog remembers of a flow between two looks.
type watched struct {
	lookedAt       int64 // the bytes in both directions when its paths were last looked at
	settled        bool  // nothing was owed then
	client, server inFlight
}

// look ends a flow that is past one of its limits or has lost a peer.
func (f *Flow) look(at time.Duration, paths bool) {
	if f.limits != nil {
		f.lookAtLimits(at)
	}
	if paths {
		f.lookAtPaths(at)
	}
}

func (f *Flow) lookAtLimits(at time.Duration) {
	up, down := f.Bytes()
	l := f.limits
	past := func(since, limit time.Duration) bool { return limit > 0 && at-since >= limit }
	if l.since == 0 || up+down != l.bytes {
		l.bytes, l.since = up+down, at
	}
	if l.stallFrom == 0 {
		l.stallFrom, l.downBytes = at, down
	}
	half := f.HalfClosed()
	if half && l.halfSince == 0 {
		l.halfSince = at
	}
	switch {
	case past(l.since, l.Idle):
		f.end(Proxyd, ReasonIdle, nil)
	case half && past(l.halfSince, l.HalfClose):
		f.end(Proxyd, ReasonHalf, nil)
	case past(l.stallFrom, l.Stall):
		if down-l.downBytes < l.StallBytes {
			f.end(Proxyd, ReasonStall, nil)
		}
		l.stallFrom, l.downBytes = at, down
	}
}

func (f *Flow) lookAtPaths(at time.Duration) {
	up, down := f.Bytes()
	w := &f.watch
	// What an idle path owes is the kernel's keepalive to find; the watchdog then
	// costs an idle tunnel nothing (10,000 of them 60 ms every 5 s otherwise). One
	// whose peer does not read, or has been sent an end, is not idle: keepalive
	// does not look at those.
	if w.settled && !f.HalfClosed() && w.lookedAt == up+down {
		return
	}
	w.lookedAt = up + down
	client, server := unanswered(f.client), unanswered(f.server)
	w.settled = !client.owed && !server.owed
	limit, apart := f.engine.DeadAfter, pathsEvery*f.engine.Tick
	switch {
	case w.client.dead(client, at, limit, apart):
		f.end(Client, ReasonDead, nil)
	case w.server.dead(server, at, limit, apart):
		f.end(Server, ReasonDead, nil)
	}
}

// path is what the kernel says of a conn.
type path struct {
	owed     bool          // bytes or probes are not acknowledged, or bytes wait until they can be sent
	inFlight bool          // the first
	lastAck  time.Duration // since anything was
}

// inFlight is when a look at a path first found something that its peer had not
// acknowledged, and has not since.
type inFlight time.Duration

// dead decides: nothing at all was acknowledged for longer than the limit, and
// what was in flight at an earlier look still is. One look alone is not enough:
// after a silence, each first byte and each keepalive probe is in flight for a
// round trip while the last acknowledgement is old. apart is between two looks.
func (p *inFlight) dead(now path, at, limit, apart time.Duration) bool {
	if !now.inFlight {
		*p = 0
		return false
	}
	if *p == 0 || now.lastAck < at-time.Duration(*p) {
		*p = inFlight(at)
	}
	return now.lastAck > limit && at-time.Duration(*p) >= limit-apart
}

const (
	burstSize     = 500              // flows that begin or end
	giveBackEvery = 10 * time.Second // at most; what is given back has to be asked for again
)

// burst notices when many flows have begun or ended and it has become quiet.
// The heap is then twice what is in use, and the collector would keep that for
// as long as the process lives: given back, an idle tunnel takes 7.9 KiB in
// place of 9.4, one into TLS 21 in place of 28.
type burst struct {
	given  int64         // changes when memory was last given back
	before int64         // at the last look
	at     time.Duration // when it was last given back; 0 is never
}

// over reports whether a burst has ended. It is called four times a tick, with
// the number of flows that have begun and ended so far.
func (b *burst) over(changes int64, at time.Duration) bool {
	quiet := changes == b.before
	b.before = changes
	if !quiet || changes-b.given < burstSize || b.at > 0 && at-b.at < giveBackEvery {
		return false
	}
	b.given, b.at = changes, at
	return true
}

// giveBack collects, and returns what is free to the system: 100 ms of CPU with
// 10,000 flows.
func giveBack() { debug.FreeOSMemory() }

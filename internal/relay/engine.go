package relay

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// buffer is what bytes pass through. 64 KiB holds most of what a socket has at
// once; they are taken only while bytes are there.
type buffer [64 << 10]byte

// Engine holds what the flows of one process share: buffers, pipes, and the
// list that the watchdog walks.
type Engine struct {
	DeadAfter time.Duration // how long a side may leave what was sent to it unanswered
	Tick      time.Duration // how often limits are looked at; dead peers every fifth time

	buffers sync.Pool
	pipes   pipes
	limited atomic.Int64 // flows with limits

	mu    sync.Mutex
	flows map[*Flow]struct{}
}

// NewEngine makes an Engine. It starts nothing.
func NewEngine() *Engine {
	return &Engine{
		DeadAfter: 15 * time.Second,
		Tick:      time.Second,
		buffers:   sync.Pool{New: func() any { return new(buffer) }},
		flows:     map[*Flow]struct{}{},
	}
}

// Run watches over all flows, for dead peers and for the limits of Options,
// until ctx ends. It is one goroutine for all of them, and costs nothing per
// message. Flows live without it, unwatched.
func (e *Engine) Run(ctx context.Context) error {
	defer e.pipes.close()
	ticker := time.NewTicker(e.Tick)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-ticker.C:
			paths := n%5 == 0
			if !paths && e.limited.Load() == 0 {
				continue
			}
			for _, f := range e.snapshot() {
				f.look(now, paths, e.DeadAfter)
			}
		}
	}
}

func (e *Engine) add(f *Flow) {
	if f.options.limited() {
		e.limited.Add(1)
	}
	e.mu.Lock()
	e.flows[f] = struct{}{}
	e.mu.Unlock()
}

func (e *Engine) remove(f *Flow) {
	if f.options.limited() {
		e.limited.Add(-1)
	}
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

// watched is what the engine remembers of a flow between two looks.
type watched struct {
	bytes     int64 // both ways, when they last changed
	since     int64 // Unix nanoseconds, as the others: a time.Time takes three words
	halfSince int64
	downBytes int64 // when the stall window began
	stallFrom int64
}

// look ends a flow that is past one of its limits or has lost a peer.
func (f *Flow) look(now time.Time, paths bool, deadAfter time.Duration) {
	up, down := f.Bytes()
	w, o, at := &f.watch, f.options, now.UnixNano()
	past := func(since int64, limit time.Duration) bool { return limit > 0 && at-since >= int64(limit) }
	if w.since == 0 || up+down != w.bytes {
		w.bytes, w.since = up+down, at
	}
	if w.stallFrom == 0 {
		w.stallFrom, w.downBytes = at, down
	}
	half := f.up.eof.Load() || f.down.eof.Load()
	if half && w.halfSince == 0 {
		w.halfSince = at
	}
	switch {
	case past(w.since, o.Idle):
		f.end(Proxyd, ReasonIdle, nil)
	case half && past(w.halfSince, o.HalfClose):
		f.end(Proxyd, ReasonHalf, nil)
	case past(w.stallFrom, o.Stall):
		if down-w.downBytes < o.StallBytes {
			f.end(Proxyd, ReasonStall, nil)
		}
		w.stallFrom, w.downBytes = at, down
	}
	if !paths {
		return
	}
	limit := uint32(deadAfter.Milliseconds())
	if pathDead(f.client, limit) {
		f.end(Client, ReasonDead, nil)
	} else if pathDead(f.server, limit) {
		f.end(Server, ReasonDead, nil)
	}
}

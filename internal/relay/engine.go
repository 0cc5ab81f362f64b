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
	since     time.Time
	halfSince time.Time
	downBytes int64 // when the stall window began
	stallFrom time.Time
}

// look ends a flow that is past one of its limits or has lost a peer.
func (f *Flow) look(now time.Time, paths bool, deadAfter time.Duration) {
	up, down := f.Bytes()
	w, o := &f.watch, f.options
	if w.since.IsZero() || up+down != w.bytes {
		w.bytes, w.since = up+down, now
	}
	if w.stallFrom.IsZero() {
		w.stallFrom, w.downBytes = now, down
	}
	half := f.up.eof.Load() || f.down.eof.Load()
	if half && w.halfSince.IsZero() {
		w.halfSince = now
	}
	switch {
	case o.Idle > 0 && now.Sub(w.since) >= o.Idle:
		f.end(Proxyd, ReasonIdle, nil)
	case o.HalfClose > 0 && half && now.Sub(w.halfSince) >= o.HalfClose:
		f.end(Proxyd, ReasonHalf, nil)
	case o.Stall > 0 && now.Sub(w.stallFrom) >= o.Stall:
		if down-w.downBytes < o.StallBytes {
			f.end(Proxyd, ReasonStall, nil)
		}
		w.stallFrom, w.downBytes = now, down
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

package relay

import (
	"context"
	"net"
	"time"
)

// Engine holds what the flows of one process share: buffers, pipes, and the
// list that the watchdog walks.
type Engine struct {
	// Tick is how often each flow is looked at, DeadAfter how long a side may
	// leave what was sent to it unanswered. Set them before Run, if at all.
	Tick, DeadAfter time.Duration
}

// NewEngine makes an Engine. It starts nothing.
func NewEngine() *Engine { return &Engine{Tick: 5 * time.Second, DeadAfter: 15 * time.Second} }

// Run watches over all flows, for dead peers and for the limits of Options,
// until ctx ends. Flows live without it, unwatched.
func (e *Engine) Run(ctx context.Context) error { panic("written in the next commit") }

// Start carries bytes between client and server until both directions have
// ended. It owns both conns from here on: it clears their deadlines, nobody
// else may use them, and it closes them. early is written to the server
// first, and toClient to the client; both are kept until then.
func (e *Engine) Start(client, server net.Conn, early, toClient []byte, o Options) *Flow {
	panic("written in the next commit")
}

// Resume carries on a frozen flow, over the same conns or over conns that
// another process has made of their descriptors. Like Start, it owns them.
func (e *Engine) Resume(client, server net.Conn, s State, o Options) *Flow {
	panic("written in the next commit")
}

// Package relay carries bytes both ways between two connections, cheaply: it
// holds no buffer while it waits, and moves sustained bulk inside the kernel.
//
// It knows nothing of proxies, targets or logs.
package relay

import (
	"context"
	"net"
	"time"
)

// Options are the limits of a flow. Zero means none.
type Options struct {
	Idle       time.Duration // no byte either way for so long
	HalfClose  time.Duration // one side has ended and the other goes on for so long
	Stall      time.Duration // fewer than StallBytes from the server within so long
	StallBytes int64
	Done       func(Stats) // called once, when both directions have ended and both conns are closed; nil: use Wait
}

// Reason says why a flow ended.
type Reason string

// The reasons.
const (
	ReasonEOF     Reason = "eof"       // both sides ended in order
	ReasonReset   Reason = "reset"     // one side reset its connection
	ReasonDead    Reason = "dead_peer" // the watchdog found a path dead
	ReasonIdle    Reason = "idle"
	ReasonStall   Reason = "stall"
	ReasonHalf    Reason = "half_close" // the half-closed state lasted too long
	ReasonClosed  Reason = "closed"     // Close was called
	ReasonError   Reason = "error"
	ReasonUnknown Reason = ""
)

// Stats is how a flow went.
type Stats struct {
	Up, Down int64  // bytes client → server and server → client, as written
	ClosedBy string // "client", "server" or "proxyd": who ended it first
	Reason   Reason
	Err      error // the cause, if it was not in order
}

// State is what is needed to carry a flow on elsewhere.
type State struct {
	UpRest, DownRest []byte // read but not yet written
	UpEOF, DownEOF   bool   // that direction has ended and was passed on
	Up, Down         int64
}

// Flow is one running relay.
type Flow struct{}

// Start carries bytes between client and server until both directions have
// ended. It owns both conns and closes them. early is written to the server
// first, and toClient to the client.
func Start(client, server net.Conn, early, toClient []byte, o Options) *Flow {
	panic("written in the next commit")
}

// Wait blocks until the flow has ended.
func (f *Flow) Wait() Stats { panic("written in the next commit") }

// Bytes reads the counts so far.
func (f *Flow) Bytes() (up, down int64) { panic("written in the next commit") }

// Close ends the flow now, with ReasonClosed.
func (f *Flow) Close() { panic("written in the next commit") }

// Freeze stops the flow without closing or losing anything, so that State and
// the two sockets can go to another process.
func (f *Flow) Freeze(ctx context.Context) (State, error) { panic("written in the next commit") }

// Resume carries on a frozen flow.
func Resume(client, server net.Conn, s State, o Options) *Flow {
	panic("written in the next commit")
}

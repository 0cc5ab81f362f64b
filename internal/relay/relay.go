// Package relay carries bytes both ways between two connections, cheaply: it
// holds no buffer while it waits, and moves sustained bulk inside the kernel.
//
// It knows nothing of proxies, targets or logs.
package relay

import "time"

// Options are the limits of a flow. Zero means none. The limits are looked at
// by (*Engine).Run, so they hold only while it runs, and a flow may outlive
// its limit by an eighth of it.
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
	ReasonDead    Reason = "dead_peer" // the path to one side is dead
	ReasonIdle    Reason = "idle"
	ReasonStall   Reason = "stall"
	ReasonHalf    Reason = "half_close" // the half-closed state lasted too long
	ReasonClosed  Reason = "closed"     // Close was called
	ReasonError   Reason = "error"
	ReasonUnknown Reason = "" // the flow was frozen and lives on elsewhere
)

// Stats is how a flow went.
type Stats struct {
	Up, Down int64  // bytes client → server and server → client, as written
	ClosedBy string // "client", "server" or "proxyd": whose doing Reason is; for ReasonEOF, who ended first
	Reason   Reason
	Err      error // the cause, if it was not in order
}

// State is what is needed to carry a flow on elsewhere.
type State struct {
	UpRest, DownRest []byte // read but not yet written
	UpEOF, DownEOF   bool   // that direction has ended and was passed on
	Up, Down         int64
}

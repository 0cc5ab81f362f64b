// Package relay carries bytes in both directions between two connections, cheaply: it
// holds no buffer while it waits, and moves sustained bulk inside the kernel.
//
// It knows nothing of proxies, targets or logs.
package relay

import "time"

// Options are the limits of a flow. Zero means none. They are looked at by
// (*Engine).Run once a second, and hold only while it runs.
type Options struct {
	Idle       time.Duration // no byte in either direction for so long
	HalfClose  time.Duration // one side has ended and the other goes on for so long
	Stall      time.Duration // fewer than StallBytes from the server within so long
	StallBytes int64
	Buffer     int         // most that the kernel keeps of bulk, on either side, for a reader that has stalled; at most math.MaxInt32
	Done       func(Stats) // called once, when both directions have ended and both conns are closed; may be nil
}

// Reason is why a flow ended.
type Reason string

// The reasons.
const (
	ReasonEOF    Reason = "eof"        // both sides ended in order
	ReasonReset  Reason = "reset"      // one side reset its connection
	ReasonDead   Reason = "dead_peer"  // the path to one side is dead
	ReasonIdle   Reason = "idle"       // Options.Idle
	ReasonStall  Reason = "stall"      // Options.Stall
	ReasonHalf   Reason = "half_close" // Options.HalfClose
	ReasonClosed Reason = "closed"     // Close was called
	ReasonSilent Reason = "silence"    // CloseFor was called because the server sends too little
	ReasonError  Reason = "error"      // anything else; Stats.Err says what
)

// Side is one end of a flow.
type Side string

// The sides. Proxyd is ourselves: a limit, or Close.
const (
	Client Side = "client"
	Server Side = "server"
	Proxyd Side = "proxyd"
)

// Stats is how a flow went.
type Stats struct {
	Up, Down int64     // bytes client → server and server → client, as written
	ClosedBy Side      // whose doing Reason is; for ReasonEOF, who ended first
	Reason   Reason    // why it ended
	Err      error     // the cause, if it was not in order
	At       time.Time // when that was seen; the other side may have gone on for long
}

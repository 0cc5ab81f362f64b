package tunnel

import (
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/relay"
	"proxyd/internal/upstream"
)

// Tunnel is an open connection to a target that waits for Carry or Abandon,
// exactly one of them.
type Tunnel struct {
	h      *Handler
	conn   *upstream.Conn // nil once it carries: an idle tunnel need not hold it
	limits *config.Tunnel // of the snapshot that routed it; nil once it carries
	member *upstream.Upstream
	record Opening
	budget time.Duration // for the whole set-up
	flow   atomic.Pointer[relay.Flow]
	number uint64 // in the registry
	slot   any    // see Live.Slot
}

// ID returns the request's id.
func (t *Tunnel) ID() string { return t.record.ID }

// Conn returns the connection to the target, for a front end that has to speak
// to the target before it carries (a websocket upgrade). Early comes first.
func (t *Tunnel) Conn() (conn net.Conn, early []byte) { return t.conn.Conn, t.conn.Early }

// Forward is set when Conn awaits a request in absolute form (see
// upstream.Conn).
func (t *Tunnel) Forward() *upstream.Forward { return t.conn.Forward }

// Deadline returns when the route's time budget ends. Until then an upstream that
// has a request in absolute form may still be connecting to the target.
func (t *Tunnel) Deadline() time.Time { return t.record.Start.Add(t.budget) }

// SetEarly replaces the bytes from the server that Carry gives the client
// first; nil when the front end has read them itself.
func (t *Tunnel) SetEarly(b []byte) { t.conn.Early = b }

// Carry relays bytes in the background and owns both conns from here on; it
// returns at once. early is what the client sent behind its request. It ends
// in one Record.
func (t *Tunnel) Carry(client net.Conn, early []byte) {
	t.h.emit(&Record{Event: Opened, Opening: t.record, Slot: &t.slot})
	conn, limits := t.conn, t.limits
	t.conn, t.limits = nil, nil
	release := conn.Release
	flow := t.h.relay.Start(client, conn.Conn, early, conn.Early, relay.Options{
		Idle:       limits.Idle,
		HalfClose:  limits.HalfClose,
		Stall:      limits.Stall,
		StallBytes: limits.StallBytes,
		Buffer:     limits.Buffer,
		Done:       func(s relay.Stats) { t.ended(s, release) },
	})
	t.setFlow(flow)
}

// setFlow makes flow the tunnel's.
func (t *Tunnel) setFlow(flow *relay.Flow) {
	t.flow.Store(flow)
	if t.h.closing.Load() { // CloseAll may have run since t had none that ran
		flow.Close()
	}
}

// Abandon closes the connection: the client left before the reply was written.
func (t *Tunnel) Abandon(cause error) {
	_ = t.conn.Conn.Close()
	t.ended(relay.Stats{ClosedBy: relay.Client, Reason: ReasonAbandoned, Err: cause}, t.conn.Release)
}

// Answered closes the connection: the server has answered the front end in so many
// bytes, and nothing is to be carried. cut is why the answer is not whole: nil
// when it is, or when the client took no more of it.
func (t *Tunnel) Answered(down int64, cut error) {
	_ = t.conn.Conn.Close()
	s := relay.Stats{ClosedBy: ByExchange, Reason: relay.ReasonEOF}
	if cut != nil {
		s = cutStats(t.member.Cut(cut))
	}
	s.Down = down
	t.ended(s, t.conn.Release)
}

// Refuse closes the connection: the server's answer to the front end is none
// for the client, who gets the refusal.
func (t *Tunnel) Refuse(f Refusal) *Refusal {
	_ = t.conn.Conn.Close()
	t.conn.Release()
	rec := Record{Event: Refused, Opening: t.record, Slot: &t.slot, Class: f.Class, Step: "answer", Text: f.Text, Hint: f.Hint, Duration: time.Since(t.record.Start)}
	rec.Attempts = append(slices.Clip(rec.Attempts), failure.Attempt{Upstream: rec.Upstream, Class: f.Class, Took: rec.Duration, Text: f.Text})
	f.ID, f.Rule, f.Pool, f.Upstream, f.Tried = rec.ID, rec.Rule, rec.Pool, rec.Upstream, rec.Attempts
	f.Target.Exchange = rec.Exchange
	f.Delay = t.h.throttle.record(&rec)
	t.h.remove(t)
	t.h.emit(&rec)
	t.h.emitted(1)
	return &f
}

// ReasonAbandoned ends a tunnel whose client left before the reply.
const ReasonAbandoned relay.Reason = "client_gone"

// ended runs once, when both connections are closed.
func (t *Tunnel) ended(s relay.Stats, release func()) {
	release()
	r := &Record{Event: Ended, Opening: t.record, Slot: &t.slot}
	r.Duration = time.Since(r.Start)
	r.Lasted = r.Duration
	if !s.At.IsZero() {
		r.Lasted = s.At.Sub(r.Start)
	}
	r.Up, r.Down = s.Up, s.Down
	r.Reason = s.Reason
	if s.Reason == ReasonMoved {
		r.Event = Moved
	}
	if s.Err != nil {
		r.Text = s.Err.Error()
		if e, ok := errors.AsType[*failure.Error](s.Err); ok {
			r.Class = e.Class
		}
	}
	t.h.remove(t)
	t.h.emitEnd(r, t.member, s) // last: the caller of Wait may close the log then
}

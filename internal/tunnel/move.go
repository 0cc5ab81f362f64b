package tunnel

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"proxyd/internal/relay"
	"proxyd/internal/upstream"
)

// ReasonMoved stands in the record of a tunnel that lives on in another process.
const ReasonMoved relay.Reason = "moved"

// Moves is the result of a Move.
type Moves struct {
	Moved, Stayed int           // Stayed counts what is open here still, for whatever reason
	Longest       time.Duration // the longest that a tunnel stood still on this side
}

// Move passes the live tunnels to another process, batch of them at a time:
// they are frozen, given to send, and are the other process's from then on.
// send says how many it has handed over for good, from the front; the others
// are resumed here. It stops at send's first error, which it returns. What
// stays: tunnels that do not carry yet (a later Move takes them), and those with
// a conn that cannot move (TLS in this process).
//
// A tunnel that has moved leaves a Record with the event Moved here, and its
// Ended one, with all its bytes and its whole duration, there.
func (h *Handler) Move(ctx context.Context, batch int, send func([]Parcel) (sent int, err error)) (m Moves, err error) {
	for todo := slices.Collect(h.all); len(todo) > 0 && err == nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		n := min(batch, len(todo))
		start := time.Now()
		frozen, parcels := freeze(ctx, todo[:n])
		todo = todo[n:]
		if len(frozen) == 0 {
			continue
		}
		var sent int
		sent, err = send(parcels)
		for _, f := range frozen[sent:] {
			f.resume()
		}
		m.Longest = max(m.Longest, time.Since(start))
		for _, f := range frozen[:sent] {
			f.left()
		}
		m.Moved += sent
	}
	m.Stayed = h.Active()
	return m, err
}

// frozen is a tunnel that stands still. Exactly one of left and resume follows.
type frozen struct {
	tunnel *Tunnel
	state  relay.State
}

// freeze stops those of a batch that can be moved, all at the same time: each
// waits for its directions to come to rest.
func freeze(ctx context.Context, batch []*Tunnel) (still []frozen, parcels []Parcel) {
	states := make([]relay.State, len(batch))
	errs := make([]error, len(batch))
	var all sync.WaitGroup
	for i, t := range batch {
		flow := t.flow.Load()
		if flow == nil {
			errs[i] = relay.ErrCannotFreeze
			continue
		}
		all.Go(func() { states[i], errs[i] = flow.Freeze(ctx) }) // ends at once: Freeze waits for no peer
	}
	all.Wait()
	for i, t := range batch {
		if errs[i] != nil { // it has ended, is not carrying yet, or cannot be moved
			continue
		}
		f := frozen{t, states[i]}
		p, err := f.pack()
		if err != nil {
			f.resume()
			continue
		}
		still, parcels = append(still, f), append(parcels, p)
	}
	return still, parcels
}

// left closes this process's copies of the sockets; nothing is sent over them.
func (f frozen) left() {
	_, _ = f.state.Client.Close(), f.state.Server.Close()
	f.state.Options.Done(relay.Stats{
		Up: f.state.Up.Count, Down: f.state.Down.Count, ClosedBy: relay.Proxyd, Reason: ReasonMoved,
	})
}

func (f frozen) resume() { f.tunnel.carryOn(f.state) }

// carryOn lets a frozen flow go on as t's.
func (t *Tunnel) carryOn(s relay.State) { t.setFlow(t.h.relay.Resume(s)) }

// Adopt carries on with a tunnel from another process: it counts here from now
// on and ends in one Record. The limit of tunnels does not apply to it.
// member is this process's upstream for it, nil if there is none; release is
// called once when the tunnel has ended, to uncount it there, and may be nil.
func (h *Handler) Adopt(m *Arrived, member *upstream.Upstream, release func()) {
	if release == nil {
		release = func() {}
	}
	t := &Tunnel{h: h, member: member, record: m.Opening}
	h.mu.Lock()
	h.tunnels.add(t)
	h.mu.Unlock()
	m.state.Options.Done = func(s relay.Stats) { t.ended(s, release) }
	t.carryOn(m.state)
}

// Arrived is a tunnel from another process that stands still until it is
// adopted, and owns its two conns.
type Arrived struct {
	Opening
	state relay.State
}

// Bytes returns what it had carried in the other process.
func (m *Arrived) Bytes() (up, down int64) { return m.state.Up.Count, m.state.Down.Count }

// Parcel is a tunnel that is sent from one process to another.
type Parcel struct {
	Data  []byte         // in Format
	Conns []*net.TCPConn // the client's, the server's
}

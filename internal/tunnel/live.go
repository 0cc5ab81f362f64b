package tunnel

import (
	"proxyd/internal/relay"
	"proxyd/internal/upstream"
)

// Live is an open tunnel, as it was when Each looked.
type Live struct {
	*Opening
	Member        *upstream.Upstream // that it was opened through; nil if it came from another process, whose upstream this one lacks
	Up, Down      int64              // bytes so far; 0 before it carries
	Carrying      bool               // both connections are the relay's; false: its front end has it in hand
	HalfClosed    bool               // one side has ended
	Draining      bool               // its process takes no new requests: it is served to its end
	Moving        bool               // it stands still, to go on in another process
	ClientStalled bool               // bytes for the client wait until it reads

	tunnel *Tunnel
}

// ReasonSilent ends a tunnel in which the exchange sends too little.
const ReasonSilent = relay.ReasonSilent

// Slot returns a variable of the tunnel's that belongs to one observer of Each,
// for what it keeps of the tunnel: nil at first, never touched here, and the same
// for as long as the tunnel lives in this process. The observer guards it itself;
// the tunnel's records point to it.
func (l Live) Slot() *any { return &l.tunnel.slot }

// Now returns the tunnel as it is now.
func (l Live) Now() Live { return l.tunnel.look() }

// Close ends the tunnel now, with ReasonClosed.
func (l Live) Close() (closed bool) { return l.CloseFor(relay.ReasonClosed) }

// CloseFor ends the tunnel now, by proxyd and for a reason. It returns false if the
// tunnel has ended, does not carry yet or is just moving: then it goes on.
func (l Live) CloseFor(why relay.Reason) (closed bool) {
	f := l.tunnel.flow.Load()
	return f != nil && f.CloseFor(why)
}

// walkStep is how many tunnels a walk takes at a time: the lock is held for
// less than 10 µs.
const walkStep = 256

// Each calls yield for every open tunnel, in the order in which they were opened,
// until it says false. It allocates nothing. Tunnels come and go meanwhile, and
// yield may use the Handler: one that is open from the beginning to the end is
// seen once, and any at most once.
func (h *Handler) Each(yield func(Live) bool) {
	for t := range h.all {
		if !yield(t.look()) {
			return
		}
	}
}

// look returns the tunnel as it is now.
func (t *Tunnel) look() Live {
	l := Live{Opening: &t.record, Member: t.member, Draining: t.h.draining.Load(), tunnel: t}
	if f := t.flow.Load(); f != nil {
		l.Carrying = true
		l.Up, l.Down = f.Bytes()
		l.HalfClosed, l.Moving, l.ClientStalled = f.HalfClosed(), f.Moving(), f.ClientStalled()
	}
	return l
}

// all iterates over the open tunnels as Each does.
func (h *Handler) all(yield func(*Tunnel) bool) {
	h.mu.Lock()
	until := h.tunnels.last
	h.mu.Unlock()
	var list [walkStep]*Tunnel
	for last := uint64(0); ; {
		h.mu.Lock()
		n := h.tunnels.next(last, until, list[:])
		h.mu.Unlock()
		if n == 0 {
			return
		}
		last = list[n-1].number
		for _, t := range list[:n] {
			if !yield(t) {
				return
			}
		}
	}
}

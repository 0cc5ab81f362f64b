package tunnel

import (
	"cmp"
	"context"
	"slices"

	"proxyd/internal/relay"
	"proxyd/internal/upstream"
)

// Active returns the number of tunnels that are open.
func (h *Handler) Active() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tunnels.open
}

// Occupied returns the number of tunnels that are open or being opened, and of
// plain requests that are being served: what the limit of tunnels counts.
func (h *Handler) Occupied() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tunnels.open + h.pending
}

// Drain refuses new requests from now on. Tunnels go on.
func (h *Handler) Drain() { h.draining.Store(true) }

// Wait blocks until no tunnel is open and each has its record, or ctx ends.
func (h *Handler) Wait(ctx context.Context) error {
	h.mu.Lock()
	if h.gone() {
		h.mu.Unlock()
		return nil
	}
	if h.idle == nil {
		h.idle = make(chan struct{})
	}
	none := h.idle
	h.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CloseAll ends every tunnel now. Wait returns when they are gone.
func (h *Handler) CloseAll() {
	h.closing.Store(true)
	h.cancel()
	for t := range h.all {
		if f := t.flow.Load(); f != nil {
			f.Close()
		}
	}
}

// reserve counts a tunnel that is being opened, unless the limit is reached; a
// limit of 0 is none.
func (h *Handler) reserve(limit int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if limit > 0 && h.tunnels.open+h.pending >= limit {
		return false
	}
	h.pending++
	return true
}

func (h *Handler) unreserve() {
	h.mu.Lock()
	h.pending--
	h.mu.Unlock()
}

// add counts a tunnel in place of its reservation.
func (h *Handler) add(t *Tunnel) {
	h.mu.Lock()
	h.pending--
	h.tunnels.add(t)
	h.mu.Unlock()
}

// remove counts a tunnel no more. Its record is still to come: emitted follows.
func (h *Handler) remove(t *Tunnel) {
	h.mu.Lock()
	h.tunnels.remove(t)
	h.records++
	h.mu.Unlock()
}

// emitting counts a record that is still to come: emitted follows.
func (h *Handler) emitting() {
	h.mu.Lock()
	h.records++
	h.mu.Unlock()
}

// emitted counts n records out.
func (h *Handler) emitted(n int) {
	h.mu.Lock()
	h.records -= n
	if h.idle != nil && h.gone() {
		close(h.idle)
		h.idle = nil
	}
	h.mu.Unlock()
}

// gone reports whether no tunnel is open, and the records of all are out.
func (h *Handler) gone() bool { return h.tunnels.open == 0 && h.records == 0 }

// registry holds the open tunnels in the order in which they came, so that a walk
// over them can let go of the lock and find where it was. The Handler's lock guards
// it; nothing here takes longer than a copy of its entries, and that seldom.
type registry struct {
	last    uint64 // the number of the latest
	open    int
	entries []entry // by number
}

// entry is a tunnel, nil once it has ended.
type entry struct {
	number uint64
	tunnel *Tunnel
}

func (r *registry) add(t *Tunnel) {
	r.last++
	t.number = r.last
	r.open++
	r.entries = append(r.entries, entry{t.number, t})
}

func (r *registry) remove(t *Tunnel) {
	i := r.after(t.number - 1)
	r.entries[i].tunnel = nil
	r.open--
	if len(r.entries) < fewEntries || r.open > len(r.entries)/2 {
		return
	}
	kept := make([]entry, 0, r.open+r.open/4)
	for _, e := range r.entries {
		if e.tunnel != nil {
			kept = append(kept, e)
		}
	}
	r.entries = kept
}

// fewEntries are not worth the work of closing their gaps.
const fewEntries = 64

// after returns the index of the first entry with a higher number.
func (r *registry) after(number uint64) int {
	i, _ := slices.BinarySearchFunc(r.entries, number+1, func(e entry, n uint64) int { return cmp.Compare(e.number, n) })
	return i
}

// next fills list with the tunnels that follow a number, up to another one.
func (r *registry) next(number, until uint64, list []*Tunnel) (n int) {
	for _, e := range r.entries[r.after(number):] {
		if n == len(list) || e.number > until {
			break
		}
		if e.tunnel != nil {
			list[n] = e.tunnel
			n++
		}
	}
	return n
}

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

// DialQueues returns the pools of which some connections wait for a dial slot, by name.
func (h *Handler) DialQueues() []DialQueue { return h.dials.queues() }

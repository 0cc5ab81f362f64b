package tunnel

import (
	"context"

	"proxyd/internal/upstream"
)

// Active returns the number of tunnels that are open.
func (h *Handler) Active() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.tunnels)
}

// Occupied returns the number of tunnels that are open or being opened, and of
// plain requests that are being served: what the limit of tunnels counts.
func (h *Handler) Occupied() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.tunnels) + h.pending
}

// Live is an open tunnel, as it was when Each looked.
type Live struct {
	*Opening
	Member   *upstream.Upstream // that it was opened through; nil if it came from another process, whose upstream this one lacks
	Up, Down int64              // bytes so far; 0 before it carries

	tunnel *Tunnel
}

// Close ends the tunnel now, with ReasonClosed. One that does not carry yet
// stays: its front end has it in hand.
func (l Live) Close() {
	if f := l.tunnel.flow.Load(); f != nil {
		f.Close()
	}
}

// Each calls yield for every open tunnel, in no order, until it says false.
// Tunnels come and go meanwhile; yield may use the Handler.
func (h *Handler) Each(yield func(Live) bool) {
	for _, t := range h.list() {
		l := Live{Opening: &t.record, Member: t.member, tunnel: t}
		if f := t.flow.Load(); f != nil {
			l.Up, l.Down = f.Bytes()
		}
		if !yield(l) {
			return
		}
	}
}

func (h *Handler) list() []*Tunnel {
	h.mu.Lock()
	defer h.mu.Unlock()
	open := make([]*Tunnel, 0, len(h.tunnels))
	for t := range h.tunnels {
		open = append(open, t)
	}
	return open
}

// Drain refuses new requests from now on. Tunnels go on.
func (h *Handler) Drain() { h.draining.Store(true) }

// Wait blocks until no tunnel is open, or ctx ends.
func (h *Handler) Wait(ctx context.Context) error {
	h.mu.Lock()
	if len(h.tunnels) == 0 {
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
	for _, t := range h.list() {
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
	if limit > 0 && len(h.tunnels)+h.pending >= limit {
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
	h.tunnels[t] = struct{}{}
	h.mu.Unlock()
}

func (h *Handler) remove(t *Tunnel) {
	h.mu.Lock()
	delete(h.tunnels, t)
	if len(h.tunnels) == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
	h.mu.Unlock()
}

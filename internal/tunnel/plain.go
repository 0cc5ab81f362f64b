package tunnel

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"proxyd/internal/dialer"
	"proxyd/internal/failure"
	"proxyd/internal/relay"
	"proxyd/internal/upstream"
)

// RoundTrip routes one plain HTTP request, sends it and records it when its
// answer's body has been read or closed. req.URL is absolute and req.Host its
// authority. The error is a *Refusal.
func (h *Handler) RoundTrip(req *http.Request, r Request) (*http.Response, *upstream.Trip, error) {
	start := time.Now()
	snap := h.snapshot()
	route, refusal := h.admit(snap, r, start)
	if refusal != nil {
		return nil, nil, refusal
	}
	if limit := h.limit(snap); !h.reserve(limit) { // it takes as many descriptors as a tunnel
		return nil, nil, h.refuseFull(r, route, start, limit)
	}
	var up *counted
	if req.Body != nil && req.Body != http.NoBody {
		up = &counted{ReadCloser: req.Body}
		req.Body = up
	}
	resp, trip, err := route.Pool.RoundTrip(req, route.Target, route.Timeout)
	if err != nil {
		h.unreserve()
		return nil, nil, h.refuseDial(r, route, start, err)
	}
	rec := Record{Opening: h.opening(r, start)}
	rec.fill(route)
	rec.Event = Served
	rec.Upstream, rec.Via, rec.Attempts, rec.Dial = trip.Member.Name(), trip.Via, trip.Tried, trip.Dial
	resp.Body = &counted{ReadCloser: resp.Body, closed: func(down int64, end error) {
		h.unreserve()
		rec.Duration, rec.Down = time.Since(start), down
		if up != nil {
			rec.Up = up.n.Load()
		}
		if errors.Is(end, io.EOF) {
			h.emit(&rec)
			return
		}
		h.cutShort(req.Context(), &rec, trip.Member, end)
	}}
	return resp, trip, nil
}

// cutShort emits rec with why an answer has not come to its end, which end says:
// nil when the client took no more of it.
func (h *Handler) cutShort(ctx context.Context, rec *Record, member *upstream.Upstream, end error) {
	if end == nil || ctx.Err() != nil {
		rec.Class, rec.ClosedBy, rec.Reason = failure.ClientGone, ByClient, ReasonAbandoned
		h.emit(rec)
		return
	}
	e := member.Cut(end)
	s := cutStats(e)
	rec.Class, rec.Text, rec.Reason = e.Class, e.Error(), s.Reason
	h.throttle.record(rec)
	h.emitting()
	h.emitEnd(rec, member, s)
}

// cutStats returns how a connection ended that an answer was read from.
func cutStats(e *failure.Error) relay.Stats {
	s := relay.Stats{ClosedBy: relay.Server, Reason: cutReason(e.Err), Err: e, At: time.Now()}
	if s.Reason == relay.ReasonError { // what came is no answer, or stopped coming
		s.ClosedBy = ByExchange
	}
	return s
}

// cutReason returns how a connection ended that an answer was read from.
func cutReason(err error) relay.Reason {
	switch {
	case dialer.IsReset(err):
		return relay.ReasonReset
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return relay.ReasonEOF
	}
	return relay.ReasonError
}

// counted counts a body's bytes and reports once, when it is closed, how many
// they were and with what its last Read ended.
type counted struct {
	io.ReadCloser
	n      atomic.Int64 // the transport may still read the request while the answer ends
	end    error        // of the last Read; only the answer's reader uses it
	closed func(n int64, end error)
}

// Read counts what the body gives.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	if err != nil && c.closed != nil {
		c.end = err
	}
	return n, err
}

// Interrupt ends a Read of a request's body that is under way (see
// upstream.Pool.RoundTrip).
func (c *counted) Interrupt() {
	if b, ok := c.ReadCloser.(upstream.Interrupter); ok {
		b.Interrupt()
	}
}

// Close reports the count, the first time.
func (c *counted) Close() error {
	err := c.ReadCloser.Close()
	if report := c.closed; report != nil {
		c.closed = nil
		report(c.n.Load(), c.end)
	}
	return err
}

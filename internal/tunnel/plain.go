package tunnel

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// RoundTrip routes one plain HTTP request, sends it and records it when its
// answer's body has been read or closed. req.URL is absolute and req.Host its
// authority. The error is a *Refusal.
func (h *Handler) RoundTrip(req *http.Request, r Request) (*http.Response, error) {
	start := time.Now()
	snap := h.snapshot()
	route, refusal := h.admit(snap, r, start)
	if refusal != nil {
		return nil, refusal
	}
	if limit := h.limit(snap); !h.reserve(limit) { // it takes as many descriptors as a tunnel
		return nil, h.refuseFull(r, route, start, limit)
	}
	var up *counted
	if req.Body != nil && req.Body != http.NoBody {
		up = &counted{ReadCloser: req.Body}
		req.Body = up
	}
	resp, trip, err := route.Pool.RoundTrip(req, route.Target, route.Timeout)
	if err != nil {
		h.unreserve()
		return nil, h.refuseDial(r, route, start, err)
	}
	rec := Record{Opening: h.opening(r, start)}
	rec.fill(route)
	rec.Event = Served
	rec.Upstream, rec.Attempts = trip.Member.Name(), trip.Tried
	rec.Dial = time.Since(start)
	resp.Body = &counted{ReadCloser: resp.Body, closed: func(down int64) {
		h.unreserve()
		rec.Duration, rec.Down = time.Since(start), down
		if up != nil {
			rec.Up = up.n.Load()
		}
		h.emit(rec)
	}}
	return resp, nil
}

// counted counts a body's bytes and tells once when it is closed.
type counted struct {
	io.ReadCloser
	n      atomic.Int64 // the transport may still read the request while the answer ends
	closed func(n int64)
}

// Read counts what the body gives.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// Close tells the count, the first time.
func (c *counted) Close() error {
	err := c.ReadCloser.Close()
	if tell := c.closed; tell != nil {
		c.closed = nil
		tell(c.n.Load())
	}
	return err
}

package metrics

import (
	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

// carried is an open tunnel, and how many of its bytes are counted already.
//
// Bytes are counted by what came in addition since last time, when a scrape asks
// for the live tunnels and once more when the tunnel ends and is forgotten. So
// nothing is counted twice or lost, however a scrape and an end meet, and no
// total ever falls.
type carried struct {
	feed     *feedSeries
	up, down int64
}

// Observe counts a record. It must see every record of the process.
func (m *Metrics) Observe(r *tunnel.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch r.Event {
	case tunnel.Opened:
		f := m.feed(&r.Opening)
		m.request(f, "ok")
		m.connected(&r.Opening)
		m.opened(f, r, 0, 0)
	case tunnel.Ended:
		m.ended(r)
	case tunnel.Served: // its time is the server's, and its connection may have been a kept one
		m.request(m.feed(&r.Opening), outcome(r.Class))
		m.dialsFailed(r.Attempts)
	case tunnel.Refused:
		m.request(m.feed(&r.Opening), string(r.Class))
		m.dialsFailed(r.Attempts)
	}
}

// outcome names the end of a request.
func outcome(class failure.Class) string {
	if class == "" {
		return "ok"
	}
	return string(class)
}

// Adopt counts a tunnel that came from another process as active here. It is no
// request, and the bytes that it brought along (Up, Down) are not counted again.
// Its end comes by Observe.
func (m *Metrics) Adopt(r tunnel.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened(m.feed(&r.Opening), &r, r.Up, r.Down)
}

func (m *Metrics) opened(f *feedSeries, r *tunnel.Record, up, down int64) {
	if _, double := m.open[r.ID]; double {
		return
	}
	m.addTunnelSeries(f)
	f.active++
	f.gauge.Set(float64(f.active))
	m.open[r.ID] = carried{f, up, down}
}

func (m *Metrics) ended(r *tunnel.Record) {
	c, open := m.open[r.ID]
	f := c.feed
	if open {
		f.active--
		f.gauge.Set(float64(f.active))
		f.use()
		delete(m.open, r.ID)
	} else { // it ended before it carried: its client had left, or the server had answered the front end
		f = m.feed(&r.Opening)
		m.connected(&r.Opening)
		if r.Reason == tunnel.ReasonAbandoned {
			m.request(f, string(failure.ClientGone))
		} else {
			m.request(f, outcome(r.Class))
		}
		m.addTunnelSeries(f)
	}
	f.up.Add(float64(max(0, r.Up-c.up)))
	f.down.Add(float64(max(0, r.Down-c.down)))
	m.tunnelClosed(f, r)
}

// progress counts what a live tunnel has carried since last time.
func (m *Metrics) progress(id string, up, down int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, open := m.open[id]
	if !open || up <= c.up && down <= c.down { // it has not begun to carry, or its end is counted; or nothing is new
		return
	}
	c.feed.up.Add(float64(max(0, up-c.up)))
	c.feed.down.Add(float64(max(0, down-c.down)))
	c.up, c.down = max(c.up, up), max(c.down, down)
	m.open[id] = c
}

// connected counts the attempts of a connection that was opened. What the last
// one took is the time from the request on without the queue and those before
// it.
func (m *Metrics) connected(o *tunnel.Opening) {
	m.dialsFailed(o.Attempts)
	took := o.Dial - o.Queued
	for i := range o.Attempts {
		took -= o.Attempts[i].Took
	}
	m.dialled(o.Upstream, took)
}

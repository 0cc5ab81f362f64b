package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

// exchangeSeries is what is counted for an exchange and kind.
type exchangeSeries struct {
	exchange, kind   string // as labels
	requests, closed map[string]prometheus.Counter
	duration         prometheus.Observer
	up, down         prometheus.Counter
}

type exchangeKey struct {
	exchange string
	kind     catalog.Kind
}

// upstreamSeries is what is counted for an exchange and kind through an upstream.
type upstreamSeries struct {
	exchangeSeries *exchangeSeries
	upstream       string
	active         int
	gauge          prometheus.Gauge
}

type upstreamKey struct {
	exchangeKey
	upstream string
}

// member is what is counted for an upstream.
type member struct {
	dial   prometheus.Observer
	errors map[failure.Class]prometheus.Counter
}

// carried is an open tunnel, and how many of its bytes are counted already.
//
// Bytes are counted by what came in addition since last time, when a scrape asks
// for the live tunnels and once more when the tunnel ends and is forgotten. So
// nothing is counted twice or lost, however a scrape and an end meet, and no
// total ever falls.
type carried struct {
	series   *upstreamSeries
	up, down int64
}

// Observe counts a record. It must see every record of the process.
func (m *Metrics) Observe(r *tunnel.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.exchangeSeries(&r.Opening)
	switch r.Event {
	case tunnel.Opened:
		m.request(v, "ok")
		m.dialled(&r.Opening)
		m.opened(r, 0, 0)
	case tunnel.Ended:
		m.ended(v, r)
	case tunnel.Served: // its time is the server's, and its connection may have been a kept one
		m.request(v, outcome(r.Class))
		m.failed(r.Attempts)
	case tunnel.Refused:
		m.request(v, string(r.Class))
		m.failed(r.Attempts)
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
	m.opened(&r, r.Up, r.Down)
}

func (m *Metrics) opened(r *tunnel.Record, up, down int64) {
	if _, double := m.open[r.ID]; double {
		return
	}
	w := m.upstreamSeries(&r.Opening)
	w.active++
	w.gauge.Set(float64(w.active))
	m.open[r.ID] = carried{w, up, down}
}

func (m *Metrics) ended(v *exchangeSeries, r *tunnel.Record) {
	c, open := m.open[r.ID]
	if open {
		c.series.active--
		c.series.gauge.Set(float64(c.series.active))
		delete(m.open, r.ID)
	} else { // it ended before it carried: its client had left, or the server had answered the front end
		m.dialled(&r.Opening)
		if r.Reason == tunnel.ReasonAbandoned {
			m.request(v, string(failure.ClientGone))
		} else {
			m.request(v, outcome(r.Class))
		}
	}
	v.up.Add(float64(max(0, r.Up-c.up)))
	v.down.Add(float64(max(0, r.Down-c.down)))
	v.duration.Observe(max(0, r.Duration).Seconds())
	count(m.closed, v.closed, string(r.Reason), v)
}

// progress counts what a live tunnel has carried since last time.
func (m *Metrics) progress(id string, up, down int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, open := m.open[id]
	if !open { // it has not begun to carry, or its end is counted
		return
	}
	if up > c.up {
		c.series.exchangeSeries.up.Add(float64(up - c.up))
		c.up = up
	}
	if down > c.down {
		c.series.exchangeSeries.down.Add(float64(down - c.down))
		c.down = down
	}
	m.open[id] = c
}

func (m *Metrics) request(v *exchangeSeries, outcome string) {
	count(m.requests, v.requests, outcome, v)
}

// count adds one to an exchange's child that last names; known has those made
// before.
func count(all *prometheus.CounterVec, known map[string]prometheus.Counter, last string, v *exchangeSeries) {
	c := known[last]
	if c == nil {
		c = all.WithLabelValues(v.exchange, v.kind, last)
		known[last] = c
	}
	c.Inc()
}

// dialled counts the attempts of a connection that was opened. What the last
// one took is the time from the request on without the queue and those before
// it.
func (m *Metrics) dialled(o *tunnel.Opening) {
	m.failed(o.Attempts)
	took := o.Dial - o.Queued
	for i := range o.Attempts {
		took -= o.Attempts[i].Took
	}
	m.member(o.Upstream).dial.Observe(max(0, took).Seconds())
}

func (m *Metrics) failed(attempts []failure.Attempt) {
	for i := range attempts {
		a := &attempts[i]
		u := m.member(a.Upstream)
		c := u.errors[a.Class]
		if c == nil {
			c = m.dialErrors.WithLabelValues(a.Upstream, string(a.Class))
			u.errors[a.Class] = c
		}
		c.Inc()
	}
}

func (m *Metrics) exchangeSeries(o *tunnel.Opening) *exchangeSeries {
	key := exchangeKey{o.Exchange, o.Kind}
	v := m.exchanges[key]
	if v == nil {
		v = &exchangeSeries{exchange: exchangeLabel(o.Exchange), kind: kindLabel(o.Kind.String())}
		v.requests, v.closed = map[string]prometheus.Counter{}, map[string]prometheus.Counter{}
		v.duration = m.durations.WithLabelValues(v.exchange, v.kind)
		v.up, v.down = m.bytes.WithLabelValues(v.exchange, v.kind, "up"), m.bytes.WithLabelValues(v.exchange, v.kind, "down")
		m.exchanges[key] = v
	}
	return v
}

func (m *Metrics) upstreamSeries(o *tunnel.Opening) *upstreamSeries {
	key := upstreamKey{exchangeKey{o.Exchange, o.Kind}, o.Upstream}
	w := m.upstreams[key]
	if w == nil {
		v := m.exchangeSeries(o)
		w = &upstreamSeries{exchangeSeries: v, upstream: o.Upstream, gauge: m.active.WithLabelValues(v.exchange, v.kind, o.Upstream)}
		m.upstreams[key] = w
	}
	return w
}

func (m *Metrics) member(name string) *member {
	u := m.members[name]
	if u == nil {
		u = &member{m.dials.WithLabelValues(name), map[failure.Class]prometheus.Counter{}}
		m.members[name] = u
	}
	return u
}

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/feed"
	"proxyd/internal/tunnel"
)

// What is bounded here has the bounds of the rows that status shows.
const (
	maxFeeds      = feed.MaxFeeds // that have series of their own; others of their exchange and kind share those of otherUpstream
	otherUpstream = feed.OtherUpstream
)

// shownFor is how long the series of a feed without tunnels stay after its last
// traffic.
const shownFor = time.Hour

// exchangeSeries is what is counted for an exchange and kind.
type exchangeSeries struct {
	exchange, kind string // as labels
	duration       prometheus.Observer
}

type exchangeKey struct {
	exchange string
	kind     catalog.Kind
}

// feedSeries is what is counted for an exchange and kind through an upstream.
//
// The series of a feed without traffic for shownFor are hidden, not dropped: when
// they come back, no total has fallen. They are dropped where the room is needed.
type feedSeries struct {
	*exchangeSeries
	key      feedKey
	upstream string // as label
	requests map[string]prometheus.Counter
	closed   map[ending]prometheus.Counter
	up, down prometheus.Counter // nil before its first tunnel
	gauge    prometheus.Gauge   // nil before its first tunnel
	active   int                // its tunnels
	activity
	shown []prometheus.Metric // grows only: a copy of the slice stays valid
}

type feedKey struct {
	exchangeKey
	upstream string
}

// ending is who ended a tunnel and why.
type ending struct{ by, reason string }

// upstreamSeries is what is counted for an upstream.
type upstreamSeries struct {
	upstream string              // as label
	dial     prometheus.Observer // nil before a connection was opened
	errors   map[failure.Class]prometheus.Counter
	activity
	shown []prometheus.Metric
}

// activity is whether series were in use within shownFor. Only settle looks at the
// clock.
type activity struct {
	used   bool      // since the last time that settle looked
	last   time.Time // when settle saw that they were in use
	hidden bool
}

func (a *activity) use() { a.used, a.hidden = true, false }

// settle updates hidden.
func (a *activity) settle(open bool, now time.Time) {
	if a.used || open {
		a.used, a.last = false, now
	}
	a.hidden = now.Sub(a.last) >= shownFor
}

// feed returns the series of a record. Once there are maxFeeds, those of a new feed
// are the shared ones.
func (m *Metrics) feed(o *tunnel.Opening) *feedSeries {
	key := feedKey{exchangeKey{o.Exchange, o.Kind}, o.Upstream}
	f := m.feeds[key]
	if f == nil && len(m.feeds) >= maxFeeds {
		key.upstream = otherUpstream
		f = m.feeds[key]
	}
	if f == nil {
		f = &feedSeries{
			exchangeSeries: m.exchange(key.exchangeKey), key: key, upstream: key.upstream,
			requests: map[string]prometheus.Counter{}, closed: map[ending]prometheus.Counter{},
		}
		m.feeds[key] = f
		m.feedList = append(m.feedList, f)
	}
	f.use()
	return f
}

func (m *Metrics) exchange(key exchangeKey) *exchangeSeries {
	e := m.exchanges[key]
	if e == nil {
		e = &exchangeSeries{exchange: exchangeLabel(key.exchange), kind: kindLabel(key.kind.String())}
		m.exchanges[key] = e
	}
	return e
}

func (m *Metrics) upstream(name string) *upstreamSeries {
	u := m.upstreams[name]
	if u == nil && len(m.upstreams) >= maxFeeds {
		name = otherUpstream
		u = m.upstreams[name]
	}
	if u == nil {
		u = &upstreamSeries{upstream: name, errors: map[failure.Class]prometheus.Counter{}}
		m.upstreams[name] = u
		m.upstreamList = append(m.upstreamList, u)
	}
	u.use()
	return u
}

// request adds one to the requests of that outcome.
func (m *Metrics) request(f *feedSeries, outcome string) {
	c := f.requests[outcome]
	if c == nil {
		c = m.requests.WithLabelValues(f.exchange, f.kind, f.upstream, outcome)
		f.requests[outcome] = c
		f.shown = append(f.shown, c)
	}
	c.Inc()
}

// addTunnelSeries makes the series of a feed that has tunnels.
func (m *Metrics) addTunnelSeries(f *feedSeries) {
	if f.gauge != nil {
		return
	}
	f.gauge = m.active.WithLabelValues(f.exchange, f.kind, f.upstream)
	f.up = m.bytes.WithLabelValues(f.exchange, f.kind, f.upstream, "up")
	f.down = m.bytes.WithLabelValues(f.exchange, f.kind, f.upstream, "down")
	f.shown = append(f.shown, f.gauge, f.up, f.down)
}

// tunnelClosed counts the end of a tunnel.
func (m *Metrics) tunnelClosed(f *feedSeries, r *tunnel.Record) {
	by := ending{r.ClosedBy, string(r.Reason)}
	c := f.closed[by]
	if c == nil {
		c = m.closed.WithLabelValues(f.exchange, f.kind, f.upstream, by.by, by.reason)
		f.closed[by] = c
		f.shown = append(f.shown, c)
	}
	c.Inc()
	if f.duration == nil {
		f.duration = m.durations.WithLabelValues(f.exchange, f.kind)
	}
	f.duration.Observe(max(0, r.Duration).Seconds())
}

// dialled counts how long it took to open a connection.
func (m *Metrics) dialled(upstream string, took time.Duration) {
	u := m.upstream(upstream)
	if u.dial == nil {
		u.dial = m.dials.WithLabelValues(u.upstream)
		u.shown = append(u.shown, u.dial.(prometheus.Metric)) // a histogram is one
	}
	u.dial.Observe(max(0, took).Seconds())
}

// dialsFailed counts failed attempts.
func (m *Metrics) dialsFailed(attempts []failure.Attempt) {
	for i := range attempts {
		a := &attempts[i]
		u := m.upstream(a.Upstream)
		c := u.errors[a.Class]
		if c == nil {
			c = m.dialErrors.WithLabelValues(u.upstream, string(a.Class))
			u.errors[a.Class] = c
			u.shown = append(u.shown, c)
		}
		c.Inc()
	}
}

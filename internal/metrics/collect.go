package metrics

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"proxyd/internal/feed"
)

// seriesCollector shows what is counted from records, and the feeds' report.
//
// It copies which series there are while it holds the lock, and their values
// after that: a tunnel does not wait for a scrape.
type seriesCollector struct {
	m                      *Metrics
	lost, silent, lastByte *prometheus.Desc
}

func newSeriesCollector(m *Metrics) seriesCollector {
	return seriesCollector{
		m, declared("exchange_lost").desc(), declared("feed_silent").desc(), declared("feed_last_byte_timestamp_seconds").desc(),
	}
}

// Describe implements prometheus.Collector.
func (c seriesCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, vec := range []prometheus.Collector{c.m.requests, c.m.active, c.m.bytes, c.m.durations, c.m.closed, c.m.dials, c.m.dialErrors} {
		vec.Describe(ch)
	}
	ch <- c.lost
	ch <- c.silent
	ch <- c.lastByte
}

// Collect implements prometheus.Collector.
func (c seriesCollector) Collect(ch chan<- prometheus.Metric) {
	feeds, shown := c.m.visible()
	for _, list := range shown {
		for _, metric := range list {
			ch <- metric
		}
	}
	durations := map[*exchangeSeries]bool{}
	for _, f := range feeds {
		if metric, ok := f.duration.(prometheus.Metric); ok && !durations[f.exchangeSeries] {
			durations[f.exchangeSeries] = true
			ch <- metric
		}
	}
	if c.m.o.Feeds != nil {
		c.collectReport(ch, feeds, c.m.o.Feeds())
	}
}

// collectReport shows the states of exchanges and feeds. A feed has the names
// that it is counted under.
func (c seriesCollector) collectReport(ch chan<- prometheus.Metric, counted []visibleFeed, report feed.Report) {
	for _, e := range report.Exchanges {
		ch <- prometheus.MustNewConstMetric(c.lost, prometheus.GaugeValue, oneIf(e.State.Bad()), exchangeLabel(e.Exchange), kindLabel(e.Kind))
	}
	type key struct{ exchange, kind, upstream string }
	type state struct {
		silent bool
		last   time.Time
	}
	own := make(map[key]bool, len(counted))
	for _, f := range counted {
		own[key{f.exchange, f.kind, f.upstream}] = true
	}
	states := make(map[key]state, len(report.Feeds))
	for i := range report.Feeds {
		f := &report.Feeds[i]
		k := key{exchangeLabel(f.Exchange), kindLabel(f.Kind), f.Upstream}
		switch {
		case own[k]:
		case len(own) < maxFeeds:
			own[k] = true
		default:
			k.upstream = otherUpstream
		}
		s := states[k]
		s.silent = s.silent || f.Silence != nil
		if f.LastByte.After(s.last) {
			s.last = f.LastByte
		}
		states[k] = s
	}
	for k, s := range states {
		ch <- prometheus.MustNewConstMetric(c.silent, prometheus.GaugeValue, oneIf(s.silent), k.exchange, k.kind, k.upstream)
		if !s.last.IsZero() {
			ch <- prometheus.MustNewConstMetric(c.lastByte, prometheus.GaugeValue, unix(s.last), k.exchange, k.kind, k.upstream)
		}
	}
}

// visibleFeed is a feed that is shown.
type visibleFeed struct {
	*exchangeSeries
	upstream string
	duration prometheus.Observer
}

// visible returns the feeds that are shown, and all series that are.
func (m *Metrics) visible() (feeds []visibleFeed, shown [][]prometheus.Metric) {
	inSteps(&m.mu, &m.feedList, func(f *feedSeries) {
		if !f.hidden {
			feeds = append(feeds, visibleFeed{f.exchangeSeries, f.upstream, f.duration})
			shown = append(shown, f.shown)
		}
	})
	inSteps(&m.mu, &m.upstreamList, func(u *upstreamSeries) {
		if !u.hidden {
			shown = append(shown, u.shown)
		}
	})
	return feeds, shown
}

// inSteps calls do for each element of a list while it holds mu, and lets go of mu
// after a few.
func inSteps[T any](mu *sync.Mutex, list *[]T, do func(T)) {
	mu.Lock()
	all := *list
	mu.Unlock()
	for few := range slices.Chunk(all, 64) {
		mu.Lock()
		for _, one := range few {
			do(one)
		}
		mu.Unlock()
	}
}

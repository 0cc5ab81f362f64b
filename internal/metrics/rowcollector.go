package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// column turns the rows of a source into one metric.
type column[R any] struct {
	name  string
	value func(R) float64
}

// rowCollector collects metrics from a source that is asked once a scrape.
type rowCollector[R any] struct {
	source  func() []R
	labels  func(R) []string
	columns []column[R]
	metrics []sample // of the columns
}

// sample is what all values of a metric share.
type sample struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// addRows registers the metrics of a source, none if it is nil.
func addRows[R any](m *Metrics, source func() []R, labels func(R) []string, columns ...column[R]) {
	if source == nil {
		return
	}
	c := rowCollector[R]{source: source, labels: labels, columns: columns}
	for _, column := range columns {
		f, kind := declared(column.name), prometheus.GaugeValue
		if f.kind == counter {
			kind = prometheus.CounterValue
		}
		c.metrics = append(c.metrics, sample{f.desc(), kind})
	}
	m.reg.MustRegister(c)
}

// Describe implements prometheus.Collector.
func (c rowCollector[R]) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range c.metrics {
		ch <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (c rowCollector[R]) Collect(ch chan<- prometheus.Metric) {
	for _, r := range c.source() {
		labels := c.labels(r)
		for i, column := range c.columns {
			ch <- prometheus.MustNewConstMetric(c.metrics[i].desc, c.metrics[i].kind, column.value(r), labels...)
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unix returns t in seconds, as Prometheus wants it.
func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

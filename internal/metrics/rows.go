package metrics

import "github.com/prometheus/client_golang/prometheus"

// family is a metric without its values.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func gaugeOf(name, help string, labels ...string) family {
	return family{prometheus.NewDesc(prefix+name, help, labels, nil), prometheus.GaugeValue}
}

func counterOf(name, help string, labels ...string) family {
	return family{prometheus.NewDesc(prefix+name, help, labels, nil), prometheus.CounterValue}
}

// column turns the rows of a source into one metric.
type column[R any] struct {
	family
	value func(R) float64
}

// rows collects metrics from a source that is asked once a scrape.
type rows[R any] struct {
	source  func() []R
	labels  func(R) []string
	columns []column[R]
}

// addRows registers the metrics of a source, none if it is nil.
func addRows[R any](m *Metrics, source func() []R, labels func(R) []string, columns ...column[R]) {
	if source != nil {
		m.reg.MustRegister(rows[R]{source, labels, columns})
	}
}

// Describe implements prometheus.Collector.
func (s rows[R]) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range s.columns {
		ch <- c.desc
	}
}

// Collect implements prometheus.Collector.
func (s rows[R]) Collect(ch chan<- prometheus.Metric) {
	for _, r := range s.source() {
		labels := s.labels(r)
		for _, c := range s.columns {
			ch <- prometheus.MustNewConstMetric(c.desc, c.kind, c.value(r), labels...)
		}
	}
}

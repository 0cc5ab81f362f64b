package metrics

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"proxyd/internal/event"
)

// Metrics counts what happens in this process. Its methods are safe for
// concurrent use.
type Metrics struct {
	o   Options
	reg *prometheus.Registry

	connections map[string]prometheus.Counter // by protocol, all made by New
	events      map[eventKey]prometheus.Counter
	reloads     *prometheus.CounterVec
	reloadOK    prometheus.Gauge
	reloadAt    prometheus.Gauge
	fleetCalls  *prometheus.CounterVec
	fleetTimes  *prometheus.HistogramVec

	// These make series, and are not registered: their own Collect holds a lock that
	// a record would wait for. seriesCollector shows what they have made.
	requests   *prometheus.CounterVec
	active     *prometheus.GaugeVec
	bytes      *prometheus.CounterVec
	durations  *prometheus.HistogramVec
	closed     *prometheus.CounterVec
	dials      *prometheus.HistogramVec
	dialErrors *prometheus.CounterVec

	mu        sync.Mutex // guards what follows, and is never held for long: records wait for it
	exchanges map[exchangeKey]*exchangeSeries
	feeds     map[feedKey]*feedSeries
	upstreams map[string]*upstreamSeries // by name
	open      map[string]carried         // by id, the tunnels that are open

	// What is in the two maps. A list grows or is replaced, and never changed.
	feedList     []*feedSeries
	upstreamList []*upstreamSeries
}

type eventKey struct {
	severity event.Severity
	kind     event.Type
}

// Tunnels of feeds live for 24 hours, when exchanges cut them: the steps on both
// sides of that separate a tunnel that lasted from one that was cut early.
var durationSteps = []float64{0.1, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 23 * 3600, 25 * 3600}

var dialSteps = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2.5, 4, 5, 10}

// protocols are the words of tunnel.Request.Protocol; what is none of them is
// "other".
var protocols = []string{"connect", "http", "socks4", "socks5", "tls", "transparent", "unknown", "other"}

// New returns the metrics of one process, in a registry of their own.
func New(o Options) *Metrics {
	m := &Metrics{
		o: o, reg: prometheus.NewRegistry(), connections: map[string]prometheus.Counter{}, events: map[eventKey]prometheus.Counter{},
		reloads:    counterVec("config_reloads_total"),
		reloadOK:   singleGauge("config_last_reload_successful"),
		reloadAt:   singleGauge("config_last_reload_success_timestamp_seconds"),
		fleetCalls: counterVec("fleet_calls_total"),
		fleetTimes: histogramVec("fleet_call_seconds", callSteps),
		requests:   counterVec("requests_total"),
		active:     gaugeVec("tunnels_active"),
		bytes:      counterVec("tunnel_bytes_total"),
		durations:  histogramVec("tunnel_duration_seconds", durationSteps),
		closed:     counterVec("tunnel_closed_total"),
		dials:      histogramVec("dial_duration_seconds", dialSteps),
		dialErrors: counterVec("dial_errors_total"),
		exchanges:  map[exchangeKey]*exchangeSeries{}, feeds: map[feedKey]*feedSeries{}, upstreams: map[string]*upstreamSeries{}, open: map[string]carried{},
	}
	connections, events := counterVec("connections_total"), counterVec("events_total")
	for _, p := range protocols {
		m.connections[p] = connections.WithLabelValues(p)
	}
	for _, severity := range event.Severities {
		for _, t := range event.Types {
			m.events[eventKey{severity, t}] = events.WithLabelValues(string(severity), string(t))
		}
	}
	m.reg.MustRegister(connections, events, m.reloads, m.reloadOK, m.reloadAt, m.fleetCalls, m.fleetTimes, newSeriesCollector(m))
	m.registerSources()
	return m
}

// Handler answers scrapes, in the format that they ask for.
func (m *Metrics) Handler() http.Handler {
	h := promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{
		EnableOpenMetrics:   true,
		ErrorHandling:       promhttp.ContinueOnError, // two rows with the same labels must not hide the rest
		MaxRequestsInFlight: 8,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.settle()
		h.ServeHTTP(w, r)
	})
}

// Connection counts a client's connection by what it speaks.
func (m *Metrics) Connection(protocol string) {
	c := m.connections[protocol]
	if c == nil {
		c = m.connections["other"]
	}
	c.Inc()
}

// Event counts an event of the journal.
func (m *Metrics) Event(severity event.Severity, t event.Type) {
	if c := m.events[eventKey{severity, t}]; c != nil {
		c.Inc()
	}
}

// callSteps are around 20 and 50 ms, where a fleet stops using Redis.
var callSteps = []float64{0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1}

// FleetCall counts a call of the fleet's Redis.
func (m *Metrics) FleetCall(ok bool, took time.Duration) {
	result := "ok"
	if !ok {
		result = "failed"
	}
	m.fleetCalls.WithLabelValues(result).Inc()
	m.fleetTimes.WithLabelValues().Observe(took.Seconds())
}

// Reloaded counts a reload, and the first load too. result is one of a few words
// of the caller's; ok says that what was read is in force since at.
func (m *Metrics) Reloaded(result string, ok bool, at time.Time) {
	m.reloads.WithLabelValues(result).Inc()
	if !ok {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadAt.Set(float64(at.UnixMilli()) / 1000)
	m.forget(time.Now())
}

package metrics

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics counts what happens in this process. Its methods are safe for
// concurrent use.
type Metrics struct {
	o   Options
	reg *prometheus.Registry

	connections map[string]prometheus.Counter // by protocol, all made by New
	reloads     *prometheus.CounterVec
	reloadOK    prometheus.Gauge
	reloadAt    prometheus.Gauge
	requests    *prometheus.CounterVec
	active      *prometheus.GaugeVec
	bytes       *prometheus.CounterVec
	durations   *prometheus.HistogramVec
	closed      *prometheus.CounterVec
	dials       *prometheus.HistogramVec
	dialErrors  *prometheus.CounterVec

	mu        sync.Mutex // guards what follows, and with it which children the vectors have
	exchanges map[exchangeKey]*exchangeSeries
	upstreams map[upstreamKey]*upstreamSeries
	members   map[string]*member // by name
	open      map[string]carried // by id, the tunnels that are open
}

// Tunnels of feeds live for 24 hours, when exchanges cut them: the steps on both
// sides of that separate a tunnel that lasted from one that was cut early.
var durationSteps = []float64{0.1, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 23 * 3600, 25 * 3600}

var dialSteps = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2.5, 4, 5, 10}

// protocols are the words of tunnel.Request.Protocol; what is none of them is
// "other".
var protocols = []string{"connect", "http", "socks4", "socks5", "tls", "unknown", "other"}

// New returns the metrics of one process, in a registry of their own.
func New(o Options) *Metrics {
	m := &Metrics{
		o: o, reg: prometheus.NewRegistry(), connections: map[string]prometheus.Counter{},
		reloads:    counters("config_reloads_total", "Reloads of the configuration, by what came of them.", "result"),
		reloadOK:   gauge("config_last_reload_successful", "1 if the configuration last read is in force, 0 if it was rejected."),
		reloadAt:   gauge("config_last_reload_success_timestamp_seconds", "When a configuration was last put in force, in Unix time."),
		requests:   counters("requests_total", "Requests of clients, by outcome: ok once a connection was open, else the class of the refusal.", "exchange", "kind", "outcome"),
		active:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "tunnels_active", Help: "Tunnels that carry bytes now."}, []string{"exchange", "kind", "upstream"}),
		bytes:      counters("tunnel_bytes_total", "Bytes that tunnels have carried so far, live ones included; up is from the client.", "exchange", "kind", "direction"),
		durations:  histograms("tunnel_duration_seconds", "How long tunnels lasted that have ended.", durationSteps, "exchange", "kind"),
		closed:     counters("tunnel_closed_total", "Tunnels that have ended, by reason.", "exchange", "kind", "reason"),
		dials:      histograms("dial_duration_seconds", "How long it took to open a connection through the upstream; failed attempts and queues are not in it.", dialSteps, "upstream"),
		dialErrors: counters("dial_errors_total", "Failed attempts to open a connection through the upstream.", "upstream", "class"),
		exchanges:  map[exchangeKey]*exchangeSeries{}, upstreams: map[upstreamKey]*upstreamSeries{}, members: map[string]*member{}, open: map[string]carried{},
	}
	connections := counters("connections_total", "Connections of clients, by what they spoke.", "protocol")
	for _, p := range protocols {
		m.connections[p] = connections.WithLabelValues(p)
	}
	m.reg.MustRegister(connections, m.reloads, m.reloadOK, m.reloadAt, m.requests, m.active, m.bytes,
		m.durations, m.closed, m.dials, m.dialErrors)
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
	m.forget()
}

// settle updates what depends on live tunnels and the configuration.
func (m *Metrics) settle() {
	if m.o.Tunnels != nil {
		m.o.Tunnels(m.progress)
	}
	m.forget()
}

// forget drops the series of upstreams that the configuration no longer has,
// once no tunnel of theirs is open.
func (m *Metrics) forget() {
	if m.o.Upstreams == nil {
		return
	}
	names := map[string]bool{}
	for _, name := range m.o.Upstreams() {
		names[name] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.upstreams {
		if w.active > 0 {
			names[w.upstream] = true
		}
	}
	for k, w := range m.upstreams {
		if !names[w.upstream] {
			m.active.DeletePartialMatch(prometheus.Labels{"exchange": w.exchangeSeries.exchange, "kind": w.exchangeSeries.kind, "upstream": w.upstream})
			delete(m.upstreams, k)
		}
	}
	for name := range m.members {
		if !names[name] {
			m.dials.DeleteLabelValues(name)
			m.dialErrors.DeletePartialMatch(prometheus.Labels{"upstream": name})
			delete(m.members, name)
		}
	}
}

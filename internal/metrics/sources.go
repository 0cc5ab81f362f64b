package metrics

import (
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Options say what the metrics show beside the records. Each func is asked at
// every scrape, from the scrape's goroutine, with no lock of this package held;
// one that is nil leaves its metrics out.
type Options struct {
	Version, Revision string // of the build
	Catalogue         string // the date of the catalogue
	Generation        int    // of this process: 1, and one more after each upgrade

	// Tunnels calls each once for every live tunnel, with what it has carried
	// so far. A tunnel must be among them from its Opened record until its Ended one.
	Tunnels func(each func(id string, up, down int64))
	// Upstreams are the names in the configuration in force. Series of others
	// vanish with their last tunnel; without it they stay for good.
	Upstreams   func() []string
	Generations func() []Generation
	Up          func() []Up
	Verdicts    func() []Verdict
	Budgets     func() []Budget
	Short       func() []Short
	LogDropped  func() uint64 // lines that were lost
	LogErrors   func() uint64 // failed writes of the log
}

// Generation is a process of this service that still has tunnels.
type Generation struct{ Number, Tunnels int }

// Up is whether an upstream is in use or ejected.
type Up struct {
	Upstream string
	Up       bool
}

// Verdict is the one that holds for an upstream and an exchange.
type Verdict struct{ Upstream, Exchange, Kind, Verdict string }

// Budget is what is left of a budget. Exchange and Kind are "" for one of all
// traffic.
type Budget struct {
	Exchange, Kind, Exit string
	Remaining            int
	Refused              uint64 // so far
}

// Short counts the tunnels of one exchange and kind through one upstream that
// ended at once.
type Short struct {
	Exchange, Kind, Upstream string
	Count                    uint64
}

const prefix = "proxyd_"

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help})
}

func histograms(name, help string, steps []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: steps}, labels)
}

// exchangeLabel returns an exchange as a label, "none" for hosts of no exchange.
func exchangeLabel(name string) string {
	if name == "" {
		return "none"
	}
	return name
}

func kindLabel(kind string) string {
	if kind == "" {
		return "unknown" // refused before it was known
	}
	return kind
}

func allLabel(s string) string {
	if s == "" {
		return "all"
	}
	return s
}

// registerSources adds what is read from others at each scrape.
func (m *Metrics) registerSources() {
	o := &m.o
	m.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.reg.MustRegister(
		constant("build_info", "The build that runs, and the date of its catalogue.", prometheus.Labels{
			"version": o.Version, "revision": o.Revision, "goversion": runtime.Version(), "catalogue": o.Catalogue,
		}),
		constant("process_info", "The process that answers: its number in the row of upgrades.", prometheus.Labels{
			"generation": strconv.Itoa(o.Generation),
		}))
	m.registerCount("log_dropped_total", "Log lines lost because the log was blocked or could not be written.", o.LogDropped)
	m.registerCount("log_write_errors_total", "Writes of the log that failed, as on a full disk.", o.LogErrors)
	m.registerRows()
}

// registerCount adds a counter that another package keeps; nil leaves it out.
func (m *Metrics) registerCount(name, help string, count func() uint64) {
	if count == nil {
		return
	}
	m.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: prefix + name, Help: help}, func() float64 { return float64(count()) }))
}

func (m *Metrics) registerRows() {
	o := &m.o
	addRows(m, o.Generations, func(r Generation) []string { return []string{strconv.Itoa(r.Number)} }, column[Generation]{
		gaugeOf("generation_tunnels", "Open tunnels of each process of this service that is alive.", "generation"),
		func(r Generation) float64 { return float64(r.Tunnels) },
	})
	addRows(m, o.Up, func(r Up) []string { return []string{r.Upstream} }, column[Up]{
		gaugeOf("upstream_up", "1 if the upstream is in use, 0 if it is ejected.", "upstream"),
		func(r Up) float64 {
			if r.Up {
				return 1
			}
			return 0
		},
	})
	addRows(m, o.Verdicts, func(r Verdict) []string {
		return []string{r.Upstream, exchangeLabel(r.Exchange), kindLabel(r.Kind), r.Verdict}
	}, column[Verdict]{
		gaugeOf("upstream_verdict", "1 for the verdict that holds for the upstream and the exchange.", "upstream", "exchange", "kind", "verdict"),
		func(Verdict) float64 { return 1 },
	})
	addRows(m, o.Budgets, func(r Budget) []string {
		return []string{allLabel(r.Exchange), allLabel(r.Kind), r.Exit}
	}, column[Budget]{
		gaugeOf("budget_remaining", "Connections that the budget would admit now.", "exchange", "kind", "exit"),
		func(r Budget) float64 { return float64(r.Remaining) },
	}, column[Budget]{
		counterOf("budget_refused_total", "Connections that the budget did not admit in time.", "exchange", "kind", "exit"),
		func(r Budget) float64 { return float64(r.Refused) },
	})
	addRows(m, o.Short, func(r Short) []string {
		return []string{exchangeLabel(r.Exchange), kindLabel(r.Kind), r.Upstream}
	}, column[Short]{
		counterOf("tunnels_short_total", "Websocket tunnels that ended at once, as they do where an exchange turns an upstream away.", "exchange", "kind", "upstream"),
		func(r Short) float64 { return float64(r.Count) },
	})
}

func constant(name, help string, labels prometheus.Labels) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help, ConstLabels: labels}, func() float64 { return 1 })
}

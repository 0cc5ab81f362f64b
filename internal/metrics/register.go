package metrics

import (
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus/collectors"
)

// registerSources adds what is read from others at each scrape.
func (m *Metrics) registerSources() {
	o := &m.o
	m.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registerInfo("build_info", o.Version, o.Revision, runtime.Version(), o.Catalogue)
	m.registerInfo("process_info", strconv.Itoa(o.Generation))
	m.registerCount("log_dropped_total", o.LogDropped)
	m.registerCount("log_write_errors_total", o.LogErrors)
	if o.MaxTunnels != nil {
		addRows(m, func() []int {
			if n := o.MaxTunnels(); n > 0 {
				return []int{n}
			}
			return nil
		}, func(int) []string { return nil }, column[int]{"max_tunnels", func(n int) float64 { return float64(n) }})
	}
	addRows(m, o.FleetUsed, func(bool) []string { return nil }, column[bool]{"fleet_redis_used", oneIf})
	m.registerUpstreams()
	m.registerBudgets()
}

// registerInfo adds a metric that is always 1.
func (m *Metrics) registerInfo(name string, values ...string) {
	addRows(m, func() []int { return []int{1} }, func(int) []string { return values }, column[int]{name, func(int) float64 { return 1 }})
}

// registerCount adds a counter that another package keeps; nil leaves it out.
func (m *Metrics) registerCount(name string, count func() uint64) {
	if count != nil {
		addRows(m, func() []uint64 { return []uint64{count()} }, func(uint64) []string { return nil }, column[uint64]{name, func(n uint64) float64 { return float64(n) }})
	}
}

func (m *Metrics) registerUpstreams() {
	o := &m.o
	addRows(m, o.Up, func(r Up) []string { return []string{r.Upstream} }, column[Up]{
		"upstream_up", func(r Up) float64 { return oneIf(r.Up) },
	})
	addRows(m, o.Verdicts, func(r Verdict) []string {
		return []string{r.Upstream, exchangeLabel(r.Exchange), kindLabel(r.Kind), r.Verdict}
	}, column[Verdict]{"upstream_verdict", func(Verdict) float64 { return 1 }})
	name := func(c Certificate) []string { return []string{c.Name} }
	end := func(c Certificate) float64 { return unix(c.NotAfter) }
	addRows(m, o.Certificates, name, column[Certificate]{"upstream_certificate_expiry_timestamp_seconds", end})
	addRows(m, o.Listeners, name, column[Certificate]{"listener_certificate_expiry_timestamp_seconds", end})
	addRows(m, o.Lists, func(r List) []string { return []string{r.Name} }, column[List]{
		"list_last_success_timestamp_seconds", func(r List) float64 {
			if r.Success.IsZero() {
				return 0
			}
			return unix(r.Success)
		},
	})
	addRows(m, o.Short, func(r Short) []string {
		return []string{exchangeLabel(r.Exchange), kindLabel(r.Kind), r.Upstream}
	}, column[Short]{"tunnels_short_total", func(r Short) float64 { return float64(r.Count) }})
}

func (m *Metrics) registerBudgets() {
	o := &m.o
	addRows(m, o.Generations, func(r Generation) []string { return []string{strconv.Itoa(r.Number)} }, column[Generation]{
		"generation_tunnels", func(r Generation) float64 { return float64(r.Tunnels) },
	})
	addRows(m, o.Budgets, func(r Budget) []string {
		return []string{allLabel(r.Exchange), allLabel(r.Kind), r.Exit}
	}, column[Budget]{
		"budget_limit", func(r Budget) float64 { return float64(r.Limit) },
	}, column[Budget]{
		"budget_remaining", func(r Budget) float64 { return float64(r.Remaining) },
	}, column[Budget]{
		"budget_refused_total", func(r Budget) float64 { return float64(r.Refused) },
	})
}

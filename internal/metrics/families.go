package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

const prefix = "proxyd_"

// family is a metric without its values. docs/metrics.md lists what families and
// labels declare; `go generate .` writes it.
type family struct {
	name   string // without prefix
	kind   string // counter, gauge or histogram
	help   string
	labels []string
}

const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// families are all metrics of proxyd.
var families = []family{
	{"exchange_lost", gauge, "1 if clients want the exchange and do not get it, or if it is silent; else 0. It has a series for each configured exchange and kind from the start.", []string{"exchange", "kind"}},
	{"feed_silent", gauge, "1 if the tunnels of the feed are open and the exchange sends next to nothing, else 0.", []string{"exchange", "kind", "upstream"}},
	{"feed_last_byte_timestamp_seconds", gauge, "When the exchange last sent a byte through the upstream, in Unix time.", []string{"exchange", "kind", "upstream"}},
	{"events_total", counter, "Events of the journal that proxyd events shows, by severity and type.", []string{"severity", "type"}},

	{"connections_total", counter, "Connections of clients, by what they spoke.", []string{"protocol"}},
	{"requests_total", counter, "Requests of clients, by outcome: ok once a connection was open, else the class of the refusal.", []string{"exchange", "kind", "upstream", "outcome"}},
	{"tunnels_active", gauge, "Tunnels that are open now.", []string{"exchange", "kind", "upstream"}},
	{"max_tunnels", gauge, "The limit of open tunnels in force: max_tunnels, or what the limit of open files has room for. Missing if there is none.", nil},
	{"tunnel_bytes_total", counter, "Bytes that tunnels have carried so far, live ones included.", []string{"exchange", "kind", "upstream", "direction"}},
	{"tunnel_closed_total", counter, "Tunnels that have ended, by who ended them and why.", []string{"exchange", "kind", "upstream", "closed_by", "reason"}},
	{"tunnel_duration_seconds", histogram, "How long tunnels lasted that have ended.", []string{"exchange", "kind"}},
	{"tunnels_short_total", counter, "Websocket tunnels that ended at once, as they do where an exchange turns an upstream away.", []string{"exchange", "kind", "upstream"}},

	{"upstream_up", gauge, "1 if the upstream is in use, 0 if it is ejected.", []string{"upstream"}},
	{"upstream_verdict", gauge, "1 for the verdict that holds for the upstream and the exchange.", []string{"upstream", "exchange", "kind", "verdict"}},
	{"upstream_certificate_expiry_timestamp_seconds", gauge, "When the certificate that the upstream showed last expires, in Unix time.", []string{"upstream"}},
	{"listener_certificate_expiry_timestamp_seconds", gauge, "When the certificate of the TLS listener expires, in Unix time.", []string{"listener"}},
	{"list_last_success_timestamp_seconds", gauge, "When the list from a URL was last known to be the newest, in Unix time; 0 if it was never fetched.", []string{"list"}},
	{"dial_duration_seconds", histogram, "How long it took to open a connection through the upstream; failed attempts and queues are not in it.", []string{"upstream"}},
	{"dial_errors_total", counter, "Failed attempts to open a connection through the upstream.", []string{"upstream", "class"}},
	{"budget_limit", gauge, "Connections that the budget admits in its window or, where that is less, open at the same time; with share, this host's part.", []string{"exchange", "kind", "exit"}},
	{"budget_remaining", gauge, "Connections that the budget would admit now.", []string{"exchange", "kind", "exit"}},
	{"budget_refused_total", counter, "Connections that the budget did not admit in time.", []string{"exchange", "kind", "exit"}},

	{"fleet_redis_used", gauge, "1 if Redis decides on the shared budgets, 0 if they are down to the host's share. Missing without a fleet.", nil},
	{"fleet_calls_total", counter, "Calls of Redis, by result.", []string{"result"}},
	{"fleet_call_seconds", histogram, "How long calls of Redis took, failed ones included.", nil},

	{"config_last_reload_successful", gauge, "1 if the configuration last read is in force, 0 if it was rejected.", nil},
	{"config_last_reload_success_timestamp_seconds", gauge, "When a configuration was last applied, in Unix time.", nil},
	{"config_reloads_total", counter, "Reloads of the configuration, by what came of them.", []string{"result"}},
	{"generation_tunnels", gauge, "Open tunnels of each process of this service that is alive.", []string{"generation"}},
	{"process_info", gauge, "1; the number of the process that answers in the row of upgrades.", []string{"generation"}},
	{"build_info", gauge, "1; the build that runs, and the date of its catalogue.", []string{"version", "revision", "goversion", "catalogue"}},
	{"log_dropped_total", counter, "Log lines lost because the log was blocked or could not be written.", nil},
	{"log_write_errors_total", counter, "Writes of the log that failed, as on a full disk.", nil},
}

// label is a label of families.
type label struct{ name, values string }

// labels says what values each label has.
var labels = []label{
	{"exchange", "an exchange's id in the catalogue or the configuration; `none` for hosts of no exchange; `all` for a budget of all traffic"},
	{"kind", "`http`, `websocket`; `both` where a host serves both and the request does not tell; `unknown` where a request was refused before its kind was known; `all` for a budget of both"},
	{"upstream", "a member's name, or `direct`; empty where a request was refused before an upstream was chosen; `other` for what is beyond the limit of series (see below)"},
	{"list", "the pool that has the list; for a pool that is written in place, where it is written"},
	{"listener", "the address, as the configuration writes it"},
	{"outcome", "`ok`, `client_gone` (the client left before it was answered), or the [class](operations.md#answers-and-what-to-do) of the refusal"},
	{"class", "the [class](operations.md#answers-and-what-to-do) of the failure"},
	{"protocol", "what the client spoke: `connect`, `http`, `socks4`, `socks5`; `tls` (refused: proxyd does not speak it there), `unknown`, `other`"},
	{"direction", "`up` is from the client, `down` from the exchange"},
	{"closed_by", "who ended the tunnel: `client`, `exchange`, `upstream` (the proxy server itself, or the path to it, died), `proxyd`"},
	{"reason", "why a tunnel ended; see [Reasons](#reasons)"},
	{"severity", "`info`, `warn`, `error` (an operator must act)"},
	{"type", "what happened; see [Events](#events)"},
	{"verdict", "an upstream's health for one exchange and kind: `ok`, `geoblocked`, `rate_limited`, `blocked`, or the [class](operations.md#answers-and-what-to-do) of what fails, such as `upstream_auth`"},
	{"exit", "the address, or the name for it, that the budget is counted for"},
	{"result", "of a reload `start`, `applied`, `refused`; of a call of Redis `ok`, `failed`"},
	{"generation", "1 for the first process, and one more after each upgrade"},
	{"version", "of the build"},
	{"revision", "the commit that was built"},
	{"goversion", "the version of Go that built it"},
	{"catalogue", "the date of the embedded list of exchanges"},
}

// declared returns the family of a name. It panics if there is none.
func declared(name string) family {
	i := slices.IndexFunc(families, func(f family) bool { return f.name == name })
	if i < 0 {
		panic("metrics: " + name + " is not declared")
	}
	return families[i]
}

// desc returns the family as the client library wants it.
func (f family) desc() *prometheus.Desc {
	return prometheus.NewDesc(prefix+f.name, f.help, f.labels, nil)
}

func counterVec(name string) *prometheus.CounterVec {
	f := declared(name)
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + f.name, Help: f.help}, f.labels)
}

func gaugeVec(name string) *prometheus.GaugeVec {
	f := declared(name)
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + f.name, Help: f.help}, f.labels)
}

func histogramVec(name string, steps []float64) *prometheus.HistogramVec {
	f := declared(name)
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + f.name, Help: f.help, Buckets: steps}, f.labels)
}

func singleGauge(name string) prometheus.Gauge {
	f := declared(name)
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + f.name, Help: f.help})
}

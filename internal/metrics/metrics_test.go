package metrics

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"proxyd/internal/catalog"
	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/feed"
	"proxyd/internal/tunnel"
)

// full has every source.
func full() Options {
	return Options{
		Version: "1.2.3", Revision: "abcdef", Catalogue: "2026-11-01", Generation: 2,
		Tunnels:   func(func(id string, up, down int64)) {},
		Upstreams: func() []string { return []string{"direct", "tokyo-1"} },
		Exchanges: func() []string { return []string{"binance", "kraken"} },
		Feeds: func() feed.Report {
			return feed.Report{
				Exchanges: []feed.Exchange{
					{Exchange: "binance", Kind: "websocket", State: feed.Lost}, {Exchange: "okx", Kind: "websocket", State: feed.Silent},
					{Exchange: "kraken", Kind: "http", State: feed.NoTraffic}, {Exchange: "", Kind: "http", State: feed.OK},
				},
				Feeds: []feed.Feed{
					{Exchange: "okx", Kind: "websocket", Upstream: "tokyo-1", Silence: &feed.Silence{}, Counts: feed.Counts{LastByte: time.UnixMilli(1700000000250)}},
					{Exchange: "", Kind: "http", Upstream: "direct"},
				},
			}
		},
		MaxTunnels:   func() int { return 5000 },
		Generations:  func() []Generation { return []Generation{{1, 7}, {2, 0}} },
		Up:           func() []Up { return []Up{{"tokyo-1", true}, {"tokyo-2", false}} },
		Verdicts:     func() []Verdict { return []Verdict{{"tokyo-1", "binance", "http", "geoblocked"}} },
		Certificates: func() []Certificate { return []Certificate{{"tokyo-2", time.Unix(1800000000, 0)}} },
		Listeners:    func() []Certificate { return []Certificate{{"0.0.0.0:8443", time.Unix(1900000000, 0)}} },
		Budgets: func() []Budget {
			return []Budget{{"binance", "websocket", "tokyo-ip", 300, 12, 3}, {"", "", "tokyo-1", 600, 500, 0}}
		},
		FleetUsed:  func() []bool { return []bool{true} },
		Lists:      func() []List { return []List{{"asia", time.Unix(1700000000, 0)}, {"eu", time.Time{}}} },
		Short:      func() []Short { return []Short{{"binance", "websocket", "tokyo-1", 4}} },
		LogDropped: func() uint64 { return 9 },
		LogErrors:  func() uint64 { return 3 },
	}
}

func opening(id, exchange string, kind catalog.Kind, upstreamName string) tunnel.Opening {
	return tunnel.Opening{ID: id, Exchange: exchange, Kind: kind, Upstream: upstreamName, Host: "api.example", Port: 443, Protocol: "connect"}
}

// scrape gives the samples of proxyd as text, sorted, without comments.
func scrape(t testing.TB, m *Metrics) []string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	var lines []string
	for _, line := range strings.Split(w.Body.String(), "\n") {
		if strings.HasPrefix(line, prefix) {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// with are the samples whose metric's name is one of names.
func with(lines []string, names ...string) (out []string) {
	for _, line := range lines {
		name, _, _ := strings.Cut(line, "{")
		name, _, _ = strings.Cut(name, " ")
		if slices.Contains(names, name) {
			out = append(out, line)
		}
	}
	return out
}

// What each record adds, to the last one.
func TestObserve(t *testing.T) {
	t.Parallel()
	m := New(full())
	feed := opening("a-1", "binance", catalog.KindWebsocket, "tokyo-1")
	feed.Dial, feed.Queued = 560*time.Millisecond, 50*time.Millisecond
	feed.Attempts = []failure.Attempt{{Upstream: "tokyo-2", Class: failure.UpstreamRefused, Took: 490 * time.Millisecond}}
	rest := opening("a-2", "", catalog.KindHTTP, "direct")
	gone := opening("a-3", "kraken", catalog.KindHTTP, "tokyo-1")
	answered := opening("a-4", "kraken", catalog.KindHTTP, "tokyo-1")
	for _, r := range []tunnel.Record{
		{Event: tunnel.Opened, Opening: feed},
		{Event: tunnel.Opened, Opening: rest},
		{Event: tunnel.Ended, Opening: rest, Duration: 2 * time.Second, Up: 100, Down: 2000, ClosedBy: "client", Reason: "eof"},
		{Event: tunnel.Ended, Opening: gone, ClosedBy: "client", Reason: tunnel.ReasonAbandoned},
		{Event: tunnel.Ended, Opening: answered, ClosedBy: "exchange", Reason: "eof", Down: 55},
		{Event: tunnel.Served, Opening: rest, Duration: time.Second, Up: 1, Down: 2},
		{Event: tunnel.Refused, Class: failure.BadRequest},
		{Event: tunnel.Refused, Class: failure.Denied, Opening: opening("a-5", "", catalog.KindHTTP, ""), Quiet: true},
		{Event: tunnel.Refused, Class: failure.UpstreamTimeout, Opening: tunnel.Opening{
			Exchange: "binance", Kind: catalog.KindWebsocket, Upstream: "tokyo-1", Attempts: []failure.Attempt{
				{Upstream: "tokyo-2", Class: failure.UpstreamRefused}, {Upstream: "tokyo-1", Class: failure.UpstreamTimeout},
			},
		}},
	} {
		m.Observe(&r)
	}
	m.Connection("connect")
	m.Connection("socks5")
	m.Connection("socks5")
	m.Connection("gopher://from.a.client")
	m.o.Upstreams = nil // nothing is forgotten
	want := []string{
		`proxyd_connections_total{protocol="connect"} 1`,
		`proxyd_connections_total{protocol="other"} 1`,
		`proxyd_connections_total{protocol="socks5"} 2`,
		`proxyd_dial_duration_seconds_bucket{upstream="tokyo-1",le="0.01"} 2`,
		`proxyd_dial_duration_seconds_bucket{upstream="tokyo-1",le="0.025"} 3`,
		`proxyd_dial_duration_seconds_count{upstream="direct"} 1`,
		`proxyd_dial_duration_seconds_count{upstream="tokyo-1"} 3`,
		`proxyd_dial_duration_seconds_sum{upstream="tokyo-1"} 0.02`,
		`proxyd_dial_errors_total{class="upstream_refused",upstream="tokyo-2"} 2`,
		`proxyd_dial_errors_total{class="upstream_timeout",upstream="tokyo-1"} 1`,
		`proxyd_requests_total{exchange="binance",kind="websocket",outcome="ok",upstream="tokyo-1"} 1`,
		`proxyd_requests_total{exchange="binance",kind="websocket",outcome="upstream_timeout",upstream="tokyo-1"} 1`,
		`proxyd_requests_total{exchange="kraken",kind="http",outcome="client_gone",upstream="tokyo-1"} 1`,
		`proxyd_requests_total{exchange="kraken",kind="http",outcome="ok",upstream="tokyo-1"} 1`,
		`proxyd_requests_total{exchange="none",kind="http",outcome="denied",upstream=""} 1`,
		`proxyd_requests_total{exchange="none",kind="http",outcome="ok",upstream="direct"} 2`,
		`proxyd_requests_total{exchange="none",kind="unknown",outcome="bad_request",upstream=""} 1`,
		`proxyd_tunnel_bytes_total{direction="down",exchange="kraken",kind="http",upstream="tokyo-1"} 55`,
		`proxyd_tunnel_bytes_total{direction="down",exchange="none",kind="http",upstream="direct"} 2000`,
		`proxyd_tunnel_bytes_total{direction="up",exchange="none",kind="http",upstream="direct"} 100`,
		`proxyd_tunnel_closed_total{closed_by="client",exchange="kraken",kind="http",reason="client_gone",upstream="tokyo-1"} 1`,
		`proxyd_tunnel_closed_total{closed_by="client",exchange="none",kind="http",reason="eof",upstream="direct"} 1`,
		`proxyd_tunnel_closed_total{closed_by="exchange",exchange="kraken",kind="http",reason="eof",upstream="tokyo-1"} 1`,
		`proxyd_tunnel_duration_seconds_bucket{exchange="none",kind="http",le="1"} 0`,
		`proxyd_tunnel_duration_seconds_bucket{exchange="none",kind="http",le="5"} 1`,
		`proxyd_tunnel_duration_seconds_sum{exchange="none",kind="http"} 2`,
		`proxyd_tunnels_active{exchange="binance",kind="websocket",upstream="tokyo-1"} 1`,
		`proxyd_tunnels_active{exchange="kraken",kind="http",upstream="tokyo-1"} 0`,
		`proxyd_tunnels_active{exchange="none",kind="http",upstream="direct"} 0`,
	}
	names := []string{"proxyd_dial_errors_total", "proxyd_requests_total", "proxyd_tunnels_active", "proxyd_tunnel_closed_total"}
	got := scrape(t, m)
	var have []string
	for _, line := range got {
		if slices.Contains(want, line) || slices.Contains(names, line[:strings.IndexAny(line, "{ ")]) {
			have = append(have, line)
		}
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Every name that the documents promise, and a linter's opinion of all.
func TestMetricNamesAreAsDocumented(t *testing.T) {
	t.Parallel()
	m := New(full())
	m.Connection("connect")
	m.Reloaded("applied", true, time.Unix(1700000000, 0))
	o := opening("a", "binance", catalog.KindHTTP, "tokyo-1")
	o.Attempts = []failure.Attempt{{Upstream: "direct", Class: failure.Local}}
	m.Observe(&tunnel.Record{Event: tunnel.Opened, Opening: o})
	m.Observe(&tunnel.Record{Event: tunnel.Ended, Opening: o, ClosedBy: "client", Reason: "eof"})
	m.Event(event.Error, event.ExchangeLost)
	got := strings.Join(scrape(t, m), "\n") + "\n"
	for _, want := range []string{
		"build_info{catalogue=\"2026-11-01\",goversion=", "process_info{generation=\"2\"} 1\n", "generation_tunnels{generation=\"1\"} 7\n",
		"config_last_reload_successful 1\n", "config_last_reload_success_timestamp_seconds 1.7e+09\n", "config_reloads_total{result=\"applied\"} 1\n",
		"connections_total{protocol=", "requests_total{exchange=\"binance\",kind=\"http\",outcome=\"ok\",upstream=\"tokyo-1\"} 1\n",
		"tunnels_active{exchange=\"binance\",kind=\"http\",upstream=\"tokyo-1\"} 0\n", "tunnel_bytes_total{direction=\"up\",exchange=\"binance\",kind=\"http\",upstream=\"tokyo-1\"} 0\n",
		"tunnel_duration_seconds_count{exchange=\"binance\",kind=\"http\"} 1\n", "tunnel_closed_total{closed_by=\"client\",exchange=\"binance\",kind=\"http\",reason=\"eof\",upstream=\"tokyo-1\"} 1\n",
		"dial_duration_seconds_count{upstream=\"tokyo-1\"} 1\n", "dial_errors_total{class=\"local\",upstream=\"direct\"} 1\n",
		"upstream_up{upstream=\"tokyo-1\"} 1\n", "upstream_up{upstream=\"tokyo-2\"} 0\n",
		"upstream_verdict{exchange=\"binance\",kind=\"http\",upstream=\"tokyo-1\",verdict=\"geoblocked\"} 1\n",
		"budget_limit{exchange=\"all\",exit=\"tokyo-1\",kind=\"all\"} 600\n",
		"budget_remaining{exchange=\"binance\",exit=\"tokyo-ip\",kind=\"websocket\"} 12\n", "budget_remaining{exchange=\"all\",exit=\"tokyo-1\",kind=\"all\"} 500\n",
		"budget_refused_total{exchange=\"binance\",exit=\"tokyo-ip\",kind=\"websocket\"} 3\n",
		"tunnels_short_total{exchange=\"binance\",kind=\"websocket\",upstream=\"tokyo-1\"} 4\n", "list_last_success_timestamp_seconds{list=\"asia\"} 1.7e+09\n", "list_last_success_timestamp_seconds{list=\"eu\"} 0\n", "log_dropped_total 9\n", "log_write_errors_total 3\n",
		"exchange_lost{exchange=\"binance\",kind=\"websocket\"} 1\n", "exchange_lost{exchange=\"okx\",kind=\"websocket\"} 1\n",
		"exchange_lost{exchange=\"kraken\",kind=\"http\"} 0\n", "exchange_lost{exchange=\"none\",kind=\"http\"} 0\n",
		"feed_silent{exchange=\"okx\",kind=\"websocket\",upstream=\"tokyo-1\"} 1\n", "feed_silent{exchange=\"none\",kind=\"http\",upstream=\"direct\"} 0\n",
		"feed_last_byte_timestamp_seconds{exchange=\"okx\",kind=\"websocket\",upstream=\"tokyo-1\"} 1.70000000025e+09\n",
		"events_total{severity=\"error\",type=\"exchange_lost\"} 1\n", "events_total{severity=\"info\",type=\"start\"} 0\n", "max_tunnels 5000\n",
		"listener_certificate_expiry_timestamp_seconds{listener=\"0.0.0.0:8443\"} 1.9e+09\n",
		"upstream_certificate_expiry_timestamp_seconds{upstream=\"tokyo-2\"} 1.8e+09\n",
	} {
		if !strings.Contains("\n"+got, "\n"+prefix+want) {
			t.Errorf("%s%s is not there", prefix, want)
		}
	}
	problems, err := testutil.GatherAndLint(m.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("the linter says %v, %v", problems, err)
	}
}

// A source that is not set shows nothing, rather than zeros.
func TestMissingSourceHasNoSeries(t *testing.T) {
	t.Parallel()
	lines := scrape(t, New(Options{}))
	for _, name := range []string{"generation_tunnels", "upstream_up", "upstream_verdict", "budget_remaining", "budget_refused_total", "tunnels_short_total", "max_tunnels", "exchange_lost", "feed_silent", "log_dropped_total", "log_write_errors_total"} {
		if got := with(lines, prefix+name); got != nil {
			t.Errorf("got %v", got)
		}
	}
}

// Two rows with the same labels must not spoil the scrape.
func TestDuplicateRowsDoNotBreakTheScrape(t *testing.T) {
	t.Parallel()
	lines := scrape(t, New(Options{Up: func() []Up { return []Up{{"a", true}, {"a", false}, {"b", true}} }}))
	want := []string{`proxyd_upstream_up{upstream="a"} 1`, `proxyd_upstream_up{upstream="b"} 1`}
	if diff := cmp.Diff(want, with(lines, "proxyd_upstream_up")); diff != "" {
		t.Error(diff)
	}
}

// A rejected file leaves the time of the last good one.
func TestRejectedReloadKeepsTheTimeOfTheLastGoodOne(t *testing.T) {
	t.Parallel()
	m := New(Options{})
	m.Reloaded("applied", true, time.Unix(1000, 0))
	m.Reloaded("rejected", false, time.Unix(2000, 0))
	m.Reloaded("rejected", false, time.Unix(3000, 0))
	got := with(scrape(t, m), "proxyd_config_last_reload_successful", "proxyd_config_last_reload_success_timestamp_seconds", "proxyd_config_reloads_total")
	want := []string{
		"proxyd_config_last_reload_success_timestamp_seconds 1000", "proxyd_config_last_reload_successful 0",
		`proxyd_config_reloads_total{result="applied"} 1`, `proxyd_config_reloads_total{result="rejected"} 2`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// No client can make a series, whatever it writes.
//
// Promise (security): the values of the metrics' labels come from the configuration and the catalogue, never from a client.
func TestClientsCannotCreateSeries(t *testing.T) {
	t.Parallel()
	m := New(full())
	count := func(from, to int) int {
		for i := from; i < to; i++ {
			o := opening(fmt.Sprint("id-", i), "", catalog.KindHTTP, "direct")
			o.Host, o.Label, o.Port = fmt.Sprintf("h%d.evil.example", i), fmt.Sprintf("user-%d\n{}\"", i), uint16(i) //nolint:gosec // any will do
			o.Rule = fmt.Sprint("rule ", i)
			m.Connection(o.Host)
			m.Observe(&tunnel.Record{Event: tunnel.Opened, Opening: o})
			m.Observe(&tunnel.Record{Event: tunnel.Ended, Opening: o, Reason: "reset", Text: o.Host})
			m.Observe(&tunnel.Record{Event: tunnel.Refused, Opening: o, Class: failure.BadRequest, Text: o.Host})
			m.Observe(&tunnel.Record{Event: tunnel.Served, Opening: o})
		}
		return len(scrape(t, m))
	}
	few, many := count(0, 1), count(1, 5000)
	if few != many {
		t.Errorf("%d series after one client, %d after 5000", few, many)
	}
	if text := strings.Join(scrape(t, m), "\n"); strings.Contains(text, "evil") || strings.Contains(text, "user-") {
		t.Error("the metrics repeat a client's words")
	}
	if len(m.open) != 0 {
		t.Errorf("%d tunnels are kept in mind after their end", len(m.open))
	}
}

// A scraper gets the format that it asks for.
func TestScrapeFormatFollowsAcceptHeader(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(New(full()).Handler())
	defer s.Close()
	for accept, want := range map[string]string{
		"": "text/plain; version=0.0.4", "application/openmetrics-text;version=1.0.0": "application/openmetrics-text; version=1.0.0",
	} {
		req, err := http.NewRequest(http.MethodGet, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, want) {
			t.Errorf("asked for %q, got %q", accept, got)
		}
		if accept != "" && !strings.HasSuffix(string(body), "# EOF\n") {
			t.Errorf("no end mark: %q", body[max(0, len(body)-40):])
		}
	}
}

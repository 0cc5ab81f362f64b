package metrics

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/feed"
	"proxyd/internal/tunnel"
)

func (m *Metrics) served(exchange, upstream string, class failure.Class) {
	m.Observe(&tunnel.Record{Event: tunnel.Served, Opening: opening("", exchange, catalog.KindHTTP, upstream), Class: class})
}

// total returns the sum of a metric's samples that contain all parts, and their number.
func total(t testing.TB, lines []string, name string, parts ...string) (sum float64, n int) {
	t.Helper()
next:
	for _, line := range with(lines, name) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
		n++
	}
	return sum, n
}

// However many upstreams an exchange is asked through, maxFeeds of them have
// series of their own. What others carry is not lost.
func TestFeedsBeyondTheLimitShareSeries(t *testing.T) {
	t.Parallel()
	const many = maxFeeds + 500
	report := feed.Report{}
	m := New(Options{Feeds: func() feed.Report { return report }})
	for i := range many {
		o := opening(fmt.Sprint(i), "binance", catalog.KindWebsocket, fmt.Sprint("u-", i))
		m.Observe(&tunnel.Record{Event: tunnel.Opened, Opening: o})
		m.progress(o.ID, 10, 20)
		if i%2 == 0 {
			m.Observe(&tunnel.Record{Event: tunnel.Ended, Opening: o, ClosedBy: "client", Reason: "eof", Up: 15, Down: 20})
		}
		row := feed.Feed{Exchange: "binance", Kind: "websocket", Upstream: o.Upstream, Counts: feed.Counts{LastByte: time.Unix(int64(1000+i), 0)}}
		if i == many-7 {
			row.Silence = &feed.Silence{}
		}
		report.Feeds = append(report.Feeds, row)
	}
	lines := scrape(t, m)
	for _, want := range []struct {
		name, part string
		sum        float64
		series     int
	}{
		{"proxyd_requests_total", "", many, maxFeeds + 1},
		{"proxyd_requests_total", `upstream="other"`, 500, 1},
		{"proxyd_tunnels_active", "", many / 2, maxFeeds + 1},
		{"proxyd_tunnels_active", `upstream="other"`, 250, 1},
		{"proxyd_tunnel_bytes_total", `direction="up"`, 12.5 * many, maxFeeds + 1},
		{"proxyd_tunnel_closed_total", "", many / 2, maxFeeds/2 + 1},
		{"proxyd_dial_duration_seconds_count", "", many, maxFeeds + 1},
		{"proxyd_dial_duration_seconds_count", `upstream="other"`, 500, 1},
		{"proxyd_feed_silent", "", 1, maxFeeds + 1},
		{"proxyd_feed_silent", `upstream="other"`, 1, 1},
		{"proxyd_feed_last_byte_timestamp_seconds", `upstream="other"`, 1000 + many - 1, 1},
	} {
		if sum, n := total(t, lines, want.name, want.part); sum != want.sum || n != want.series {
			t.Errorf("%s{%s}: %v in %d series, want %v in %d", want.name, want.part, sum, n, want.sum, want.series)
		}
	}
}

// Without traffic and without a tunnel for an hour, a feed has no series; when it
// comes back, its totals go on from where they were.
func TestSeriesAreHiddenAfterAnHourWithoutTraffic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := New(Options{})
		requests := func() []string { return with(scrape(t, m), "proxyd_requests_total") }
		m.served("binance", "tokyo-1", "")
		m.Observe(&tunnel.Record{Event: tunnel.Opened, Opening: opening("1", "okx", catalog.KindWebsocket, "tokyo-1")})
		open := `proxyd_requests_total{exchange="okx",kind="websocket",outcome="ok",upstream="tokyo-1"} 1`
		row := func(n int) string {
			return fmt.Sprintf(`proxyd_requests_total{exchange="binance",kind="http",outcome="ok",upstream="tokyo-1"} %d`, n)
		}
		check := func(when string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, requests()); diff != "" {
				t.Errorf("%s\n%s", when, diff)
			}
		}
		check("at once", row(1), open)
		time.Sleep(shownFor - time.Second)
		check("within an hour", row(1), open)
		time.Sleep(time.Second)
		check("after an hour", open)
		if lines := with(scrape(t, m), "proxyd_dial_duration_seconds_count"); len(lines) != 1 {
			t.Errorf("an upstream with an open tunnel: %v", lines)
		}
		m.served("binance", "tokyo-1", "")
		check("again", row(2), open)
		m.Observe(&tunnel.Record{Event: tunnel.Ended, Opening: opening("1", "okx", catalog.KindWebsocket, "tokyo-1")})
		check("at its end", row(2), open)
		time.Sleep(shownFor - time.Second)
		check("an hour after the end", row(2), open)
		time.Sleep(time.Second)
		lines := with(scrape(t, m), "proxyd_requests_total", "proxyd_tunnel_bytes_total", "proxyd_tunnels_active", "proxyd_tunnel_closed_total",
			"proxyd_tunnel_duration_seconds_count", "proxyd_dial_duration_seconds_count")
		if len(lines) > 0 {
			t.Errorf("all is quiet, and there are series: %q", lines)
		}
	})
}

// New feeds take the room of those that were not used for an hour.
func TestHiddenFeedsMakeRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := New(Options{})
		for i := range maxFeeds {
			m.served("binance", fmt.Sprint("old-", i), "")
		}
		m.served("binance", "new", "")
		if sum, _ := total(t, scrape(t, m), "proxyd_requests_total", `upstream="other"`); sum != 1 {
			t.Errorf("beyond the limit: %v requests under other", sum)
		}
		time.Sleep(shownFor)
		scrape(t, m)
		m.served("binance", "new", "")
		lines := with(scrape(t, m), "proxyd_requests_total")
		if want := []string{`proxyd_requests_total{exchange="binance",kind="http",outcome="ok",upstream="new"} 1`}; cmp.Diff(want, lines) != "" {
			t.Errorf("%v, want %v", lines, want)
		}
	})
}

// Series of an exchange that the configuration no longer has go away with its last tunnel.
func TestSeriesOfRemovedExchangeAreDeleted(t *testing.T) {
	t.Parallel()
	known := []string{"binance", "mine"}
	m := New(Options{Exchanges: func() []string { return known }})
	for _, exchange := range []string{"binance", "mine", ""} {
		m.served(exchange, "tokyo-1", "")
	}
	o := opening("1", "mine", catalog.KindWebsocket, "tokyo-1")
	m.Observe(&tunnel.Record{Event: tunnel.Opened, Opening: o})
	known = known[:1]
	if sum, n := total(t, scrape(t, m), "proxyd_requests_total"); sum != 3 || n != 3 { // its http feed has no tunnel
		t.Errorf("with an open tunnel: %v requests in %d series", sum, n)
	}
	m.Observe(&tunnel.Record{Event: tunnel.Ended, Opening: o})
	if lines := scrape(t, m); strings.Contains(strings.Join(lines, "\n"), `"mine"`) {
		t.Error("there are series after its last tunnel")
	}
}

// A scrape that stands still, as behind a slow reader, holds up no record, also
// of a feed, an outcome and an upstream that are new.
//
// Promise (data path): a scrape of the metrics delays no tunnel, however slow its reader is.
func TestRecordsDoNotWaitForAScrape(t *testing.T) {
	t.Parallel()
	m := New(Options{})
	for i := range 50 {
		m.served("binance", fmt.Sprint("u-", i), "")
		m.Observe(&tunnel.Record{Event: tunnel.Opened, Opening: opening(fmt.Sprint(i), "binance", catalog.KindWebsocket, "u")})
	}
	metrics, done := make(chan prometheus.Metric), make(chan struct{})
	go func() { // ends when all metrics are received
		newSeriesCollector(m).Collect(metrics)
		close(metrics)
	}()
	<-metrics // it is in the middle
	go func() {
		m.served("kraken", "new", failure.UpstreamTimeout)
		o := opening("x", "kraken", catalog.KindWebsocket, "new")
		o.Attempts = []failure.Attempt{{Upstream: "newer", Class: failure.UpstreamRefused}}
		m.Observe(&tunnel.Record{Event: tunnel.Opened, Opening: o})
		m.Observe(&tunnel.Record{Event: tunnel.Ended, Opening: o, ClosedBy: "upstream", Reason: "reset"})
		m.forget(time.Now())
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("a record waits for the scrape")
	}
	for range metrics { // let it end
	}
	<-done
}

// What one scrape costs, and how much of it is the copy that takes the lock that
// records need, in steps.
func BenchmarkScrape(b *testing.B) {
	for _, feeds := range []int{50, maxFeeds} {
		b.Run(fmt.Sprintf("10000 tunnels, %d feeds", feeds), func(b *testing.B) {
			g := &registry{live: map[string]*atomic.Int64{}}
			report := feed.Report{}
			m := New(Options{Tunnels: g.each, Feeds: func() feed.Report { return report }})
			for i := range 10000 {
				o := opening(fmt.Sprint(i), "binance", catalog.KindWebsocket, fmt.Sprint("u-", i%feeds))
				g.live[o.ID] = &atomic.Int64{}
				m.Observe(&tunnel.Record{Event: tunnel.Opened, Opening: o})
				if i < feeds {
					report.Feeds = append(report.Feeds, feed.Feed{Exchange: "binance", Kind: "websocket", Upstream: o.Upstream, Counts: feed.Counts{LastByte: time.Now()}})
				}
			}
			h, r := m.Handler(), httptest.NewRequest(http.MethodGet, "/metrics", nil)
			var copying time.Duration
			for b.Loop() {
				h.ServeHTTP(httptest.NewRecorder(), r)
				begin := time.Now()
				m.visible()
				copying += time.Since(begin)
			}
			b.ReportMetric(float64(copying.Microseconds())/float64(b.N), "µs-copy/op")
		})
	}
}

// traffic is a random life of tunnels and refusals, and what must have been counted.
type traffic struct {
	m                 *Metrics
	live              *registry
	open              []tunnel.Opening
	requests, carried float64
}

func (w *traffic) opens(o tunnel.Opening) {
	w.live.live[o.ID] = &atomic.Int64{}
	w.m.Observe(&tunnel.Record{Event: tunnel.Opened, Opening: o})
	w.open = append(w.open, o)
	w.requests++
}

func (w *traffic) refuses(o tunnel.Opening) {
	w.m.Observe(&tunnel.Record{Event: tunnel.Refused, Opening: o, Class: failure.UpstreamTimeout})
	w.requests++
}

func (w *traffic) carries(bytes int64) {
	for _, n := range w.live.live {
		n.Add(bytes)
		w.carried += float64(bytes)
	}
}

// ends ends the oldest tunnels.
func (w *traffic) ends(n int) {
	for _, o := range w.open[:min(n, len(w.open))] {
		up := w.live.live[o.ID].Load()
		w.m.Observe(&tunnel.Record{Event: tunnel.Ended, Opening: o, ClosedBy: "exchange", Reason: "eof", Up: up, Down: 2 * up})
		delete(w.live.live, o.ID)
	}
	w.open = w.open[min(n, len(w.open)):]
}

// totals is what scrapes have shown.
type totals struct {
	last   map[string]float64
	shown  int
	hidden bool // at some time fewer series were shown than before
}

func (s *totals) scrape(t *testing.T, m *Metrics) {
	t.Helper()
	lines := with(scrape(t, m), "proxyd_requests_total", "proxyd_tunnel_bytes_total", "proxyd_tunnel_closed_total", "proxyd_tunnel_duration_seconds_count")
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "} ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		if v < s.last[name] {
			t.Fatalf("%s fell from %v", line, s.last[name])
		}
		s.last[name] = v
	}
	s.hidden = s.hidden || len(lines) < s.shown
	s.shown = len(lines)
}

// Whatever opens, carries, ends and is refused, and however long nothing happens in
// between, no series ever shows less than before, and in the end each byte and
// request is there once.
//
// Promise (feeds): no counter of the metrics falls while the process lives, and each request and byte is counted once.
func TestTotalsNeverFall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in each run
		g := &registry{live: map[string]*atomic.Int64{}}
		m := New(Options{Tunnels: g.each, Upstreams: func() []string { return []string{"u-0", "u-1", "u-2", "u-3"} }})
		w, seen := &traffic{m: m, live: g}, &totals{last: map[string]float64{}}
		for i := range 4000 {
			o := opening(fmt.Sprint(i), []string{"binance", "okx"}[random.IntN(2)], catalog.Kinds[random.IntN(2)], fmt.Sprint("u-", random.IntN(4)))
			switch random.IntN(8) {
			case 0, 1:
				w.opens(o)
			case 2:
				w.refuses(o)
			case 3:
				w.carries(10)
			case 4, 5:
				w.ends(1)
			case 6:
				time.Sleep(time.Duration(random.Int64N(int64(20 * time.Minute))))
			case 7:
				seen.scrape(t, m)
			}
			if i%1000 == 999 { // all is closed, and quiet for hours
				w.ends(len(w.open))
				seen.scrape(t, m)
				time.Sleep(3 * time.Hour)
				seen.scrape(t, m)
			}
		}
		if !seen.hidden {
			t.Error("nothing was ever hidden")
		}
		for i := range 16 { // all come back
			w.refuses(opening("", []string{"binance", "okx"}[i&1], catalog.Kinds[i>>1&1], fmt.Sprint("u-", i>>2)))
		}
		seen.scrape(t, m)
		lines := scrape(t, m)
		if sum, _ := total(t, lines, "proxyd_requests_total"); sum != w.requests {
			t.Errorf("%v requests, want %v", sum, w.requests)
		}
		if sum, _ := total(t, lines, "proxyd_tunnel_bytes_total", `direction="up"`); sum != w.carried {
			t.Errorf("%v bytes, want %v", sum, w.carried)
		}
	})
}

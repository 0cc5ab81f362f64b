package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"proxyd/internal/feed"
)

// lostRow is the row of an exchange that has lost its websocket feed.
func lostRow(exchange string, lost int, cause string) feed.Exchange {
	return feed.Exchange{
		Exchange: exchange, Kind: "websocket", Configured: true, State: feed.Lost, Lost: lost, Cause: cause,
		Since: time.Date(2026, 1, 2, 10, 17, 56, 0, time.Local),
		Text:  fmt.Sprintf("0 tunnels (%d until 10:17:56), %d refused in 1 min: %s", lost, 6*lost, cause),
	}
}

// retryingRow is one whose tunnels are open again.
func retryingRow(exchange string, tunnels int) feed.Exchange {
	e := lostRow(exchange, 0, denied)
	e.Retrying, e.Tunnels, e.Opened = true, tunnels, tunnels
	return e
}

const denied = "upstream_denied by tokyo-1, tokyo-2"

// long is a cause that line 1 does not cut.
var long = "upstream_refused by " + strings.Repeat("a-long-name, ", 10) + "b"

// Promise (feeds): line 1 names every exchange and kind that is lost, the worst first, and at 160 columns how many more there are; the words of the first one are never cut, and not said twice.
func TestLineOfLostExchanges(t *testing.T) {
	t.Parallel()
	many := func(n int, cause func(i int) string) (rows []feed.Exchange) {
		for i := range n {
			rows = append(rows, lostRow(fmt.Sprintf("exchange_%02d", i), 40, cause(i)))
		}
		return rows
	}
	for name, c := range map[string]struct {
		rows []feed.Exchange
		want []string
	}{
		"none": {[]feed.Exchange{{Exchange: "okx", Kind: "http", State: feed.Idle, Text: "idle since 17:02:00"}}, nil},
		"one":  {[]feed.Exchange{lostRow("binance_futures", 40, denied)}, []string{"BAD: binance_futures websocket: 0 tunnels (40 until 10:17:56), 240 refused in 1 min: upstream_denied by tokyo-1, tokyo-2"}},
		"one cause for three": {
			[]feed.Exchange{lostRow("binance", 40, denied), lostRow("okx", 9, denied), lostRow("bybit", 1, denied)},
			[]string{"BAD: binance websocket, okx websocket, bybit websocket: 0 tunnels, 50 lost, since 10:17:56: upstream_denied by tokyo-1, tokyo-2"},
		},
		"one cause for two that retry": {
			[]feed.Exchange{retryingRow("binance", 3), retryingRow("okx", 2)},
			[]string{"BAD: binance websocket, okx websocket: 5 tunnels, ok when a new one has lasted 5 s; before, lost since 10:17:56: " + denied},
		},
		"two causes": {
			[]feed.Exchange{lostRow("binance", 40, denied), lostRow("okx", 9, "overload")},
			[]string{"BAD: binance websocket: 0 tunnels (40 until 10:17:56), 240 refused in 1 min: upstream_denied by tokyo-1, tokyo-2; bad too: okx websocket",
				"BAD: okx websocket: 0 tunnels (9 until 10:17:56), 54 refused in 1 min: overload"},
		},
		"two causes, both short": {
			[]feed.Exchange{lostRow("okx", 40, "overload"), lostRow("bybit", 9, denied), {Exchange: "okx", Kind: "http", State: feed.Lost, Cause: "a is drained", Text: "0 tunnels"}},
			[]string{"BAD: okx websocket: 0 tunnels (40 until 10:17:56), 240 refused in 1 min: overload; bad too: bybit websocket, okx http (unused)",
				"BAD: bybit websocket: 0 tunnels (9 until 10:17:56), 54 refused in 1 min: upstream_denied by tokyo-1, tokyo-2", "BAD: okx http (unused): 0 tunnels"},
		},
		"a silence behind a loss": {
			[]feed.Exchange{lostRow("okx", 40, "overload"), {Exchange: "bybit", Kind: "websocket", State: feed.Silent, Silent: 3, Cause: "a", Since: time.Date(2026, 11, 30, 10, 17, 56, 0, time.Local), Text: "3 of 3 tunnels through paris-1 (fewer than 200 bytes in 12 s); a", Counts: feed.Counts{Tunnels: 3}}},
			[]string{"BAD: okx websocket: 0 tunnels (40 until 10:17:56), 240 refused in 1 min: overload; bad too: bybit websocket",
				"BAD: bybit websocket: silent since 2026-11-30 10:17:56: 3 of 3 tunnels through paris-1 (fewer than 200 bytes in 12 s); a"},
		},
		"one with a long cause": {[]feed.Exchange{lostRow("okx", 40, long)}, []string{"BAD: okx websocket: 0 tunnels (40 until 10:17:56), 240 refused in 1 min: " + long}},
		"the first of two is long": {
			[]feed.Exchange{lostRow("okx", 40, long), lostRow("bybit", 9, "overload")},
			[]string{"BAD: okx websocket: 0 tunnels (40 until 10:17:56), 240 refused in 1 min: " + long + " (+1 more)", "BAD: bybit websocket: 0 tunnels (9 until 10:17:56), 54 refused in 1 min: overload"},
		},
		"forty with one cause": {many(40, func(int) string { return denied }), []string{
			"BAD: exchange_00 websocket, exchange_01 websocket, exchange_02 websocket: 0 tunnels, 1600 lost, since 10:17:56: upstream_denied by tokyo-1, tokyo-2 (+37 more)",
			"BAD: exchange_00 websocket, ",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Status{Time: time.Date(2026, 1, 2, 10, 20, 0, 0, time.Local), State: StateReady, Config: Config{InForce: true}, Exchanges: c.rows}.Problems()
			if len(got) != len(c.want) {
				t.Fatalf("%q", got)
			}
			for i, want := range c.want {
				if got[i] != want && !(strings.HasSuffix(want, ", ") && strings.HasPrefix(got[i], want)) {
					t.Errorf("line %d:\n got %s\nwant %s", i+1, got[i], want)
				}
			}
			if len(got) > 0 && len(got[0]) > 160 && !strings.Contains(got[0], long) {
				t.Errorf("%d columns", len(got[0]))
			}
		})
	}
	for n := 1; n < 60; n++ { // however many: it fits, and counts what it does not name
		rows := many(n, func(i int) string { return fmt.Sprintf("upstream_refused by tokyo-%d", i) })
		lines := Status{State: StateReady, Config: Config{InForce: true}, Exchanges: rows}.Problems()
		named, more := strings.Count(lines[0], "exchange_"), 0
		if _, rest, ok := strings.Cut(lines[0], "(+"); ok {
			_, _ = fmt.Sscanf(rest, "%d more)", &more)
		}
		if len(lines[0]) > 160 || named+more != n {
			t.Errorf("%d lost, %d named, %d more: %s", n, named, more, lines[0])
		}
		all := strings.Join(lines, "\n")
		for i := range n {
			if !strings.Contains(all, fmt.Sprintf("exchange_%02d websocket", i)) {
				t.Errorf("exchange %d of %d is not named", i, n)
			}
		}
	}
}

// What is lost comes before everything else; what goes on without a usable upstream
// is said, too.
func TestOrderOfProblems(t *testing.T) {
	t.Parallel()
	s := Status{
		State: StateReady, Reasons: []string{"log lines lost"}, Config: Config{Faults: []string{"proxyd.yaml:1:1: no"}},
		Exchanges: []feed.Exchange{
			lostRow("okx", 3, denied),
			{Exchange: "kraken", Kind: "http", State: feed.OK, Cause: "no upstream can be used: a is drained", Text: "no upstream can be used for new connections: a is drained", Hint: "proxyd resume a"},
		},
	}
	got := s.Problems()
	for i, want := range []string{"BAD: okx websocket: ", "FILE NOT IN FORCE: proxyd.yaml:1:1: no", "DEGRADED: kraken http: no upstream can be used for new connections: a is drained; proxyd resume a", "DEGRADED: log lines lost"} {
		if i >= len(got) || !strings.HasPrefix(got[i], want) {
			t.Fatalf("line %d of %q, want %q", i+1, got, want)
		}
	}
}

// Feeds whose silence is blamed on the same share a line, with how many of their
// tunnels are silent, and not with those that go on.
func TestSilentFeedsShareALineWithTheirTunnelsThatAreSilent(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 10, 17, 56, 0, time.Local)
	row := func(id string, silent int) feed.Exchange {
		return feed.Exchange{
			Exchange: id, Kind: "websocket", State: feed.Silent, Since: at, Silent: silent, Counts: feed.Counts{Tunnels: 6},
			Cause: "all feeds through paris-2 are silent: paris-2", Text: "4 of 4 tunnels through paris-2; all feeds through paris-2 are silent: paris-2",
		}
	}
	for _, c := range []struct {
		of   [2]int
		want string
	}{{[2]int{4, 3}, "7 of 12 tunnels"}, {[2]int{6, 6}, "12 tunnels"}} {
		s := Status{Time: at, State: StateReady, Config: Config{InForce: true}, Exchanges: []feed.Exchange{row("bybit", c.of[0]), row("okx", c.of[1])}}
		want := "BAD: bybit websocket, okx websocket: silent since 10:17:56, " + c.want + ": all feeds through paris-2 are silent: paris-2"
		if got := s.Problems(); len(got) != 1 || got[0] != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The rows of feeds, and those that a query asks for; what names nothing is refused.
func TestFeedsAnswerFiltersAndRefusesUnknownNames(t *testing.T) {
	t.Parallel()
	o := wellOptions(t)
	o.Feeds = func() feed.Report {
		return feed.Report{
			Time:      time.Now(),
			Exchanges: []feed.Exchange{lostRow("binance", 40, denied), {Exchange: "okx", Kind: "http", State: feed.OK}, {Exchange: "okx", Kind: "websocket", State: feed.NoTraffic}},
			Feeds: []feed.Feed{
				{Exchange: "binance", Kind: "websocket", Upstream: "old-1", Counts: feed.Counts{Tunnels: 3}}, {Exchange: "okx", Kind: "http", Upstream: "direct"},
			},
		}
	}
	a := serve(t, o, "")
	for query, want := range map[string][2]int{
		"": {3, 2}, "?exchange=OKX": {2, 1}, "?exchange=okx&kind=ws": {1, 0}, "?kind=http": {1, 1}, "?upstream=old-1": {1, 1}, "?upstream=direct&exchange=binance": {0, 0},
	} {
		got := get(t, a, "/api/v1/feeds"+query)
		var r feed.Report
		if err := json.Unmarshal([]byte(got.body), &r); err != nil || got.status != 200 || len(r.Exchanges) != want[0] || len(r.Feeds) != want[1] {
			t.Errorf("%s: %d exchanges and %d feeds, want %v (%d, %v)", query, len(r.Exchanges), len(r.Feeds), want, got.status, err)
		}
	}
	for query, want := range map[string]string{"?exchange=okcoin2": "there is no exchange", "?upstream=tokio-9": "there is no upstream", "?kind=ftp": "kind"} {
		if got := get(t, a, "/api/v1/feeds"+query); got.status != 400 || !strings.Contains(got.body, want) {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
	if got := get(t, a, "/api/v1/status"); !strings.Contains(got.body, `"problems": []`) {
		t.Errorf("status: %s", got.body)
	}
}

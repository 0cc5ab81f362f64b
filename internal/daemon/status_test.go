package daemon

import (
	"strings"
	"testing"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/feed"
)

// Promise (feeds): a feed that is silent in a process that an upgrade has left stays on line 1.
func TestSilenceInTheProcessBefore(t *testing.T) {
	t.Parallel()
	since := time.Now().Add(-time.Minute)
	older := []admin.Process{{PID: 77, Generation: 1, Silent: []feed.Exchange{
		{Exchange: "okx", Kind: "websocket", State: feed.Silent, Since: since, Silent: 9, Text: "9 of 10 tunnels through paris-1", Cause: "paris-1", Counts: feed.Counts{Tunnels: 10}},
		{Exchange: "kraken", Kind: "websocket", State: feed.Silent, Since: since, Text: "1 of 1 tunnel through paris-1", Counts: feed.Counts{Tunnels: 1}}, // of a version that does not say how many
		{Exchange: "bybit", Kind: "websocket", State: feed.Silent, Since: since, Text: "1 of 1 tunnel through paris-1"},
	}}}
	rows := withOlder([]feed.Exchange{
		{Exchange: "binance", Kind: "http", State: feed.NoTraffic, Text: "no traffic yet"},
		{Exchange: "bybit", Kind: "websocket", State: feed.Lost, Lost: 5, Text: "0 tunnels"},
		{Exchange: "okx", Kind: "websocket", State: feed.NoTraffic, Text: "no traffic yet"},
	}, older)
	var got []string
	for i := range rows {
		got = append(got, rows[i].Exchange+" "+string(rows[i].State)+" "+rows[i].Text)
	}
	want := `bybit lost 0 tunnels
kraken silent 1 of 1 tunnel through paris-1 (in process 77, generation 1)
okx silent 9 of 10 tunnels through paris-1 (in process 77, generation 1)
binance no_traffic no traffic yet`
	if strings.Join(got, "\n") != want {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	if rows[1].Silent != 1 || rows[2].Silent != 9 || rows[2].Tunnels != 10 {
		t.Errorf("%d and %d of %d tunnels are silent", rows[1].Silent, rows[2].Silent, rows[2].Tunnels)
	}
	if row := rows[2]; !row.Since.Equal(since) || !strings.HasSuffix(row.Hint, ": kill 77") {
		t.Errorf("%+v", row)
	}
}

// The rows of upstreams are those that carry, or have in the last minute: an exchange
// that is in use by plain requests alone has one, too.
func TestCountsNameTheUpstreamsOfPlainRequests(t *testing.T) {
	t.Parallel()
	now := time.Now()
	row := func(upstream string, tunnels, failed int, last time.Duration) feed.Feed {
		return feed.Feed{Exchange: "okx", Kind: "http", Upstream: upstream, Counts: feed.Counts{Tunnels: tunnels, Failed: failed, LastByte: now.Add(-last)}}
	}
	var got []string
	for _, c := range tunnelCounts(feed.Report{Time: now, Feeds: []feed.Feed{row("open", 1, 0, time.Hour), row("failed", 0, 1, time.Hour), row("plain", 0, 0, time.Second), row("old", 0, 0, time.Hour), {Upstream: "never"}}}) {
		got = append(got, c.Upstream)
	}
	if want := "open failed plain"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

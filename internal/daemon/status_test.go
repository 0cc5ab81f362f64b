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
		{Exchange: "okx", Kind: "websocket", State: feed.Silent, Since: since, Text: "10 of 10 tunnels through paris-1", Cause: "paris-1"},
		{Exchange: "kraken", Kind: "websocket", State: feed.Silent, Since: since, Text: "1 of 1 tunnel through paris-1"},
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
okx silent 10 of 10 tunnels through paris-1 (in process 77, generation 1)
binance no_traffic no traffic yet`
	if strings.Join(got, "\n") != want {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	if row := rows[2]; !row.Since.Equal(since) || !strings.HasSuffix(row.Hint, ": kill 77") {
		t.Errorf("%+v", row)
	}
}

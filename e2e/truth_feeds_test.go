package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// feedRow is what TestCountsAgreeWithWhatThePeersSaw reads of a row of /api/v1/feeds.
type feedRow struct {
	Exchange, Kind, Upstream        string
	Tunnels, Opened, Closed, Failed int64
}

// feeds compares the rows of exchanges and feeds.
func (tr *truth) feeds(t *testing.T) {
	t.Helper()
	var r struct{ Exchanges, Feeds []feedRow }
	if err := json.Unmarshal([]byte(tr.admin(t, tr.socket, "/api/v1/feeds")), &r); err != nil {
		t.Fatal(err)
	}
	exchanges, lanes := map[[2]string]feedRow{}, map[lane]feedRow{}
	for _, row := range r.Exchanges {
		exchanges[[2]string{row.Exchange, row.Kind}] = row
	}
	for _, row := range r.Feeds {
		lanes[lane{row.Exchange, row.Upstream}] = row
	}
	for _, d := range deeds {
		got, ok := exchanges[[2]string{d.exchange, d.kind}], want(d.exchange, d.kind, "ok")
		gone := want(d.exchange, d.kind, "client_gone") // of these, each that a busy machine had wait for half a second has failed
		if failed := want(d.exchange, d.kind, "") - ok - gone; got.Opened != ok || got.Failed < failed || got.Failed > failed+gone || got.Tunnels != 0 {
			t.Errorf("feeds has %+v of %s %s; %d were opened, %d failed", got, d.exchange, d.kind, ok, failed)
		}
	}
	for l := range tr.m.seen {
		got, seen := lanes[lane{exchangeOf(l.host), l.upstream}], tr.m.sum(l.host, l.upstream)
		if n := int64(seen.accepted); got.Opened != n || got.Closed != n {
			t.Errorf("feeds has %+v of %s through %s, which has seen %d tunnels", got, l.host, l.upstream, n)
		}
	}
}

// groupTime is more than the journal waits for the rest of a group: a minute after the
// last of it. Most groups are complete after 10 s.
const groupTime = 90 * time.Second

// events compares the journal: what came often is grouped, and the counts add up.
func (tr *truth) events(t *testing.T) {
	t.Helper()
	for _, c := range []struct {
		typ, exchange, upstream string
		count                   int64
	}{
		{"refused", "binance_futures", "deny-1", want("binance_futures", "", "")},
		{"refused", "bybit", "miss-1", want("bybit", "", "")},
		{"tunnels_ended", "", "die-1", want("coinbase", "", "") + want("bitmex", "", "")},
		{"tunnels_closed", "", "stop-1", want("kraken", "websocket", "")},
	} {
		got := int64(0)
		testkit.Eventually(t, groupTime, "the events "+c.typ+" of "+c.upstream, func() bool {
			got = tr.counted(t, c.typ, c.exchange, c.upstream)
			return got >= c.count
		})
		if got != c.count {
			t.Errorf("the events %s of %s count %d, it was %d", c.typ, c.upstream, got, c.count)
		}
	}
}

// counted adds up the counts of events; one without a count is one.
func (tr *truth) counted(t *testing.T, typ, exchange, upstream string) (n int64) {
	t.Helper()
	var r struct {
		Events []struct {
			Type, Exchange, Upstream string
			Count                    int64
		}
	}
	if err := json.Unmarshal([]byte(tr.admin(t, tr.socket, "/api/v1/events?limit=10000")), &r); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.Events {
		if e.Type == typ && (exchange == "" || e.Exchange == exchange) && e.Upstream == upstream {
			n += max(1, e.Count)
		}
	}
	return n
}

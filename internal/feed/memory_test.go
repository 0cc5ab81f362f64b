package feed_test

import (
	"encoding/json"
	"testing"
	"time"

	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/feed"
	"proxyd/internal/tunnel"
)

// Promise (feeds): an upgrade of proxyd renews no state: what is lost stays lost, since the same time, and is no news.
func TestStatesGoAlongWithAnUpgrade(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		end := r.open(ws)
		rec := r.record(tunnel.Opened, rest, nil)
		r.table.Observe(rec)
		time.Sleep(time.Minute)
		end("upstream", 1, 1)
		for range 3 {
			r.refuse(ws, failure.UpstreamAuth, nil)
		}
		time.Sleep(time.Minute)
		before := r.row("okx", "websocket")
		data, err := json.Marshal(r.table.Export())
		if err != nil {
			t.Fatal(err)
		}
		var list []feed.Memory
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatal(err)
		}
		r.table = feed.New(feed.Options{Snapshot: r.router.Load, Each: func(func(tunnel.Live) bool) {}, Emit: r.emit})
		r.table.Import(list)
		go func() { _ = r.table.Run(r.t.Context()) }() // ends with the bubble
		row := r.row("okx", "websocket")
		if row.State != feed.Lost || !row.Since.Equal(before.Since) || row.Lost != 1 || row.Cause != before.Cause || row.LastFailure == nil {
			t.Errorf("%+v, before: %+v", row, before)
		}
		if row := r.row("okx", "http"); row.State != feed.NoTraffic || row.Text != "no traffic in this process yet; the one before it had 1 tunnel" {
			t.Errorf("%+v", row)
		}
		moved := *rec
		moved.Event = 0
		r.table.Adopt(moved)
		if row := r.row("okx", "http"); row.State != feed.OK || !row.Since.Equal(rec.Start) || row.Text != "" {
			t.Errorf("%+v", row)
		}
		time.Sleep(time.Second)
		r.open(ws)
		if row := r.row("okx", "websocket"); row.State != feed.OK {
			t.Errorf("%+v", row)
		}
		time.Sleep(time.Second)
		if got := r.types(); len(got) != 2 || got[0] != event.ExchangeLost || got[1] != event.ExchangeBack {
			t.Errorf("events %v", got)
		}
	})
}

// An exchange that its clients have left is idle since then, in the next process too.
func TestIdleGoesAlongWithAnUpgrade(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		answered := time.Now()
		r.table.Observe(r.record(tunnel.Served, rest, nil))
		time.Sleep(5 * time.Minute)
		if row := r.row("okx", "http"); row.State != feed.Idle {
			t.Fatalf("%+v", row)
		}
		next := feed.New(feed.Options{Snapshot: r.router.Load, Each: func(func(tunnel.Live) bool) {}, Emit: r.emit})
		next.Import(r.table.Export())
		time.Sleep(time.Minute)
		r.table = next
		if row := r.row("okx", "http"); row.State != feed.Idle || !row.Since.Equal(answered) {
			t.Errorf("%+v, answered at %v", row, answered)
		}
	})
}

package feed_test

import (
	"fmt"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/feed"
	"proxyd/internal/tunnel"
)

// Counts of an hour, of a minute, and the times to open.
func TestCountsOfTheLastHour(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		var ends []func(string, int64, int64)
		for range 10 {
			ends = append(ends, r.open(ws))
		}
		time.Sleep(time.Minute)
		for _, end := range ends {
			end("upstream", 100, 1000)
		}
		for range 4 {
			r.open(ws)
		}
		row := r.row("okx", "websocket")
		if row.Tunnels != 4 || row.TunnelsMax != 10 || row.Opened != 14 || row.Closed != 10 || row.Reconnects != 4 {
			t.Errorf("%+v", row.Counts)
		}
		if row.OpenP50 < 18 || row.OpenP50 > 22 || row.OpenP99 < 18 || row.OpenP99 > 22 {
			t.Errorf("p50 %g ms, p99 %g ms, want about 20", row.OpenP50, row.OpenP99)
		}
		if row.LastClose == nil || row.LastClose.By != "upstream" || row.LastClose.Reason != "eof" {
			t.Errorf("last close %+v", row.LastClose)
		}
		time.Sleep(2 * time.Second)
		if row := r.row("okx", "websocket"); row.Down.Minute != 10_000/60.0 || row.Up.Minute != 1000/60.0 {
			t.Errorf("%+v", row.Counts)
		}
		time.Sleep(time.Minute)
		if row := r.row("okx", "websocket"); row.Down.Minute != 0 || row.Reconnects != 0 {
			t.Errorf("a minute later: %+v", row.Counts)
		}
		time.Sleep(time.Hour)
		if row := r.row("okx", "websocket"); row.Opened != 0 || row.Closed != 0 || row.TunnelsMax != 4 || row.OpenP50 != 0 && row.OpenP50 < 18 {
			t.Errorf("an hour later: %+v", row.Counts)
		}
	})
}

// Plain requests count as opens, and keep the exchange in use for a while.
func TestPlainRequestsKeepAnExchangeInUse(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		answered := time.Now()
		r.table.Observe(r.record(tunnel.Served, rest, func(rec *tunnel.Record) { rec.Up, rec.Down = 10, 5000 }))
		row := r.row("okx", "http")
		if row.State != feed.OK || row.Opened != 1 || row.Tunnels != 0 || row.LastByte.IsZero() {
			t.Errorf("%+v", row)
		}
		time.Sleep(2 * time.Minute)
		if row := r.row("okx", "http"); row.State != feed.Idle || !row.Since.Equal(answered) {
			t.Errorf("%+v, answered at %v", row, answered)
		}
		for range 3 {
			r.table.Observe(r.record(tunnel.Served, rest, func(rec *tunnel.Record) { rec.Class, rec.ClosedBy = failure.TargetProtocol, "exchange" }))
		}
		if row := r.row("okx", "http"); row.State != feed.Lost || row.Failed != 3 {
			t.Errorf("cut short: %+v", row)
		}
	})
}

// A tunnel that came from another process brings no bytes and is no request; one
// that goes to another process is no end.
func TestAdoptedAndMovedTunnels(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		started := time.Now().Add(-time.Hour)
		rec := r.record(0, ws, func(rec *tunnel.Record) { rec.Up, rec.Down, rec.Start = 1000, 9000, started })
		r.table.Adopt(*rec)
		row := r.row("okx", "websocket")
		if row.State != feed.OK || row.Tunnels != 1 || row.TunnelsMax != 1 || row.Opened != 0 || !row.Since.Equal(started) {
			t.Errorf("%+v", row)
		}
		end := *rec
		end.Event, end.Up, end.Down, end.ClosedBy, end.Duration = tunnel.Ended, 1500, 9600, "client", 2*time.Hour
		r.table.Observe(&end)
		time.Sleep(2 * time.Second)
		row = r.row("okx", "websocket")
		if row.Tunnels != 0 || row.Closed != 1 || row.Up.Minute != 500/60.0 || row.Down.Minute != 600/60.0 {
			t.Errorf("%+v", row.Counts)
		}
		opened := r.record(tunnel.Opened, rest, nil)
		r.table.Observe(opened)
		moved := *opened
		moved.Event, moved.ClosedBy, moved.Reason = tunnel.Moved, "proxyd", tunnel.ReasonMoved
		r.table.Observe(&moved)
		if row := r.row("okx", "http"); row.Tunnels != 0 || row.Closed != 0 || row.LastClose != nil {
			t.Errorf("%+v", row.Counts)
		}
	})
}

// What comes on top of 2,000 feeds counts for the upstream "other".
func TestFeedsAreBounded(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		var ends []*tunnel.Record
		for i := range 2500 {
			rec := r.record(tunnel.Opened, ws, func(rec *tunnel.Record) { rec.Upstream = fmt.Sprint("proxy-", i) })
			r.table.Observe(rec)
			end := *rec
			end.Event, end.ClosedBy, end.Down = tunnel.Ended, "client", 100
			ends = append(ends, &end)
		}
		report := r.table.Report()
		if n := len(report.Feeds); n != 2001 {
			t.Fatalf("%d feeds", n)
		}
		for i := range report.Feeds {
			if f := &report.Feeds[i]; f.Upstream == feed.OtherUpstream && f.Tunnels != 500 {
				t.Errorf("%d tunnels through others", f.Tunnels)
			}
		}
		for _, end := range ends {
			r.table.Observe(end)
		}
		if row := r.row("okx", "websocket"); row.Tunnels != 0 || row.Closed != 2500 {
			t.Errorf("%+v", row.Counts)
		}
		time.Sleep(time.Hour + 2*time.Minute) // not longer: each second looks at all feeds
		if n := len(r.table.Report().Feeds); n != 0 {
			t.Errorf("%d feeds left", n)
		}
	})
}

// The names that a client asks for stay out of rows, unless they are the exchange's.
func TestFailuresNameNoHost(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		r.refuse(ws, failure.TargetDNS, func(rec *tunnel.Record) {
			rec.Host, rec.Text = "secret.okx.com", "Secret.okx.com was not found (secret.okx.com)\x1b[31m"
		})
		if got := r.row("okx", "websocket").LastFailure; got == nil || got.Text != "the host was not found (the host)?[31m" {
			t.Errorf("%+v", got)
		}
		r.refuse(ws, failure.Denied, func(rec *tunnel.Record) {
			rec.Host, rec.Text = "secret.okx.com", "target secret.okx.com is refused: default is reject"
		})
		if got := r.row("okx", "websocket").LastFailure; got == nil || got.Text != "the host is refused: default is reject" {
			t.Errorf("%+v", got)
		}
	})
}

// Tunnels that are opened in place of others, whose records come later, are not
// counted beside them.
func TestReconnectsBeforeTheRecordsOfTheEnds(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		var ends []*tunnel.Record
		for range 40 {
			rec := r.record(tunnel.Opened, ws, nil)
			r.table.Observe(rec)
			ends = append(ends, rec)
		}
		time.Sleep(time.Minute)
		for _, rec := range ends {
			rec.Event, rec.Duration, rec.Up, rec.Down = tunnel.Ended, time.Minute, 10, 10
			r.table.Ending(rec)
		}
		if row := r.row("okx", "websocket"); row.Tunnels != 0 || row.Closed != 0 || row.State != feed.Idle {
			t.Errorf("%+v", row)
		}
		for range 40 {
			r.open(ws)
		}
		time.Sleep(300 * time.Millisecond)
		for _, rec := range ends {
			rec.ClosedBy = "upstream"
			r.table.Observe(rec)
		}
		row := r.row("okx", "websocket")
		if row.Tunnels != 40 || row.TunnelsMax != 40 || row.Closed != 40 || row.Reconnects != 40 || row.LastClose.By != "upstream" {
			t.Errorf("%+v", row.Counts)
		}
	})
}

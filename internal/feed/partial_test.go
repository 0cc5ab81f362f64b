package feed_test

import (
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/feed"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// Promise (feeds): a client that connects for a moment beside feeds that go on makes no exchange lost.
func TestClientsThatLookInBesideFeeds(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		lookIn := func(n int) {
			for range n {
				end := r.open(ws)
				time.Sleep(time.Second)
				end("client", 900, 6000)
			}
		}
		lookIn(5)
		if row := r.row("okx", "websocket"); row.State != feed.Lost {
			t.Fatalf("alone: %s: %s", row.State, row.Text)
		}
		adopted := make([]tunnel.Record, 4) // they have lasted
		for i := range adopted {
			adopted[i] = *r.record(0, ws, func(rec *tunnel.Record) { rec.Start = time.Now().Add(-time.Minute) })
			r.table.Adopt(adopted[i])
		}
		lookIn(5)
		if row := r.row("okx", "websocket"); row.State != feed.OK || row.Cause != "" {
			t.Errorf("beside feeds: %s: %s", row.State, row.Text)
		}
		for i := range adopted {
			end := adopted[i]
			end.Event, end.ClosedBy, end.Duration = tunnel.Ended, "client", time.Hour
			r.table.Observe(&end)
		}
		if row := r.row("okx", "websocket"); row.State != feed.Idle {
			t.Errorf("when the bot has stopped: %s: %s", row.State, row.Text)
		}
	})
}

// Promise (feeds): requests that fail here and there among many are no loss, and have a line of their own.
func TestSomeRequestsFail(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		run := func(rounds, good, bad int) (lost, told int) {
			for range rounds {
				for range good {
					r.table.Observe(r.record(tunnel.Served, rest, func(rec *tunnel.Record) { rec.Up, rec.Down = 10, 5000 }))
				}
				for range bad {
					r.refuse(rest, failure.TargetUnreachable, nil)
				}
				row := r.row("okx", "http")
				if row.State.Bad() {
					lost++
				} else if row.Cause != "" {
					told++
				}
				time.Sleep(500 * time.Millisecond)
			}
			return lost, told
		}
		if lost, told := run(40, 100, 1); lost > 0 || told > 0 {
			t.Errorf("1 in 100: lost %d times, told %d times", lost, told)
		}
		time.Sleep(2 * time.Minute)
		if lost, told := run(40, 10, 4); lost > 0 || told < 35 {
			t.Errorf("4 in 14: lost %d times, told %d times", lost, told)
		}
		if row := r.row("okx", "http"); row.Text != "160 refused in 1 min while others succeed: target_unreachable through tokyo-1" {
			t.Errorf("%s", row.Text)
		}
		time.Sleep(8 * time.Second)
		run(1, 10, 0)
		if row := r.row("okx", "http"); row.State != feed.OK || row.Text != "" {
			t.Errorf("8 s later: %s: %s", row.State, row.Text)
		}
		time.Sleep(2 * time.Minute)
		if lost, _ := run(4, 0, 2); lost != 3 {
			t.Errorf("all: lost %d times", lost)
		}
		if lost, told := run(3, 10, 0); lost+told > 0 {
			t.Errorf("at once after: lost %d times, told %d times", lost, told)
		}
	})
}

// A loss whose clients have given up says so, and ends when its cause is seen to be over.
func TestLossThatClientsHaveGivenUp(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		for range 3 {
			r.refuse(ws, failure.UpstreamDenied, nil)
			time.Sleep(10 * time.Second)
		}
		time.Sleep(time.Hour)
		if row := r.row("okx", "websocket"); row.State != feed.Lost || withoutDay(row.Text) != "0 tunnels, 3 refused since 00:00:00, none since 00:00:20: upstream_denied by tokyo-1" {
			t.Errorf("%s: %s", row.State, row.Text)
		}
	})
	onClock(t, twoUpstreams, func(r *records) {
		denied := func() {
			for range 3 {
				r.refuse(ws, failure.Denied, func(rec *tunnel.Record) { rec.Rule, rec.Upstream = "default (exchange okx has no entry)", "" })
			}
		}
		r.reload("exchanges: {kraken: {websocket: reject}}\ndefault: reject\n")
		denied()
		time.Sleep(10 * time.Second)
		if row := r.row("okx", "websocket"); row.State != feed.Lost {
			t.Errorf("%s: %s", row.State, row.Text)
		}
		r.reload(twoUpstreams)
		time.Sleep(time.Second)
		if row := r.row("okx", "websocket"); row.State.Bad() {
			t.Errorf("when its entry is back: %s: %s", row.State, row.Text)
		}
		denied()
		time.Sleep(10 * time.Second)
		if row := r.row("okx", "websocket"); row.State != feed.Lost {
			t.Errorf("refused again: %s: %s", row.State, row.Text)
		}
	})
	onClock(t, twoUpstreams, func(r *records) { // no limit is used up, and a member can be used
		for _, class := range []failure.Class{failure.Budget, failure.NoUpstream} {
			for range 3 {
				r.refuse(ws, class, nil)
			}
			time.Sleep(3 * time.Second)
			if row := r.row("okx", "websocket"); row.State != feed.Lost {
				t.Errorf("%s: %s: %s", class, row.State, row.Text)
			}
			time.Sleep(6 * time.Second)
			if row := r.row("okx", "websocket"); row.State.Bad() {
				t.Errorf("%s, 9 s later: %s: %s", class, row.State, row.Text)
			}
		}
	})
	limited := strings.Replace(twoUpstreams, "websocket: asia", "websocket: {pool: asia, limits: {max_connections: 1, queue_seconds: 1}}", 1)
	limited = strings.Replace(limited, "http: asia", "http: {pool: asia, limits: {max_connections: 1}}", 1)
	onClock(t, limited, func(r *records) {
		set := r.router.Load().Set()
		set.Activate()
		use := func(upstream string, kind catalog.Kind) (release func()) {
			_, release = set.Adopt("asia", upstream, "okx", kind)
			return release
		}
		end := use("tokyo-1", ws)
		use("tokyo-2", ws)
		use("tokyo-1", rest) // tokyo-2 has room for it
		for _, kind := range []catalog.Kind{ws, rest} {
			for range 3 {
				r.refuse(kind, failure.Budget, nil)
			}
		}
		time.Sleep(time.Minute)
		if row := r.row("okx", "websocket"); row.State != feed.Lost {
			t.Errorf("its limits are used up: %s: %s", row.State, row.Text)
		}
		if row := r.row("okx", "http"); row.State.Bad() {
			t.Errorf("one of two exits has room: %s: %s", row.State, row.Text)
		}
		set.Upstream("tokyo-1").SetDrained("okx", true)
		end() // of one that is drained, which no request reaches
		time.Sleep(2 * time.Second)
		if row := r.row("okx", "websocket"); row.State != feed.Lost {
			t.Errorf("only a drained exit has room: %s: %s", row.State, row.Text)
		}
		set.Upstream("tokyo-1").SetDrained("okx", false)
		time.Sleep(2 * time.Second)
		if row := r.row("okx", "websocket"); row.State.Bad() {
			t.Errorf("there is room again: %s: %s", row.State, row.Text)
		}
	})
	onClock(t, twoUpstreams, func(r *records) {
		members := r.router.Load().Set().Upstreams()
		observe := func(err error, n int) {
			for range n {
				for _, u := range members {
					u.Observe(upstream.Result{Err: err})
				}
			}
		}
		for range 3 {
			r.refuse(ws, failure.UpstreamRefused, nil)
		}
		observe(&failure.Error{Class: failure.UpstreamRefused}, 3)
		time.Sleep(time.Minute)
		if row := r.row("okx", "websocket"); row.State != feed.Lost {
			t.Errorf("%s: %s", row.State, row.Text)
		}
		observe(nil, 2)
		time.Sleep(2 * time.Second)
		if row := r.row("okx", "websocket"); row.State.Bad() {
			t.Errorf("when its upstreams are back: %s: %s", row.State, row.Text)
		}
	})
}

// What an upstream ends that then refuses is one cause, and a hint fits whoever has ended tunnels at once.
func TestCausesAndHints(t *testing.T) {
	t.Parallel()
	for by, want := range map[string]string{"upstream": "log of the proxy", "client": "in the client's log", "exchange": "turns this exit away"} {
		onClock(t, twoUpstreams, func(r *records) {
			for range 3 {
				r.open(ws)(by, 900, 6000)
			}
			row := r.row("okx", "websocket")
			if !strings.Contains(row.Hint, want) || strings.Contains(row.Text, "go on") {
				t.Errorf("%s: %s; %s", by, row.Text, row.Hint)
			}
			r.refuse(ws, failure.UpstreamRefused, nil)
			if row := r.row("okx", "websocket"); by == "upstream" && row.Cause != "upstream_refused by tokyo-1" {
				t.Errorf("cause %q", row.Cause)
			}
		})
	}
}

// What clients miss comes before what no client has asked for.
func TestWhatClientsMissComesFirst(t *testing.T) {
	t.Parallel()
	onClock(t, strings.ReplaceAll(twoUpstreams, "kraken: {websocket: reject}", "aevo: {websocket: asia, http: asia}"), func(r *records) {
		for _, u := range r.router.Load().Set().Upstreams() {
			u.SetDrained("", true)
		}
		for range 3 {
			r.refuse(ws, failure.NoUpstream, func(rec *tunnel.Record) { rec.Upstream = "" })
		}
		rows := r.table.Report().Exchanges
		if len(rows) != 4 || rows[0].Exchange != "okx" || rows[0].Kind != "websocket" || rows[3].State != feed.Lost {
			t.Errorf("%+v", rows)
		}
	})
}

// Until when an exchange had its tunnels does not change while those that its clients open
// again end at once.
func TestUntilWhenTunnelsWereOpen(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		var ends []func(string, int64, int64)
		open := func() {
			for range 5 {
				ends = append(ends, r.open(ws))
			}
		}
		end := func() {
			for _, end := range ends {
				end("exchange", 900, 6000)
			}
			ends = nil
		}
		open()
		time.Sleep(time.Minute)
		for range 10 {
			end()
			time.Sleep(time.Second)
			open()
			time.Sleep(time.Second)
		}
		end()
		if row := r.row("okx", "websocket"); withoutDay(row.Text) != "0 tunnels (5 until 00:01:00), 50 ended within 5 s since 00:01:02: closed by the exchange through tokyo-1" {
			t.Errorf("%s", row.Text)
		}
	})
}

// Requests in connections of their own are in use between two of them, as plain ones are.
func TestShortConnectionsOfREST(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		began := time.Now()
		for range 10 {
			end := r.open(rest)
			time.Sleep(100 * time.Millisecond)
			end("client", 900, 6000)
			time.Sleep(5 * time.Second)
			if row := r.row("okx", "http"); row.State != feed.OK || !row.Since.Equal(began) {
				t.Fatalf("%s since %v: %s", row.State, row.Since, row.Text)
			}
		}
		time.Sleep(time.Minute)
		if row := r.row("okx", "http"); row.State != feed.Idle || !strings.HasSuffix(row.Text, "last closed by the client") {
			t.Errorf("%s: %s", row.State, row.Text)
		}
	})
}

// Tunnels that the exchange ends over and over are worth a line, though each lasted for
// a while; clients that come and go are not.
func TestTunnelsThatAreEndedOverAndOver(t *testing.T) {
	t.Parallel()
	for by, want := range map[string]string{
		"exchange": "0 tunnels, 76 reconnects in 1 min: closed by the exchange through tokyo-1",
		"client":   "",
	} {
		onClock(t, twoUpstreams, func(r *records) {
			for range 9 {
				var ends []func(string, int64, int64)
				for range 10 {
					ends = append(ends, r.open(ws))
				}
				time.Sleep(6 * time.Second)
				for _, end := range ends {
					end(by, 900, 1<<20)
				}
				time.Sleep(time.Second)
			}
			r.open(ws)
			row := r.row("okx", "websocket")
			if row.State != feed.OK || (row.Cause != "") != (want != "") {
				t.Errorf("%s: %s: %s", by, row.State, row.Text)
			}
			if want != "" && !strings.HasSuffix(row.Text, " reconnects in 1 min: closed by the exchange through tokyo-1") {
				t.Errorf("%s: %s", by, row.Text)
			}
			time.Sleep(9 * time.Second)
			if row := r.row("okx", "websocket"); row.Text != "" {
				t.Errorf("%s, 9 s later: %s", by, row.Text)
			}
		})
	}
}

// Tunnels that an upstream has ended, and that no client opens again, are worth a line: a bot
// that was stopped is not.
func TestTunnelsThatNoClientOpensAgain(t *testing.T) {
	t.Parallel()
	for by, want := range map[string]string{
		"upstream": "0 tunnels (2 until 00:10:00), and not opened again: closed by the upstream through tokyo-1",
		"client":   "idle since 00:10:00: last closed by the client",
		"exchange": "idle since 00:10:00: last closed by the exchange", // as it answers a client's close frame
	} {
		onClock(t, twoUpstreams, func(r *records) {
			one, two := r.open(ws), r.open(ws)
			time.Sleep(10 * time.Minute)
			one(by, 900, 1<<20)
			two(by, 900, 1<<20)
			if row := r.row("okx", "websocket"); row.Cause != "" {
				t.Errorf("%s, at once: %s", by, row.Text)
			}
			time.Sleep(time.Minute)
			row := r.row("okx", "websocket")
			if row.State != feed.Idle || withoutDay(row.Text) != want || (row.Cause != "") != (by == "upstream") {
				t.Errorf("%s: %s: %s (%s)", by, row.State, row.Text, row.Cause)
			}
			time.Sleep(time.Hour)
			if row := r.row("okx", "websocket"); row.Cause != "" {
				t.Errorf("%s, an hour later: %s", by, row.Text)
			}
		})
	}
}

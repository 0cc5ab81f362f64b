package feed_test

import (
	"strings"
	"testing"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/feed"
	"proxyd/internal/tunnel"
)

// Which rows of requests make an exchange lost, and which do not.
func TestWhatMakesAnExchangeLost(t *testing.T) {
	t.Parallel()
	refused := func(class failure.Class, edit func(*tunnel.Record)) func(*records, catalog.Kind) {
		return func(r *records, k catalog.Kind) { r.refuse(k, class, edit) }
	}
	short := func(by string, up, down int64, lived time.Duration) func(*records, catalog.Kind) {
		return func(r *records, k catalog.Kind) {
			end := r.open(k)
			time.Sleep(lived)
			end(by, up, down)
		}
	}
	gone := func(waited, every time.Duration) func(*records, catalog.Kind) {
		return func(r *records, k catalog.Kind) {
			r.refuse(k, failure.ClientGone, func(rec *tunnel.Record) { rec.Duration = waited })
			time.Sleep(every)
		}
	}
	for name, c := range map[string]struct {
		kind catalog.Kind
		do   func(*records, catalog.Kind) // three times
		lost string                       // what the text ends with; "": it is not lost
	}{
		"refused by an upstream":          {ws, refused(failure.UpstreamDenied, nil), "0 tunnels, 3 refused in 1 min: upstream_denied by tokyo-1"},
		"refused by the exchange":         {ws, refused(failure.TargetRefused, nil), "0 tunnels, 3 refused in 1 min: target_refused through tokyo-1"},
		"out of tunnels":                  {ws, refused(failure.Overload, func(r *tunnel.Record) { r.Upstream = "" }), "3 refused in 1 min: overload"},
		"out of budget":                   {rest, refused(failure.Budget, nil), "3 refused in 1 min: budget through tokyo-1"},
		"wrong password":                  {ws, refused(failure.Auth, nil), ""},
		"no HTTP":                         {ws, refused(failure.BadRequest, nil), ""},
		"stopping":                        {ws, refused(failure.Draining, nil), ""},
		"its client left at once":         {ws, refused(failure.ClientGone, nil), ""},
		"its client left after 5 s":       {ws, gone(5*time.Second, 6*time.Second), "3 refused in 1 min: client_gone through tokyo-1"},
		"its client left after 1 s":       {ws, gone(time.Second, 2*time.Second), "3 refused in 1 min: client_gone through tokyo-1"},
		"its bot was stopped":             {ws, gone(time.Second, 0), ""},
		"rejected by a route":             {ws, refused(failure.Denied, func(r *tunnel.Record) { r.Rule = "routes[0] ws.okx.com" }), ""},
		"rejected since nothing lists":    {ws, refused(failure.Denied, func(r *tunnel.Record) { r.Rule, r.Upstream = "default (exchange okx has no entry)", "" }), "3 refused in 1 min: denied"},
		"ended at once":                   {ws, short("exchange", 900, 6000, 300*time.Millisecond), "0 tunnels (1 until 00:00:00), 3 ended within 5 s since 00:00:00: closed by the exchange through tokyo-1"},
		"ended at once by its client":     {ws, short("client", 900, 6000, 300*time.Millisecond), "closed by the client through tokyo-1"},
		"ended before its client asked":   {ws, short("exchange", 0, 100, 300*time.Millisecond), ""},
		"ended at once after a megabyte":  {ws, short("client", 900, 1<<20, 3*time.Second), ""},
		"ended after 6 s":                 {ws, short("exchange", 900, 6000, 6*time.Second), ""},
		"closed by the operator":          {ws, short("proxyd", 900, 6000, time.Second), ""},
		"short REST connections":          {rest, short("client", 900, 6000, 300*time.Millisecond), ""},
		"REST connections without a byte": {rest, short("upstream", 900, 0, 300*time.Millisecond), "closed by the upstream through tokyo-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onClock(t, twoUpstreams, func(r *records) {
				for range 2 {
					c.do(r, c.kind)
				}
				if row := r.row("okx", c.kind.String()); row.State.Bad() {
					t.Errorf("lost after two: %s", row.Text)
				}
				c.do(r, c.kind)
				row := r.row("okx", c.kind.String())
				if row.State.Bad() != (c.lost != "") {
					t.Fatalf("state %s: %s", row.State, row.Text)
				}
				if text := withoutDay(row.Text); c.lost != "" && !strings.Contains(text, "since ") && !strings.Contains(text, "until ") {
					t.Errorf("text %q says no time", text)
				}
				if text := strings.Replace(withoutDay(row.Text), ", since 00:00:00", "", 1); c.lost != "" && !strings.HasSuffix(text, c.lost) {
					t.Errorf("text %q, want %q", text, c.lost)
				}
				if c.lost != "" && (row.Hint == "" || strings.Contains(row.Hint, "UPSTREAM") || strings.Contains(row.Hint, "EXCHANGE")) {
					t.Errorf("hint %q", row.Hint)
				}
				time.Sleep(2 * time.Second)
				if got := r.types(); len(got) > 0 != (c.lost != "") {
					t.Errorf("events %v", got)
				}
			})
		})
	}
}

// withoutDay sets the clock of the bubbles, which begin at midnight in UTC, to UTC.
func withoutDay(text string) string {
	local := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Local().Format("15:04:05")
	return strings.ReplaceAll(text, local, "00:00:00")
}

// Tunnels that go on do not make up for opens that fail, and are named.
func TestLostWhileTunnelsGoOn(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		end := r.open(ws)
		r.open(ws)
		time.Sleep(time.Minute)
		for range 3 {
			r.refuse(ws, failure.UpstreamTimeout, nil)
		}
		row := r.row("okx", "websocket")
		if row.State != feed.Lost || withoutDay(row.Text) != "2 tunnels go on, 3 refused in 1 min, since 00:01:00: upstream_timeout by tokyo-1" {
			t.Errorf("%s: %s", row.State, row.Text)
		}
		end("upstream", 1, 1)
		if row := r.row("okx", "websocket"); !strings.HasPrefix(row.Text, "1 tunnel goes on (2 until ") || row.Lost != 1 {
			t.Errorf("%s", row.Text)
		}
	})
}

// Promise (feeds): since is when a state began: an exchange that is lost for a day has been since the first failure.
func TestSinceIsNotRenewed(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		began := time.Now()
		for range 24 * 12 {
			r.refuse(ws, failure.UpstreamRefused, nil)
			time.Sleep(5 * time.Minute)
		}
		row := r.row("okx", "websocket")
		if row.State != feed.Lost || !row.Since.Equal(began) {
			t.Errorf("%s since %v, want %v", row.State, row.Since, began)
		}
		if !strings.Contains(row.Text, "288 refused since ") {
			t.Errorf("text %q", row.Text)
		}
		if row.Failed != 11 && row.Failed != 12 { // one is just an hour old
			t.Errorf("%d failures in an hour, want 12", row.Failed)
		}
		r.open(ws)
		opened := time.Now()
		time.Sleep(time.Hour)
		if row := r.row("okx", "websocket"); row.State != feed.OK || !row.Since.Equal(opened) {
			t.Errorf("%s since %v, want %v", row.State, row.Since, opened)
		}
		if got := r.types(); len(got) != 2 || got[0] != event.ExchangeLost || got[1] != event.ExchangeBack {
			t.Errorf("events %v", got)
		}
	})
}

// What a client has closed at once three times, and has not opened again for ten
// minutes, was a bot that was started and stopped: no loss.
func TestShortTunnelsOfAClientThatLeavesAreNoLossForLong(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		for range 3 {
			end := r.open(ws)
			time.Sleep(time.Second)
			end("client", 900, 6000)
		}
		if row := r.row("okx", "websocket"); row.State != feed.Lost {
			t.Fatalf("%s", row.State)
		}
		time.Sleep(11 * time.Minute)
		if row := r.row("okx", "websocket"); row.State != feed.Idle {
			t.Errorf("%s: %s", row.State, row.Text)
		}
	})
}

// An entry that is deleted while its clients are refused still has a row that says
// so; what carries nothing for an hour goes.
func TestRowOfADeletedEntry(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		end := r.open(ws)
		time.Sleep(time.Minute)
		r.reload("exchanges: {kraken: {websocket: reject}}\ndefault: reject\n")
		time.Sleep(2 * time.Hour)
		if row := r.row("okx", "websocket"); row.State != feed.OK || row.Configured || row.Tunnels != 1 {
			t.Errorf("with a live tunnel: %+v", row)
		}
		if row := r.row("okx", "http"); row.Exchange != "" {
			t.Errorf("what was never used has a row: %+v", row)
		}
		end("client", 1, 1)
		for range 3 {
			r.refuse(ws, failure.Denied, func(rec *tunnel.Record) {
				rec.Rule, rec.Upstream, rec.Pool = "default (exchange okx has no entry)", "", ""
			})
		}
		if row := r.row("okx", "websocket"); row.State != feed.Lost || !strings.Contains(row.Hint, "removed") {
			t.Errorf("refused: %+v", row)
		}
		time.Sleep(59 * time.Minute)
		if row := r.row("okx", "websocket"); row.State != feed.Lost {
			t.Errorf("after an hour: %+v", row)
		}
		time.Sleep(3 * time.Minute)
		if row := r.row("okx", "websocket"); row.Exchange != "" {
			t.Errorf("after more than an hour: %+v", row)
		}
		if n := len(r.table.Report().Feeds); n != 0 {
			t.Errorf("%d feeds left", n)
		}
		if row := r.row("kraken", "websocket"); row.State != feed.NoTraffic || row.Outbound != "reject" {
			t.Errorf("%+v", row)
		}
	})
}

// A pool without a member that can be used is a loss, also before any traffic, but an
// event only once a client has asked; while tunnels go on it is said beside them.
func TestPoolWithoutUsableMemberIsLost(t *testing.T) {
	t.Parallel()
	onClock(t, twoUpstreams, func(r *records) {
		r.open(rest)
		set := r.router.Load().Set()
		set.Upstream("tokyo-1").SetDrained("", true)
		set.Upstream("tokyo-2").SetDrained("okx", true)
		row := r.row("okx", "websocket")
		if row.State != feed.Lost || withoutDay(row.Text) != "0 tunnels, since 00:00:00: no upstream can be used: tokyo-1 is drained, tokyo-2 is drained for okx" || row.Hint != "to end the drain: proxyd resume tokyo-1" {
			t.Errorf("%+v", row)
		}
		if row := r.row("okx", "http"); row.State != feed.OK || row.Cause == "" || !strings.HasPrefix(row.Text, "no upstream can be used for new connections: ") {
			t.Errorf("%+v", row)
		}
		time.Sleep(2 * time.Second)
		set.Upstream("tokyo-1").SetDrained("", false)
		time.Sleep(2 * time.Second)
		if row := r.row("okx", "websocket"); row.State != feed.NoTraffic {
			t.Errorf("%+v", row)
		}
		if got := r.types(); len(got) != 0 { // no client wants it
			t.Errorf("events %v", got)
		}
		set.Upstream("tokyo-1").SetDrained("", true)
		for range 3 {
			r.refuse(ws, failure.NoUpstream, func(rec *tunnel.Record) { rec.Upstream = "" })
		}
		row = r.row("okx", "websocket")
		if !strings.HasSuffix(row.Text, ": no upstream can be used: tokyo-1 is drained, tokyo-2 is drained for okx") || row.Hint != "to end the drain: proxyd resume tokyo-1" {
			t.Errorf("%s; %s", row.Text, row.Hint)
		}
		time.Sleep(2 * time.Second)
		if got := r.types(); len(got) != 1 || got[0] != event.ExchangeLost {
			t.Errorf("events %v", got)
		}
	})
}

// What to do about a failure names the upstreams that fail so, and not those that fail
// in another manner.
func TestHintNamesTheUpstreamsOfItsCause(t *testing.T) {
	onClock(t, twoUpstreams, func(r *records) {
		for _, name := range []string{"tokyo-2", "tokyo-2", "tokyo-1"} {
			class := failure.UpstreamDenied
			if name == "tokyo-2" {
				class = failure.UpstreamProtocol
			}
			r.refuse(ws, class, func(rec *tunnel.Record) { rec.Upstream = name })
			time.Sleep(time.Second)
		}
		if row := r.row("okx", "websocket"); !strings.HasPrefix(row.Hint, "ask the provider of tokyo-1, or ") {
			t.Errorf("%+v", row)
		}
	})
}

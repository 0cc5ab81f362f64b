package feed_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/feed"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

const twoUpstreams = `
pools: {asia: {proxies: [{name: tokyo-1, url: "http://127.0.0.1:1"}, {name: tokyo-2, url: "http://127.0.0.1:2"}]}}
exchanges:
  okx: {websocket: asia, http: asia}
  kraken: {websocket: reject}
default: reject
`

// records is a Table that is fed with records, on a clock that a test moves. It has
// no live tunnels to sample.
type records struct {
	t      testing.TB
	table  *feed.Table
	router atomic.Pointer[router.Router]
	last   int

	mu     sync.Mutex
	events []event.Event
}

// onClock runs a test with a Table in a bubble of its own time.
func onClock(t *testing.T, text string, test func(r *records)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &records{t: t}
		r.reload(text)
		r.table = feed.New(feed.Options{
			Snapshot: r.router.Load, Each: func(func(tunnel.Live) bool) {}, Emit: r.emit,
		})
		go func() { _ = r.table.Run(t.Context()) }() // ends with the test
		test(r)
	})
}

func (r *records) reload(text string) {
	c := testkit.Config(r.t, text)
	set, err := upstream.NewSet(c, nil, func(netip.AddrPort) bool { return false })
	if err != nil {
		r.t.Fatal(err)
	}
	made, err := router.New(c, set)
	if err != nil {
		r.t.Fatal(err)
	}
	r.router.Store(made)
}

func (r *records) emit(e event.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
}

func (r *records) types() (list []event.Type) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		list = append(list, e.Type)
	}
	return list
}

// record returns a record of okx through tokyo-1, changed by edit.
func (r *records) record(e tunnel.Event, kind catalog.Kind, edit func(*tunnel.Record)) *tunnel.Record {
	r.last++
	rec := &tunnel.Record{Event: e, Opening: tunnel.Opening{
		ID: fmt.Sprint(r.last), Host: "ws.okx.com", Exchange: "okx", Kind: kind, Upstream: "tokyo-1", Pool: "asia", Start: time.Now(), Dial: 20 * time.Millisecond,
	}, Slot: new(any)}
	if edit != nil {
		edit(rec)
	}
	return rec
}

// open opens a tunnel; the function that it returns ends it.
func (r *records) open(kind catalog.Kind) (end func(by string, up, down int64)) {
	rec := r.record(tunnel.Opened, kind, nil)
	r.table.Observe(rec)
	return func(by string, up, down int64) {
		end := *rec
		end.Event, end.ClosedBy, end.Reason, end.Up, end.Down = tunnel.Ended, by, "eof", up, down
		end.Duration = time.Since(rec.Start)
		r.table.Observe(&end)
	}
}

func (r *records) refuse(kind catalog.Kind, class failure.Class, edit func(*tunnel.Record)) {
	r.table.Observe(r.record(tunnel.Refused, kind, func(rec *tunnel.Record) {
		rec.Class = class
		if edit != nil {
			edit(rec)
		}
	}))
}

func (r *records) row(exchange, kind string) feed.Exchange {
	r.t.Helper()
	for _, row := range r.table.Report().Exchanges {
		if row.Exchange == exchange && row.Kind == kind {
			return row
		}
	}
	return feed.Exchange{}
}

const (
	ws   = catalog.KindWebsocket
	rest = catalog.KindHTTP
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
		r.table.Observe(r.record(tunnel.Served, rest, func(rec *tunnel.Record) { rec.Up, rec.Down = 10, 5000 }))
		row := r.row("okx", "http")
		if row.State != feed.OK || row.Opened != 1 || row.Tunnels != 0 || row.LastByte.IsZero() {
			t.Errorf("%+v", row)
		}
		time.Sleep(2 * time.Minute)
		if row := r.row("okx", "http"); row.State != feed.Idle {
			t.Errorf("%+v", row)
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

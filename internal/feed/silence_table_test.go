package feed

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/event"
	"proxyd/internal/relay"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// quiet is a Table with tunnels over real sockets, whose seconds a test lets pass.
type quiet struct {
	*testing.T
	table   *Table
	handler *tunnel.Handler
	set     *upstream.Set
	router  atomic.Pointer[router.Router]
	now     time.Time
	urls    [2]string
	far     chan net.Conn // the exchange's ends, as they are accepted
	lines   map[string]*line
	events  []event.Event
	ends    chan tunnel.Record
}

// line is a tunnel: the exchange's end, and what it sends in each second.
type line struct {
	far  net.Conn
	rate func(sec int) int
	sent int64
	sec  int
	over bool
}

// steady sends the same each second.
func steady(n int) func(int) int { return func(int) int { return n } }

// beats sends 60 bytes each 20 s.
func beats(sec int) int {
	if sec%20 == 0 {
		return 60
	}
	return 0
}

func newQuiet(t *testing.T, silence string) *quiet {
	t.Helper()
	q := &quiet{T: t, now: time.Now(), far: make(chan net.Conn, 1), lines: map[string]*line{}, ends: make(chan tunnel.Record, 200)}
	exchange := testkit.NewTCP(t, func(c net.Conn) {
		q.far <- c
		testkit.Hang(c)
	})
	for i := range q.urls {
		q.urls[i] = testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": exchange.Addr}}).URL()
	}
	q.reload(silence)
	q.handler = tunnel.NewHandler(tunnel.Options{Snapshot: q.router.Load, Relay: relay.NewEngine(), Record: func(r *tunnel.Record) {
		q.table.Observe(r)
		if r.Event == tunnel.Ended {
			q.ends <- *r
		}
	}})
	q.table = New(Options{Snapshot: q.router.Load, Each: q.handler.Each, Emit: func(e event.Event) { q.events = append(q.events, e) }})
	t.Cleanup(func() {
		q.handler.CloseAll()
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		if err := q.handler.Wait(ctx); err != nil {
			t.Error(err)
		}
		q.set.Close()
	})
	return q
}

func (q *quiet) reload(silence string) {
	q.Helper()
	c := testkit.Config(q.T, fmt.Sprintf(`
pools:
  both: {proxies: [{name: tokyo-1, url: "%s"}, {name: tokyo-2, url: "%s"}]}
  one: {proxies: [{name: tokyo-1, url: "%[1]s"}]}
exchanges: {okx: {websocket: both}, kraken: {websocket: one}}
default: reject
silence: %[3]s
`, q.urls[0], q.urls[1], silence))
	set, err := upstream.NewSet(c, q.set, func(netip.AddrPort) bool { return false })
	if err != nil {
		q.Fatal(err)
	}
	r, err := router.New(c, set)
	if err != nil {
		q.Fatal(err)
	}
	q.set = set
	q.router.Store(r)
}

// open opens a tunnel whose client reads all that comes, and returns it with its
// upstream.
func (q *quiet) open(host string, rate func(int) int) (*line, string) {
	q.Helper()
	return q.openFor(host, rate, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
}

// openFor is open for a client that does something else.
func (q *quiet) openFor(host string, rate func(int) int, client func(net.Conn)) (*line, string) {
	q.Helper()
	tun, err := q.handler.Open(q.Context(), tunnel.Request{Client: netip.MustParseAddrPort("127.0.0.1:1"), Protocol: "connect", Host: host, Port: 443})
	if err != nil {
		q.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		q.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		q.Fatal(err)
	}
	near, err := ln.Accept()
	if err != nil {
		q.Fatal(err)
	}
	read := make(chan struct{})
	go func() { // ends with conn
		defer close(read)
		client(conn)
	}()
	q.Cleanup(func() { _ = conn.Close(); <-read })
	tun.Carry(near, nil)
	l := &line{far: <-q.far, rate: rate}
	q.lines[tun.ID()] = l
	through := ""
	q.handler.Each(func(live tunnel.Live) bool {
		if live.ID == tun.ID() {
			through = live.Upstream
		}
		return true
	})
	return l, through
}

// pass lets seconds pass: the exchange sends, all of it arrives, and the table looks.
func (q *quiet) pass(seconds int) {
	q.Helper()
	for range seconds {
		for _, l := range q.lines {
			if n := l.rate(l.sec); n > 0 && !l.over {
				if _, err := l.far.Write(make([]byte, n)); err == nil {
					l.sent += int64(n)
				}
			}
			l.sec++
		}
		for end := time.Now().Add(testkit.Patience); !q.arrived(); time.Sleep(20 * time.Microsecond) {
			if time.Now().After(end) {
				q.Fatal("the bytes did not arrive")
			}
		}
		q.now = q.now.Add(time.Second)
		before := len(q.events)
		q.table.tick(q.now)
		closed := 0
		for _, e := range q.events[before:] {
			if e.Type == event.TunnelsClosed {
				closed += e.Count
			}
		}
		q.bury(closed)
	}
}

// arrived reports whether the tunnels have carried what was sent.
func (q *quiet) arrived() bool {
	all := true
	q.handler.Each(func(live tunnel.Live) bool {
		all = all && live.Down == q.lines[live.ID].sent
		return all
	})
	return all
}

// bury waits for the ends of n closed tunnels.
func (q *quiet) bury(n int) {
	q.Helper()
	if n == 0 {
		return
	}
	for range n {
		select {
		case r := <-q.ends:
			q.lines[r.ID].over = true
			if r.Reason != relay.ReasonSilent || r.ClosedBy != string(relay.Proxyd) {
				q.Errorf("it ended by %s, %s", r.ClosedBy, r.Reason)
			}
		case <-time.After(testkit.Patience):
			q.Fatal("a closed tunnel does not end")
		}
	}
	open := 0
	for _, l := range q.lines {
		if !l.over {
			open++
		}
	}
	testkit.Eventually(q, testkit.Patience, "closed tunnels to be gone", func() bool { return q.handler.Active() == open })
}

// emitted returns the events of a type since the last call, and forgets the others.
func (q *quiet) emitted(typ event.Type) (found []event.Event) {
	for _, e := range q.events {
		if e.Type == typ {
			found = append(found, e)
		}
	}
	q.events = nil
	return found
}

// state returns that of an exchange's websockets.
func (q *quiet) state(exchange string) (s State, text string) {
	for _, row := range q.table.Report().Exchanges {
		if row.Exchange == exchange && row.Kind == "websocket" {
			return row.State, row.Text
		}
	}
	return "", ""
}

// A stream that dies behind its heartbeats makes its feed silent, with the upstream
// to blame since the exchange goes on through another; it is back within seconds.
//
// Promise (feeds): a feed that dies behind its heartbeats is found by what it carried before.
func TestFeedThatDiesBehindItsHeartbeatsIsSilent(t *testing.T) {
	t.Parallel()
	q := newQuiet(t, "auto")
	first, through := q.open("ws.okx.com", steady(700))
	q.open("ws.okx.com", steady(700))
	q.open("ws.kraken.com", steady(500))
	q.pass(1290)
	if n := len(q.events); n > 0 {
		t.Fatalf("%d events: %+v", n, q.events)
	}
	first.rate = beats
	q.pass(121)
	found := q.emitted(event.FeedSilent)
	if len(found) != 1 || found[0].Exchange != "okx" || found[0].Upstream != through || found[0].Count != 1 || found[0].Severity != event.Error {
		t.Fatalf("%+v, want okx through %s", found, through)
	}
	other := map[string]string{"tokyo-1": "tokyo-2", "tokyo-2": "tokyo-1"}[through]
	for _, part := range []string{"silent since ", ": 1 of 1 tunnel through " + through + " (the feed carried 42 kB a minute); okx through " + other + " goes on: " + through} {
		if !strings.Contains(found[0].Text, part) {
			t.Errorf("%q does not say %q", found[0].Text, part)
		}
	}
	if s, text := q.state("okx"); s != Silent || !strings.Contains(text, "goes on: "+through) {
		t.Errorf("okx is %s: %s", s, text)
	}
	if s, _ := q.state("kraken"); s != OK {
		t.Errorf("kraken is %s", s)
	}
	q.pass(600)
	if n := len(q.events); n > 0 {
		t.Errorf("%d more events while it lasts: %+v", n, q.events)
	}
	first.rate = steady(700)
	q.pass(5)
	if found := q.emitted(event.FeedBack); len(found) != 1 || found[0].Exchange != "okx" {
		t.Errorf("back: %+v", found)
	}
	if s, _ := q.state("okx"); s != OK {
		t.Errorf("okx is %s", s)
	}
}

// Silent tunnels are closed a few at a time, and count against their upstream since
// the exchange goes on through the other; those that carry stay.
//
// Promise (feeds): at most half of a feed's tunnels are closed for silence in 30 s, and ten a second of an exchange.
func TestSilentTunnelsAreClosedAFewAtATime(t *testing.T) {
	t.Parallel()
	q := newQuiet(t, "{window_seconds: 10, bytes: 500, action: close}")
	var dead []*line
	for range 60 {
		if l, through := q.open("ws.okx.com", steady(300)); through == "tokyo-1" {
			dead = append(dead, l)
		}
	}
	q.pass(30)
	if len(dead) != 30 || q.handler.Active() != 60 || len(q.events) > 0 {
		t.Fatalf("%d through tokyo-1, %d in all; %v", len(dead), q.handler.Active(), q.events)
	}
	for _, l := range dead {
		l.rate = steady(10)
	}
	most, before := 0, 60
	closed := func() int { return 60 - q.handler.Active() }
	for sec := range 60 {
		q.pass(1)
		most, before = max(most, before-q.handler.Active()), q.handler.Active()
		if sec < 30 && closed() > 15 {
			t.Fatalf("%d of 30 closed after %d s", closed(), sec)
		}
	}
	if most != 10 || closed() <= 15 || closed() > 30 {
		t.Errorf("at most %d in a second, %d in all", most, closed())
	}
	if _, _, ejected := q.set.Upstream("tokyo-1").Ejected(); !ejected {
		t.Error("tokyo-1 is not ejected though okx goes on through tokyo-2")
	}
	if _, _, ejected := q.set.Upstream("tokyo-2").Ejected(); ejected {
		t.Error("tokyo-2 is ejected")
	}
	for _, l := range q.lines {
		if l.over && l.rate(0) != 10 {
			t.Error("a tunnel that carries was closed")
		}
	}
	if found := q.emitted(event.TunnelsClosed); len(found) < 2 || found[0].Count != 10 {
		t.Errorf("%+v", found)
	}
}

// An upstream is not charged when the exchange is silent through the other, too.
func TestSilenceOfExchangeIsNotCharged(t *testing.T) {
	t.Parallel()
	q := newQuiet(t, "{window_seconds: 10, bytes: 500, action: close}")
	for range 20 {
		q.open("ws.okx.com", steady(10))
	}
	q.open("ws.kraken.com", steady(300))
	q.pass(20)
	if q.handler.Active() >= 21 {
		t.Fatal("none is closed")
	}
	for _, name := range []string{"tokyo-1", "tokyo-2"} {
		if _, _, ejected := q.set.Upstream(name).Ejected(); ejected {
			t.Errorf("%s is ejected", name)
		}
	}
	found := q.emitted(event.FeedSilent)
	if len(found) != 2 || !strings.Contains(found[1].Text, "silent through 2 upstreams: okx") {
		t.Errorf("%+v", found)
	}
}

// A reload changes the rule of live tunnels.
//
// Promise (feeds): a reload that changes silence applies to live tunnels.
func TestReloadChangesSilence(t *testing.T) {
	t.Parallel()
	q := newQuiet(t, "off")
	q.open("ws.kraken.com", steady(10))
	q.pass(60)
	if len(q.events) > 0 {
		t.Fatalf("off: %+v", q.events)
	}
	q.reload("{window_seconds: 10, bytes: 500}")
	q.pass(13)
	if found := q.emitted(event.FeedSilent); len(found) != 1 {
		t.Fatalf("a window: %+v", found)
	}
	q.reload("{window_seconds: 10, bytes: 500}")
	q.pass(2)
	if len(q.events) > 0 {
		t.Errorf("the same again: %+v", q.events)
	}
	q.reload("off")
	q.pass(2)
	if found := q.emitted(event.FeedBack); len(found) != 1 || !strings.Contains(found[0].Text, "configuration has changed") {
		t.Errorf("off again: %+v", found)
	}
	if s, _ := q.state("kraken"); s != OK {
		t.Errorf("kraken is %s", s)
	}
}

// A client that does not read is an event of its own: its tunnel is not silent, and
// not closed for it.
//
// Promise (feeds): a client that does not read is never taken for a silence of the exchange.
func TestClientThatDoesNotReadIsReported(t *testing.T) {
	t.Parallel()
	q := newQuiet(t, "{window_seconds: 5, bytes: 500, action: close}")
	l, _ := q.openFor("ws.kraken.com", steady(0), func(net.Conn) {})
	wrote := make(chan struct{})
	go func() { // ends with the tunnel
		defer close(wrote)
		for {
			if _, err := l.far.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { q.handler.CloseAll(); <-wrote })
	stalled := func() (yes bool) {
		q.handler.Each(func(live tunnel.Live) bool { yes = live.ClientStalled; return true })
		return yes
	}
	testkit.Eventually(t, testkit.Patience, "it does not read", stalled)
	for range 3 * stallTime {
		testkit.Eventually(t, testkit.Patience, "it does not read", stalled)
		q.now = q.now.Add(time.Second)
		q.table.tick(q.now)
	}
	if len(q.events) != 1 || q.events[0].Type != event.ClientStalled || q.events[0].Exchange != "kraken" || q.events[0].Count != 1 {
		t.Errorf("%+v", q.events)
	}
	if q.handler.Active() != 1 {
		t.Error("it is closed")
	}
}

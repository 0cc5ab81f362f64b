package feed

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/event"
	"proxyd/internal/relay"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
	"proxyd/internal/testkit/routertest"
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
	r := routertest.New(q.T, fmt.Sprintf(`
pools:
  both: {proxies: [{name: tokyo-1, url: "%s"}, {name: tokyo-2, url: "%s"}]}
  one: {proxies: [{name: tokyo-1, url: "%[1]s"}]}
exchanges: {okx: {websocket: both}, kraken: {websocket: one}}
default: reject
silence: %[3]s
`, q.urls[0], q.urls[1], silence), q.set)
	q.set = r.Set()
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

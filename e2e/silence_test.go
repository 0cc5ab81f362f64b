package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"proxyd/internal/testkit"
)

// silenceWindow is the window of these tests; fewer than silenceBytes in it are
// silence, which is more than a ping each 200 ms is.
const (
	silenceWindow = 5 * time.Second
	silenceBytes  = 2000
)

// silenceEvent is what these tests read of an event.
type silenceEvent struct {
	Time                           time.Time
	Type, Exchange, Upstream, Text string
	Count                          int
}

// silenceDesk is a daemon between websocket clients and an exchange, through an
// upstream.
type silenceDesk struct {
	*process
	socket   string
	exchange *testkit.Exchange
	clients  sync.WaitGroup
}

// stream is what a client has seen.
type stream struct {
	opened atomic.Int64
	last   atomic.Int64 // when the last message came, in Unix nanoseconds
}

func newSilenceDesk(t *testing.T, action string) *silenceDesk {
	t.Helper()
	d := &silenceDesk{socket: filepath.Join(t.TempDir(), "admin"), exchange: testkit.NewExchange(t)}
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": d.exchange.TLS}})
	d.process = launch(t, "", fmt.Sprintf(`admin: unix:%s
silence: {window_seconds: %g, bytes: %d, action: %s}
pools: {tokyo: {proxies: [{name: tokyo-1, url: "%s"}]}}
exchanges: {okx: {websocket: tokyo}, kraken: {websocket: tokyo}}
default: reject
`, d.socket, silenceWindow.Seconds(), silenceBytes, action, up.URL()))
	return d
}

// client opens a websocket and reads it, again and again, until ctx ends.
func (d *silenceDesk) client(ctx context.Context, address string, s *stream) {
	d.clients.Go(func() { // ends with ctx
		tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: d.Addr}), TLSClientConfig: &tls.Config{RootCAs: d.exchange.CA.Pool}}
		defer tr.CloseIdleConnections()
		for ctx.Err() == nil {
			ws, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
			if err != nil {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			s.opened.Add(1)
			for {
				if _, _, err := ws.Read(ctx); err != nil {
					break
				}
				s.last.Store(time.Now().UnixNano())
			}
			_ = ws.CloseNow()
		}
	})
}

// events returns those of a type.
func (d *silenceDesk) events(t *testing.T, typ string) (found []silenceEvent) {
	var all struct{ Events []silenceEvent }
	if err := json.Unmarshal([]byte(d.admin(t, d.socket, "/api/v1/events")), &all); err != nil {
		t.Fatal(err)
	}
	for _, e := range all.Events {
		if e.Type == typ {
			found = append(found, e)
		}
	}
	return found
}

// Of 50 streams, one that the exchange freezes while its pings go on is found within
// the window, as that subscription; the only one of another exchange as its feed.
//
// Promise (feeds): a stream that the exchange freezes while its pings go on is reported within the window.
func TestFrozenStreamIsFound(t *testing.T) {
	t.Parallel()
	d := newSilenceDesk(t, "report")
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() { stop(); d.clients.Wait() })
	var others, okx, kraken stream
	for range 49 {
		d.client(ctx, "wss://ws.okx.com/ticker?ms=20&pad=1000", &others)
	}
	testkit.Eventually(t, testkit.Patience, "49 streams", func() bool { return others.opened.Load() == 49 })
	d.client(ctx, "wss://ws.okx.com/freeze?ms=20&n=300", &okx)
	d.client(ctx, "wss://ws.kraken.com/freeze?ms=20&n=300", &kraken)
	for _, c := range []struct {
		typ, exchange, text string
		frozen              *stream
	}{
		{"tunnel_silent", "okx", "1 of 50 tunnels silent while the feed goes on: that subscription", &okx},
		{"feed_silent", "kraken", fmt.Sprintf(": 1 of 1 tunnel through tokyo-1 (fewer than %d bytes in 5 s); other exchanges go on, so it is kraken, or how tokyo-1 treats it", silenceBytes), &kraken},
	} {
		var e silenceEvent
		testkit.Eventually(t, 4*testkit.Patience, c.typ, func() bool {
			found := d.events(t, c.typ)
			if len(found) > 0 {
				e = found[0]
			}
			return len(found) > 0
		})
		if e.Exchange != c.exchange || e.Upstream != "tokyo-1" || e.Count != 1 || !strings.Contains(e.Text, c.text) {
			t.Errorf("%+v, want %q", e, c.text)
		}
		if took := e.Time.Sub(time.Unix(0, c.frozen.last.Load())); took < -soon || took > silenceWindow+soon { // a busy client sees the last message late
			t.Errorf("%s after %v", c.typ, took)
		}
	}
	if n := len(d.events(t, "feed_silent")) + len(d.events(t, "tunnel_silent")); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
	out, _ := d.command(t, "status")
	if line, _, _ := strings.Cut(out, "\n"); !strings.HasPrefix(line, "BAD: kraken websocket: silent since ") {
		t.Errorf("line 1: %s", line)
	}
	if status := d.admin(t, d.socket, "/api/v1/status"); strings.Count(status, `"state": "silent"`) != 1 {
		t.Errorf("want one silent exchange, kraken, in\n%s", status)
	}
	metrics := d.admin(t, d.socket, "/metrics")
	for _, want := range []string{
		`proxyd_feed_silent{exchange="kraken",kind="websocket",upstream="tokyo-1"} 1`, `proxyd_feed_silent{exchange="okx",kind="websocket",upstream="tokyo-1"} 0`,
		`proxyd_exchange_lost{exchange="kraken",kind="websocket"} 1`, `proxyd_exchange_lost{exchange="okx",kind="websocket"} 0`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
}

// With action: close, a frozen stream is closed, so that its client reconnects; the
// others stay.
//
// Promise (feeds): with action close, only silent tunnels are closed.
func TestFrozenStreamIsClosed(t *testing.T) {
	t.Parallel()
	d := newSilenceDesk(t, "close")
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() { stop(); d.clients.Wait() })
	var others, frozen stream
	for range 5 {
		d.client(ctx, "wss://ws.okx.com/ticker?ms=20&pad=1000", &others)
	}
	d.client(ctx, "wss://ws.okx.com/freeze?ms=20&n=50", &frozen)
	testkit.Eventually(t, 4*testkit.Patience, "it is opened again, twice", func() bool { return frozen.opened.Load() == 3 })
	if n := others.opened.Load(); n != 5 {
		t.Errorf("the others were opened %d times", n)
	}
	if log := d.Log.String(); !strings.Contains(log, `"reason":"silence"`) || !strings.Contains(log, `"closed_by":"proxyd"`) {
		t.Errorf("no record of a close for silence\n%s", log)
	}
	if e := d.events(t, "tunnels_closed"); len(e) == 0 || e[0].Count != 1 || !strings.Contains(e[0].Text, "1 tunnel closed for silence") {
		t.Errorf("%+v", e)
	}
}

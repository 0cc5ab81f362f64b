package feed_test

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/event"
	"proxyd/internal/feed"
	"proxyd/internal/testkit"
	"proxyd/internal/tunnel"
)

const futures = "fstream.binance.com" // the catalogue's, of binance_futures

// venue serves whatever the proxies carry to it, and two proxies that do.
func venue(t testing.TB, serve func(net.Conn)) (one, two *testkit.Proxy, config string) {
	t.Helper()
	x := testkit.NewTCP(t, serve)
	one = testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": x.Addr}})
	two = testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": x.Addr}})
	return one, two, `
pools:
  asia:
    strategy: round_robin
    proxies:
      - {name: tokyo-1, url: "` + one.URL() + `"}
      - {name: tokyo-2, url: "` + two.URL() + `"}
exchanges:
  binance_futures: {websocket: asia, http: asia}
  okx: {websocket: asia}
default: reject
`
}

// Promise (feeds): an exchange whose last three opens failed is lost, with the tunnels that it had, who refused it, and since when; the first open that succeeds ends that.
func TestRefusedExchangeIsLostUntilOneOpens(t *testing.T) {
	t.Parallel()
	one, two, config := venue(t, testkit.Echo)
	h := newHost(t, config)
	if row := h.row("okx", "websocket"); row.State != feed.NoTraffic || row.Text != "no traffic yet" || row.Outbound != "asia" || !row.Configured {
		t.Errorf("before any traffic: %+v", row)
	}
	var clients []*net.TCPConn
	for range 4 {
		c, err := h.open(futures)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	if row := h.row("binance_futures", "websocket"); row.State != feed.OK || row.Tunnels != 4 || row.Opened != 4 {
		t.Fatalf("%+v", row)
	}
	denied := testkit.On(testkit.AtRequest, testkit.Answer("403 Forbidden", ""))
	one.SetFault(denied)
	two.SetFault(denied)
	one.ResetAll()
	two.ResetAll()
	for _, c := range clients {
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
	testkit.Eventually(t, testkit.Patience, "no tunnel is open", func() bool { return h.row("binance_futures", "websocket").Tunnels == 0 })
	began := time.Now()
	for i := range 3 {
		if row := h.row("binance_futures", "websocket"); row.State != feed.Idle {
			t.Fatalf("after %d failures: %+v", i, row)
		}
		if _, err := h.open(futures); err == nil {
			t.Fatal("it opened")
		}
	}
	row := h.row("binance_futures", "websocket")
	if row.State != feed.Lost || row.Lost != 4 || row.Failed != 3 || row.Since.Before(began) {
		t.Errorf("%+v", row)
	}
	if !strings.HasPrefix(row.Text, "0 tunnels (4 until ") || !strings.HasSuffix(row.Text, "), 3 refused in 1 min: upstream_denied by tokyo-1, tokyo-2") {
		t.Errorf("text %q", row.Text)
	}
	if !strings.Contains(row.Hint, "proxyd probe binance_futures") {
		t.Errorf("hint %q", row.Hint)
	}
	if rows := h.table.Report().Exchanges; rows[0].Exchange != "binance_futures" || rows[0].Kind != "websocket" {
		t.Errorf("the first row is %s", rows[0].Exchange)
	}
	text := row.Text
	if again := h.row("binance_futures", "websocket"); !again.Since.Equal(row.Since) {
		t.Error("since was renewed")
	}
	testkit.Eventually(t, testkit.Patience, "the event", func() bool { return len(h.emitted(event.ExchangeLost)) > 0 })
	one.SetFault(nil)
	two.SetFault(nil)
	if _, err := h.open(futures); err != nil {
		t.Fatal(err)
	}
	if row := h.row("binance_futures", "websocket"); row.State != feed.OK || row.Text != "" || row.Hint != "" {
		t.Errorf("after the cure: %+v", row)
	}
	testkit.Eventually(t, testkit.Patience, "the events", func() bool { return len(h.emitted(event.ExchangeBack)) > 0 })
	lost, back := h.emitted(event.ExchangeLost), h.emitted(event.ExchangeBack)
	if len(lost) != 1 || lost[0].Count != 4 || lost[0].Severity != event.Error || lost[0].Text != text || lost[0].Hint == "" || !lost[0].Concerns("tokyo-1") || !lost[0].Concerns("tokyo-2") {
		t.Errorf("lost: %+v", lost)
	}
	if len(back) != 1 || back[0].Severity != event.Info || !strings.HasPrefix(back[0].Text, "works again after ") {
		t.Errorf("back: %+v", back)
	}
}

// One upstream that fails is no loss while another one does it.
func TestExchangeIsNotLostWhileFailoverSucceeds(t *testing.T) {
	t.Parallel()
	one, _, config := venue(t, testkit.Echo)
	h := newHost(t, config)
	one.SetFault(testkit.On(testkit.AtRequest, testkit.Answer("403 Forbidden", "")))
	for range 6 {
		if _, err := h.open(futures); err != nil {
			t.Fatal(err)
		}
	}
	if row := h.row("binance_futures", "websocket"); row.State != feed.OK || row.Failed != 0 || row.Tunnels != 6 {
		t.Errorf("%+v", row)
	}
	if row, ok := h.feed("binance_futures", "websocket", "tokyo-1"); !ok || row.Failed == 0 || row.LastFailure.Class != "upstream_denied" {
		t.Errorf("the feed through tokyo-1: %+v", row)
	}
}

// Promise (feeds): a client that closes its tunnels and opens none is idle, which is no alarm.
func TestClosedByItsClientIsIdle(t *testing.T) {
	t.Parallel()
	_, _, config := venue(t, testkit.Echo)
	h := newHost(t, config)
	c, err := h.open(futures)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	testkit.Eventually(t, testkit.Patience, "it is closed", func() bool { return h.row("binance_futures", "websocket").Tunnels == 0 })
	row := h.row("binance_futures", "websocket")
	if row.State != feed.Idle || !strings.HasPrefix(row.Text, "idle since ") || row.LastClose == nil || row.LastClose.By != "client" || row.Closed != 1 {
		t.Errorf("%+v", row)
	}
}

// Bytes are counted once, whether a sample or the end sees them, and rates follow.
func TestBytesOfLiveAndEndedTunnels(t *testing.T) {
	t.Parallel()
	_, _, config := venue(t, testkit.Echo)
	h := newHost(t, config)
	c, err := h.open(futures)
	if err != nil {
		t.Fatal(err)
	}
	const size = 60_000
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	sum := func() (n int64) {
		for _, bytes := range h.row("binance_futures", "websocket").History {
			n += bytes
		}
		return n
	}
	testkit.Eventually(t, testkit.Patience, "the history has the bytes", func() bool { return sum() == size })
	row := h.row("binance_futures", "websocket")
	if row.Down.Minute != size/60.0 || row.Up.Minute != size/60.0 || row.LastByte.IsZero() {
		t.Errorf("%+v", row)
	}
	if _, err := c.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	testkit.Eventually(t, testkit.Patience, "the history has all bytes", func() bool { return sum() == size+100 })
}

// Tunnels come, go and are read while the table samples.
func TestTableInUseByMany(t *testing.T) {
	t.Parallel()
	_, _, config := venue(t, testkit.Echo)
	h := newHost(t, config)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if c, err := h.open(futures); err != nil {
					t.Error(err)
				} else {
					_, _ = c.Write([]byte("x"))
					h.Each(func(l tunnel.Live) bool { h.table.Tunnel(l); return true })
					_ = c.Close()
				}
			}
		})
		all.Go(func() {
			for range 50 {
				h.table.Report()
				h.table.Exchanges()
			}
		})
	}
	all.Wait()
	testkit.Eventually(t, testkit.Patience, "all are closed", func() bool {
		row := h.row("binance_futures", "websocket")
		return row.Opened == 160 && row.Closed == 160 && row.Tunnels == 0
	})
}

// Promise (feeds): an exchange whose tunnels all ended at once is back when one has lasted for five seconds.
func TestTunnelThatLastsEndsALoss(t *testing.T) {
	t.Parallel()
	_, _, config := venue(t, testkit.Hang)
	h := newHost(t, config)
	for range 3 {
		c, err := h.open(futures)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte("GET / HTTP/1.1"))
		testkit.Eventually(t, testkit.Patience, "it is sent", func() (sent bool) {
			h.Each(func(l tunnel.Live) bool { sent = sent || l.Up > 0; return true })
			return sent
		})
		_ = c.Close()
		h.wait()
	}
	testkit.Eventually(t, testkit.Patience, "it is lost", func() bool { return h.row("binance_futures", "websocket").State == feed.Lost })
	began := time.Now()
	c, err := h.open(futures)
	if err != nil {
		t.Fatal(err)
	}
	if row := h.row("binance_futures", "websocket"); row.State != feed.Lost {
		t.Errorf("when it opened: %+v", row)
	}
	testkit.Eventually(t, testkit.Patience, "it is back", func() bool { return h.row("binance_futures", "websocket").State == feed.OK })
	if took := time.Since(began); took < 5*time.Second || took > 10*time.Second {
		t.Errorf("back after %v", took)
	}
	_ = c.Close()
}

// An upstream that dies takes its tunnels along; those that the clients open at once
// through the other one take their place.
func TestReconnectsAfterAnUpstreamHasDied(t *testing.T) {
	t.Parallel()
	one, _, config := venue(t, testkit.Echo)
	h := newHost(t, config)
	var clients []*net.TCPConn
	for range 10 {
		c, err := h.open(futures)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	one.Stop()
	testkit.Eventually(t, testkit.Patience, "five clients see the end", func() bool {
		clients = slices.DeleteFunc(clients, func(c *net.TCPConn) bool {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			_, err := c.Read(make([]byte, 1))
			ended := err != nil && !errors.Is(err, os.ErrDeadlineExceeded) // it went through the one that died
			if ended {
				_ = c.Close()
			}
			return ended
		})
		return len(clients) == 5
	})
	testkit.Eventually(t, testkit.Patience, "five are open no more", func() bool { return h.row("binance_futures", "websocket").Tunnels == 5 })
	for range 5 {
		if _, err := h.open(futures); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, testkit.Patience, "five ends are recorded", func() bool { return h.row("binance_futures", "websocket").Closed == 5 })
	row := h.row("binance_futures", "websocket")
	if row.Tunnels != 10 || row.TunnelsMax != 10 || row.Opened != 15 || row.Reconnects != 5 {
		t.Errorf("%+v", row.Counts)
	}
	if f, ok := h.feed("binance_futures", "websocket", "tokyo-1"); !ok || f.LastClose == nil || f.LastClose.By != tunnel.ByUpstream {
		t.Errorf("%+v", f)
	}
}

// Promise (feeds): the ends of tunnels that clients close late, long after the exchange has, are no loss once a later one lasts.
func TestEndsThatClientsNoticeLateAreNoLoss(t *testing.T) {
	t.Parallel()
	_, _, config := venue(t, func(c net.Conn) {
		if first := make([]byte, 64); readSome(c, first) == "live" {
			testkit.Echo(c)
		}
	})
	h := newHost(t, config)
	var clients []net.Conn
	open := func(first string) net.Conn {
		c, err := h.open(futures)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(first))
		clients = append(clients, c)
		return c
	}
	for range 6 {
		if _, err := io.Copy(io.Discard, open("dies")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range clients[:3] {
		_ = c.Close()
	}
	row := func() feed.Exchange { return h.row("binance_futures", "websocket") }
	testkit.Eventually(t, testkit.Patience, "it is lost", func() bool { return row().State == feed.Lost })
	open("live")
	testkit.Eventually(t, 10*time.Second, "one that lasts ends the loss", func() bool { return row().State == feed.OK })
	for _, c := range clients[3:6] {
		_ = c.Close()
	}
	testkit.Eventually(t, testkit.Patience, "the late ones are counted", func() bool { return row().Closed == 6 })
	if got := row(); got.State != feed.OK || got.LastClose == nil || got.LastClose.By != tunnel.ByExchange {
		t.Errorf("after them: %s, the last close %+v", got.State, got.LastClose)
	}
}

func readSome(c net.Conn, b []byte) string {
	n, _ := c.Read(b)
	return string(b[:n])
}

// What an operator closes because it is quiet must be quiet now, not when it was
// last looked at.
func TestByteSinceTheLastSampleIsTheLastByte(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": echo.Addr}})
	h := newHost(t, "default: "+proxy.URL()+"\n")
	client, err := h.open("stream.binance.com")
	if err != nil {
		t.Fatal(err)
	}
	look := func() (got feed.Tunnel, down int64) {
		h.Each(func(l tunnel.Live) bool { got, _ = h.table.Tunnel(l); down = l.Down; return true })
		return got, down
	}
	for n := int64(1); n <= 24; n++ { // over more than a second: one sample, of which a long time passes
		time.Sleep(50 * time.Millisecond)
		sent := time.Now()
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, testkit.Patience, "a byte came back", func() bool {
			got, down := look()
			if down == n && got.LastByte.Before(sent.Add(-200*time.Millisecond)) { // a sample bears the time at which it began
				t.Errorf("byte %d came after %s, and the last one is said to have come at %s", n, sent, got.LastByte)
			}
			return down == n
		})
	}
}

// When all upstreams are ejected, they are the last resort. Once a connection opens
// through one, no exchange and kind of the pool is lost for want of an upstream.
func TestEjectedUpstreamThatCarriesAgainIsNoLoss(t *testing.T) {
	t.Parallel()
	one, two, config := venue(t, testkit.Echo)
	h := newHost(t, config)
	dead := testkit.On(testkit.AtAccept, testkit.Close)
	one.SetFault(dead)
	two.SetFault(dead)
	testkit.Eventually(t, testkit.Patience, "both are ejected", func() bool {
		_, _ = h.open(futures)
		return h.row("binance_futures", "http").State == feed.Lost
	})
	if hint := h.row("binance_futures", "http").Hint; !strings.Contains(hint, "tokyo-1, tokyo-2") {
		t.Errorf("hint %q", hint)
	}
	one.SetFault(nil)
	testkit.Eventually(t, testkit.Patience, "a tunnel", func() bool {
		_, err := h.open(futures)
		return err == nil
	})
	if _, _, out := h.set.Upstream("tokyo-1").Ejected(); !out {
		t.Fatal("it is not ejected")
	}
	for _, kind := range []string{"http", "websocket"} {
		if row := h.row("binance_futures", kind); row.State.Bad() || row.Cause != "" {
			t.Errorf("%s: %+v", kind, row)
		}
	}
}

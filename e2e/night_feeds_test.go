package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"proxyd/internal/testkit"
)

// feedClients are websocket clients of one exchange, as feed libraries are: each
// subscribes, reads, sends pings, does not notice silence, and opens its feed again
// when it ends, with a back-off of 100 ms to 1 s.
type feedClients struct {
	exchange, host string
	n              int

	live, opened, failed, ended, messages atomic.Int64
	last                                  atomic.Pointer[string] // the last error
}

// feedSchemes are how the clients speak to proxyd, by turns.
var feedSchemes = []string{"http", "socks5h"}

// startClients starts n clients of an exchange. They stop before the peers do.
func startClients(t testing.TB, proxy string, ca *testkit.CA, exchange, host string, n int) *feedClients {
	t.Helper()
	f := &feedClients{exchange: exchange, host: host, n: n}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup // each ends with ctx
	for i := range n {
		all.Go(func() { f.client(ctx, &url.URL{Scheme: feedSchemes[i%len(feedSchemes)], Host: proxy}, ca) })
	}
	t.Cleanup(func() { cancel(); all.Wait() })
	return f
}

func (f *feedClients) client(ctx context.Context, proxy *url.URL, ca *testkit.CA) {
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: ca.Pool}}
	defer transport.CloseIdleConnections()
	const least, most = 100 * time.Millisecond, time.Second
	for pause := least; ctx.Err() == nil; pause = min(2*pause, most) {
		opened, err := f.feed(ctx, &http.Client{Transport: transport})
		transport.CloseIdleConnections() // after a refused upgrade
		if err != nil && ctx.Err() == nil {
			text := err.Error()
			f.last.Store(&text)
		}
		if opened {
			pause = least
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause + rand.N(pause/4)):
		}
	}
}

// feed opens one feed and reads it to its end.
func (f *feedClients) feed(ctx context.Context, c *http.Client) (opened bool, err error) {
	dial, done := context.WithTimeout(ctx, 10*time.Second)
	ws, _, err := websocket.Dial(dial, "wss://"+f.host+"/ws", &websocket.DialOptions{HTTPClient: c})
	done()
	if err != nil {
		f.failed.Add(1)
		return false, err
	}
	defer func() { _ = ws.CloseNow() }()
	f.opened.Add(1)
	f.live.Add(1)
	defer f.ended.Add(1)
	defer f.live.Add(-1)
	if err := ws.Write(ctx, websocket.MessageText, []byte(`{"op":"subscribe","args":["trades.BTC-USDT"]}`)); err != nil {
		return true, err
	}
	pings, stop := context.WithCancel(ctx)
	var pinging sync.WaitGroup // ends with pings
	pinging.Go(func() {
		for pings.Err() == nil {
			one, done := context.WithTimeout(pings, 2*time.Second)
			_ = ws.Ping(one) // that no pong comes does not end it
			<-one.Done()
			done()
		}
	})
	defer pinging.Wait()
	defer stop()
	for {
		if _, _, err := ws.Read(ctx); err != nil {
			return true, err
		}
		f.messages.Add(1)
	}
}

// String returns what the clients have seen, for messages of tests.
func (f *feedClients) String() string {
	last := "none"
	if p := f.last.Load(); p != nil {
		last = *p
	}
	return fmt.Sprintf("%s: %d of %d live, %d opened, %d failed, %d ended; the last error: %s",
		f.exchange, f.live.Load(), f.n, f.opened.Load(), f.failed.Load(), f.ended.Load(), last)
}

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// A proxy that denies CONNECT is asked for websockets in absolute form. The
// exchange sees such a connection only when the proxy makes it, which may be
// late; the budget holds all the same, and tunnels that stay open use up none of
// the window.
func TestBudgetOfWebsocketsInAbsoluteForm(t *testing.T) {
	t.Parallel()
	const most, clients = 5, 10
	exchange := &arrivals{}
	var turn atomic.Int64
	up := testkit.NewTCP(t, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		if r.Method == http.MethodConnect {
			_, _ = io.WriteString(c, "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
			return
		}
		if turn.Add(1) <= most { // a way that is long for the first ones
			time.Sleep(900 * time.Millisecond)
		}
		exchange.mu.Lock()
		exchange.times = append(exchange.times, time.Now())
		exchange.mu.Unlock()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		testkit.Hang(c)
	})
	p := start(t, fmt.Sprintf("exchanges: {venue: {hosts: [feed.venue.example], websocket: {url: \"http://%s\", timeout_seconds: 30, limits: {connects: %d/1s, queue_seconds: 5}}}}\n", up.Addr, most))
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			c := testkit.Dial(t, p.Addr)
			_ = c.SetDeadline(time.Now().Add(40 * time.Second))
			c.Send("GET http://feed.venue.example/ HTTP/1.1\r\nHost: feed.venue.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n")
			if r := c.ReadHTTP("GET"); r.Status != http.StatusSwitchingProtocols {
				t.Errorf("%v", r)
			}
		})
	}
	all.Wait()
	if n := exchange.most(time.Second); n > most {
		t.Errorf("%d connections came in one second, the budget is %d", n, most)
	}
}

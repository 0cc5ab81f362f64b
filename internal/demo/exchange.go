package demo

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is a fake exchange: any path of its hosts answers with the time, and as
// a websocket with a trade every tick.
type exchange struct {
	id           string // in the catalogue
	stream, rest string // hosts
	address      string // where it listens
	frozen       atomic.Bool
	live         context.Context // ends with the demo
}

// tick is the time between two trades.
const tick = 100 * time.Millisecond

// silent takes what net/http logs of clients that go away.
var silent = log.New(io.Discard, "", 0)

// start listens until ctx ends.
func (x *exchange) start(ctx context.Context, running *sync.WaitGroup, authority *ca) error {
	conf, err := authority.server(x.stream, x.rest)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", loopback)
	if err != nil {
		return err
	}
	x.address, x.live = ln.Addr().String(), ctx
	serveHTTP(ctx, running, tls.NewListener(ln, conf), x)
	return nil
}

// ServeHTTP answers one request.
func (x *exchange) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\"exchange\":%q,\"demo\":true,\"time\":%d}\n", x.id, time.Now().UnixMilli())
		return
	}
	c, err := accept(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(x.live)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = c.Close() }) // ends answer
	var reading sync.WaitGroup
	reading.Go(func() {
		defer cancel()
		_ = c.answer()
	})
	x.trade(ctx, c)
	cancel()
	reading.Wait()
}

// trade sends trades until ctx ends or one cannot be sent.
func (x *exchange) trade(ctx context.Context, c *websocket) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case at := <-ticker.C:
			if x.frozen.Load() {
				continue
			}
			text := fmt.Sprintf(`{"exchange":%q,"symbol":"BTC-USDT","trade":%d,"price":"64%03d.10","quantity":"0.013","time":%d}`, x.id, n, n%1000, at.UnixMilli())
			if c.write(opText, []byte(text)) != nil {
				return
			}
		}
	}
}

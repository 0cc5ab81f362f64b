package demo

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	feedsEach = 2           // feeds of one exchange
	retryWait = time.Second // between two attempts of a feed
)

// feed is a client as users have it: it subscribes to trades through proxyd, and
// connects again when the connection ends.
type feed struct {
	address string // of the stream
	http    *http.Client
}

// newFeed returns a feed of x through the proxy at listen; number is part of the
// label under which proxyd lists it.
func newFeed(listen string, x *exchange, number int, authority *ca) *feed {
	proxy := &url.URL{Scheme: "http", Host: listen, User: url.UserPassword(fmt.Sprintf("feed-%s-%d", x.id, number), "")}
	return &feed{address: "https://" + x.stream + "/ws", http: &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: authority.pool, MinVersion: tls.VersionTLS12},
	}}}
}

// run streams until ctx ends.
func (f *feed) run(ctx context.Context) {
	defer f.http.CloseIdleConnections()
	for ctx.Err() == nil {
		_ = f.stream(ctx) // a feed that ends begins again
		select {
		case <-ctx.Done():
		case <-time.After(retryWait):
		}
	}
}

// stream connects, subscribes and reads until the connection or ctx ends.
func (f *feed) stream(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.address, http.NoBody)
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "cHJveHlkLWRlbW8tZmVlZA==",
	} {
		req.Header.Set(name, value)
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("%s: no websocket", resp.Status)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	c := &websocket{Closer: conn, r: bufio.NewReader(conn), w: conn, client: true}
	if err := c.write(opText, []byte(`{"op":"subscribe","channel":"trades","symbol":"BTC-USDT"}`)); err != nil {
		return err
	}
	return c.answer()
}

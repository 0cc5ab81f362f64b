package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// upstream is a fake upstream proxy: HTTP CONNECT, to the demo's exchanges only.
type upstream struct {
	name    string
	leads   map[string]string // addresses of the hosts that it knows
	address string

	live    context.Context // ends with the demo
	running *sync.WaitGroup
	mu      sync.Mutex
	ln      net.Listener // nil while it is down
	conns   map[net.Conn]struct{}
}

// start listens until ctx ends.
func (u *upstream) start(ctx context.Context, running *sync.WaitGroup) error {
	u.live, u.running, u.conns = ctx, running, map[net.Conn]struct{}{}
	var err error
	for range 50 { // other programs may have some of the ports
		u.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(lowPort+rand.IntN(lowPorts))) //nolint:gosec // no secret
		if err = u.up(); err == nil {
			context.AfterFunc(ctx, u.down)
			return nil
		}
	}
	return err
}

// The ports of upstreams are below those that systems give away, so that no other
// program gets one while its upstream is down.
const (
	lowPort  = 20000
	lowPorts = 10000
)

// up makes it accept connections, at the address that it had before.
func (u *upstream) up() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ln != nil || u.live.Err() != nil {
		return nil
	}
	ln, err := net.Listen("tcp", u.address)
	if err != nil {
		return fmt.Errorf("%w; another program has taken the port: start the demo again", err)
	}
	u.ln = ln
	u.running.Go(func() { u.accept(ln) }) // ends with ln
	return nil
}

// down closes the listener and resets every connection, as when a proxy dies.
func (u *upstream) down() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ln == nil {
		return
	}
	_ = u.ln.Close()
	u.ln = nil
	for c := range u.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// accept serves connections until ln is closed.
func (u *upstream) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		u.running.Go(func() { // ends when the client leaves, or with down
			defer u.drop(c)
			if u.track(c) {
				u.serve(c)
			}
		})
	}
}

// track makes down close c. It reports false while the upstream is down.
func (u *upstream) track(c net.Conn) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.conns[c] = struct{}{}
	return u.ln != nil
}

// drop closes c.
func (u *upstream) drop(c net.Conn) {
	_ = c.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.conns, c)
}

// serve answers one CONNECT and carries its bytes.
func (u *upstream) serve(c net.Conn) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	host, port, _ := net.SplitHostPort(req.Host)
	address := u.leads[host]
	if req.Method != http.MethodConnect || port != "443" || address == "" {
		text := "the demo's upstreams lead to port 443 of the demo's exchanges only\n"
		fmt.Fprintf(c, "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(text), text)
		return
	}
	target, err := (&net.Dialer{}).DialContext(u.live, "tcp", address)
	if err != nil {
		fmt.Fprint(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	defer u.drop(target)
	if !u.track(target) {
		return
	}
	if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() { // ends when either side does
		_, _ = io.Copy(c, target)
		_ = c.Close()
	})
	_, _ = io.Copy(target, r)
	_ = target.Close()
	back.Wait()
}

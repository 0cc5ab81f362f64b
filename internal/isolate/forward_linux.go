package isolate

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// forwarder connects what comes to a port inside to the same port of the host's
// loopback. These connections are a feed's own database or broker: a few, on this
// machine, so that a pair of copies is enough. It is safe for concurrent use.
type forwarder struct {
	mu   sync.Mutex
	uses map[uint16]*PortUse
}

func newForwarder() *forwarder { return &forwarder{uses: map[uint16]*PortUse{}} }

// serve accepts until ctx ends, and waits for the connections, which it then closes.
func (f *forwarder) serve(ctx context.Context, ports []portListener) {
	var done sync.WaitGroup
	for _, p := range ports {
		f.mu.Lock()
		if f.uses[p.port] == nil {
			f.uses[p.port] = &PortUse{Port: p.port}
		}
		f.mu.Unlock()
		done.Go(func() { // ends when its listener is closed, below
			for {
				c, err := p.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err != nil { // no descriptors
					time.Sleep(10 * time.Millisecond)
					continue
				}
				done.Go(func() { f.connect(ctx, c, p.port) }) // ends with its sides, at the latest with ctx
			}
		})
	}
	<-ctx.Done()
	for _, p := range ports {
		p.Close()
	}
	done.Wait()
}

// connect joins a connection to the host's port. It owns c.
func (f *forwarder) connect(ctx context.Context, c net.Conn, port uint16) {
	defer c.Close()
	out, err := dialLoopback(ctx, port)
	f.count(port, err == nil)
	if err != nil {
		_ = c.(*net.TCPConn).SetLinger(0) // as a closed port would answer
		return
	}
	defer out.Close()
	stop := context.AfterFunc(ctx, func() { c.Close(); out.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { pass(out, c) }) // each ends with one of the two
	both.Go(func() { pass(c, out) })
	both.Wait()
}

// dialLoopback connects to a port of 127.0.0.1, or of ::1 if only that one listens.
func dialLoopback(ctx context.Context, port uint16) (c net.Conn, err error) {
	var d net.Dialer
	for _, host := range []string{"127.0.0.1", "::1"} {
		if c, err = d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port)))); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// pass copies one direction, and passes its end on.
func pass(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	_ = to.(*net.TCPConn).CloseWrite()
}

func (f *forwarder) count(port uint16, connected bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if connected {
		f.uses[port].Connections++
	} else {
		f.uses[port].Refused++
	}
}

// used returns the counters, by port.
func (f *forwarder) used() (list []PortUse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range f.uses {
		list = append(list, *u)
	}
	slices.SortFunc(list, func(a, b PortUse) int { return cmp.Compare(a.Port, b.Port) })
	return list
}

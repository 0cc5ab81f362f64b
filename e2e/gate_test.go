package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"proxyd/internal/testkit"
)

// gate is the machine that an upstream runs on: a fixed address that can die,
// come back, and fall mute.
type gate struct {
	addr string
	work sync.WaitGroup // accept loops and pumps; end when the gate dies

	mu    sync.Mutex
	to    string
	mute  chan struct{} // closed when it is not mute
	ln    net.Listener
	conns map[net.Conn]struct{}
}

var hosts atomic.Int32

// ownHost returns a loopback address that nothing else listens on, and to which no
// connection of another test strays.
func ownHost() string {
	n := hosts.Add(1)
	return fmt.Sprintf("127.77.%d.%d", n/250, n%250+1)
}

// newGate forwards to an address. Its own address is on a host of its own, so that
// no other socket takes the port while it is dead.
func newGate(t testing.TB, to string) *gate {
	t.Helper()
	g := &gate{to: to, mute: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	close(g.mute)
	ln, err := net.Listen("tcp", ownHost()+":0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = ln.Addr().String()
	g.serve(ln)
	t.Cleanup(func() { g.speak(); g.die(); g.work.Wait() })
	return g
}

func (g *gate) serve(ln net.Listener) {
	g.mu.Lock()
	g.ln = ln
	g.mu.Unlock()
	g.work.Go(func() { // ends when die closes the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			g.work.Go(func() { g.carry(c) }) // ends when die closes c
		}
	})
}

// die closes the listener and resets every connection.
func (g *gate) die() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.ln.Close()
	g.resetAll()
}

// drop resets every connection.
func (g *gate) drop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.resetAll()
}

func (g *gate) resetAll() {
	for c := range g.conns {
		testkit.Reset(c)
	}
}

// revive listens again.
func (g *gate) revive(t testing.TB) {
	t.Helper()
	ln, err := net.Listen("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	g.serve(ln)
}

// hush makes it accept connections and carry nothing, on any connection.
func (g *gate) hush() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mute = make(chan struct{})
}

// speak ends hush.
func (g *gate) speak() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.mute:
	default:
		close(g.mute)
	}
}

// forward has new connections go to another address.
func (g *gate) forward(to string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.to = to
}

// await waits until the gate is not mute, and returns where it forwards to.
func (g *gate) await() string {
	g.mu.Lock()
	mute := g.mute
	g.mu.Unlock()
	<-mute
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.to
}

func (g *gate) track(c net.Conn) (drop func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[c] = struct{}{}
	return func() {
		_ = c.Close()
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.conns, c)
	}
}

func (g *gate) carry(c net.Conn) {
	defer g.track(c)()
	up, err := net.Dial("tcp", g.await())
	if err != nil {
		testkit.Reset(c)
		return
	}
	defer g.track(up)()
	var both sync.WaitGroup
	both.Go(func() { g.pump(up, c) })
	both.Go(func() { g.pump(c, up) })
	both.Wait()
}

func (g *gate) pump(to, from net.Conn) {
	block := make([]byte, 16<<10)
	for {
		n, err := from.Read(block)
		g.await()
		if n > 0 {
			if _, werr := to.Write(block[:n]); werr != nil {
				err = werr
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			testkit.CloseWrite(to)
			return
		default:
			testkit.Reset(to)
			testkit.Reset(from)
			return
		}
	}
}

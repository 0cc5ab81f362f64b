package inbound

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"proxyd/internal/config"
)

const (
	minPause = 5 * time.Millisecond // after a failed accept; doubles from failure to failure
	maxPause = 100 * time.Millisecond
)

// listener is one listener and what is derived from its settings.
type listener struct {
	s        *Server
	settings func() config.Listener

	mu    sync.Mutex
	users *users
	certs *certs
}

// accept serves each connection in a goroutine, which ends when the connection
// has become a tunnel or is closed; Server.Close waits for it. Where no
// descriptor is left, the connection that has waited longest for its request
// gives up its own. Any other failing accept is tried again ever more slowly.
func (d *listener) accept(ln net.Listener) error {
	var pause time.Duration
	var reported time.Time
	failed := 0
	for {
		conn, err := ln.Accept()
		if err == nil {
			pause = 0
			d.start(conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		failed++
		if outOfFiles(err) && d.freeDescriptor() {
			continue
		}
		if now := time.Now(); d.s.opts.AcceptFailed != nil && now.Sub(reported) >= time.Second {
			d.s.opts.AcceptFailed(fmt.Errorf("accept on %s failed %d times since the last such line: %w", ln.Addr(), failed, err))
			reported, failed = now, 0
		}
		pause = min(max(2*pause, minPause), maxPause)
		select {
		case <-time.After(pause):
		case <-d.s.ctx.Done():
			return nil
		}
	}
}

// freeDescriptor frees a descriptor for the next accept. It returns false when
// it cannot.
func (d *listener) freeDescriptor() bool {
	if d.s.opts.OutOfFiles != nil {
		return d.s.opts.OutOfFiles()
	}
	return d.s.Relieve()
}

// start adds a connection and serves it in a goroutine. It owns conn.
func (d *listener) start(conn net.Conn) {
	c := &client{s: d.s, conn: conn, listener: d, deadline: time.Now().Add(d.s.handshake)}
	c.tcp, _ = conn.(*net.TCPConn)
	c.addr = addrPort(conn.RemoteAddr())
	if !d.s.admit(c) {
		conn.Close()
		return
	}
	go d.serve(c)
}

// serve is the life of one connection until it is a tunnel.
func (d *listener) serve(c *client) {
	growStack(0)
	defer func() {
		if v := recover(); v != nil {
			c.crash(v, debug.Stack())
		}
	}()
	c.conn.SetReadDeadline(c.deadline)
	c.settings = d.settings()
	c.users = d.usersOf(c.settings.Users)
	c.serve()
}

// usersOf digests the users of a listener, once for each configuration.
func (d *listener) usersOf(list []config.User) *users {
	if len(list) == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.users.madeFrom(list) {
		d.users = newUsers(list)
	}
	return d.users
}

// certsOf returns the certificate of a listener that speaks TLS.
func (d *listener) certsOf(l *config.Listener) *certs {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.certs == nil || d.certs.certFile != l.TLSCert || d.certs.keyFile != l.TLSKey {
		d.certs = newCerts(l.TLSCert, l.TLSKey)
	}
	return d.certs
}

// growStack gives a new goroutine at once the 16 KiB of stack that set-up
// needs. Growing step by step, the stack is copied three times, each time with
// more on it: with this a set-up takes 300 CPU µs in place of 344. The
// goroutine ends when the tunnel begins, so no tunnel holds it.
//
//go:noinline
func growStack(i uint8) byte {
	var room [7680]byte // with what the runtime keeps free, more than 8 KiB has room for
	return room[i]
}

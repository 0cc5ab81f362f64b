package admin

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// conns keeps the number of connections under a limit. One too many closes the
// one that has been waiting longest for a request, so that idle connections
// keep no client out.
type conns struct {
	limit int

	mu    sync.Mutex
	open  map[net.Conn]waiting
	turns uint64
}

// waiting is the turn since which a connection has had no request; 0 while one
// is being answered.
type waiting uint64

// changed is the http.Server's ConnState hook.
func (c *conns) changed(conn net.Conn, state http.ConnState) {
	if victim := c.note(conn, state); victim != nil {
		_ = victim.Close()
	}
}

// note records a change of state. It returns the connection that must be closed,
// or nil.
func (c *conns) note(conn net.Conn, state http.ConnState) (victim net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
		return nil
	case http.StateActive:
		if _, ok := c.open[conn]; ok {
			c.open[conn] = 0
		}
		return nil
	case http.StateIdle:
		if _, ok := c.open[conn]; ok {
			c.turns++
			c.open[conn] = waiting(c.turns)
		}
		return nil
	}
	if c.open == nil {
		c.open = map[net.Conn]waiting{}
	}
	c.turns++
	c.open[conn] = waiting(c.turns)
	if len(c.open) <= c.limit {
		return nil
	}
	return c.takeLongest()
}

// closeLongest closes the connection that has been waiting longest for a
// request. It returns false when none waits.
func (c *conns) closeLongest() bool {
	c.mu.Lock()
	victim := c.takeLongest()
	c.mu.Unlock()
	if victim == nil {
		return false
	}
	_ = victim.Close()
	return true
}

func (c *conns) takeLongest() (victim net.Conn) {
	for other, since := range c.open {
		if since > 0 && (victim == nil || since < c.open[victim]) {
			victim = other
		}
	}
	delete(c.open, victim)
	return victim
}

// connKey is of a request's connection in its context.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

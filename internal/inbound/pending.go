package inbound

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

// Connections that are not yet tunnels are capped, so that clients that send
// nothing keep no others out. Waiting are those for which nothing is being
// opened or answered: they are in their handshake, between two plain requests,
// or have been refused and not yet closed. One too many ends the one that has
// waited longest. Those for which something is being opened count as tunnels.

// grace is how long each may wait undisturbed: time enough for a client to send
// its request, however many others come. New ones wait in the kernel meanwhile.
const grace = 10 * time.Millisecond

// admit adds a new connection, and makes room for it. It returns false
// when the server is closed.
func (s *Server) admit(c *client) bool {
	for {
		room := max(1, s.room())
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return false
		}
		var evicted *client
		if s.waiting.Len() >= room {
			if left := grace - time.Since(s.waiting.Front().Value.(*client).since); left > 0 {
				s.mu.Unlock()
				time.Sleep(left)
				continue
			}
			evicted = s.popLongest()
		}
		more := s.waiting.Len() >= room // there is less room than there was
		if !more {
			s.conns[c] = struct{}{}
			s.done.Add(1)
			s.pushWaiting(c)
		}
		s.mu.Unlock()
		if evicted != nil {
			s.evict(evicted, room)
		}
		if !more {
			return true
		}
	}
}

// pushWaiting puts a connection behind all others that wait. s.mu is held.
func (s *Server) pushWaiting(c *client) {
	c.since = time.Now()
	c.waitElem = s.waiting.PushBack(c)
}

// room returns how many may wait now.
func (s *Server) room() int {
	if s.opts.Room == nil {
		return mostWaiting
	}
	return min(s.opts.Room(), mostWaiting)
}

// Relieve ends the connection that has waited longest, to free its descriptor. It
// returns false when none waits.
func (s *Server) Relieve() bool {
	s.mu.Lock()
	n := s.waiting.Len()
	if n == 0 {
		s.mu.Unlock()
		return false
	}
	c := s.popLongest()
	s.mu.Unlock()
	s.evict(c, n)
	return true
}

// popLongest takes out the one that has waited longest, and marks it as
// evicted. s.mu is held.
func (s *Server) popLongest() *client {
	c := s.waiting.Remove(s.waiting.Front()).(*client)
	c.waitElem, c.evicted = nil, true
	return c
}

// evict ends a connection that popLongest has marked. Its descriptor is free
// when evict returns; the goroutine that serves it notices and returns.
func (s *Server) evict(c *client, limit int) {
	c.reset()
	if c.answered { // it has had its answer, and any server may end a kept connection
		return
	}
	_ = s.handler.Refuse(tunnel.Request{Protocol: "unknown", Client: c.addr}, failure.Overload, 0,
		fmt.Sprintf("the connection has waited longest of %d for its request, and was closed to make room for others", limit),
		"raise the limit of open files (ulimit -n, LimitNOFILE=), or find out which clients connect and send nothing")
	if s.opts.Evicted != nil {
		s.opts.Evicted()
	}
}

// stopWaiting takes a connection whose request is being served out of those
// that wait. It returns false when it has been evicted, or has left.
func (s *Server) stopWaiting(c *client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.waitElem != nil {
		s.waiting.Remove(c.waitElem)
		c.waitElem = nil
	}
	_, there := s.conns[c]
	return there && !c.evicted
}

// startWaiting puts a connection whose request has been answered, or is about to be
// refused, back among those that wait, unless it has left.
func (s *Server) startWaiting(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.conns[c]; !there || c.evicted {
		return
	}
	c.answered = true
	if c.waitElem == nil {
		s.pushWaiting(c)
	}
}

// outOfFiles reports whether this process, or the machine, has no descriptor
// left.
func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

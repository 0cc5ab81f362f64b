package admin

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// spares are descriptors that are held back, so that an operator gets an answer
// when the process has none left: one is given up for each connection that finds
// none, and opened again when one is free.
type spares struct {
	mu    sync.Mutex
	users int // calls of Serve under way; without one none is held
	held  []*os.File
}

// spareFiles is how many are held.
const spareFiles = 4

// open begins a call of Serve.
func (s *spares) open() {
	s.mu.Lock()
	s.users++
	s.mu.Unlock()
	s.fill()
}

// fill opens as many descriptors as it can, up to spareFiles.
func (s *spares) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.users > 0 && len(s.held) < spareFiles {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return // at the next connection
		}
		s.held = append(s.held, f)
	}
}

// give frees one descriptor. It returns false when none is held.
func (s *spares) give() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free()
}

func (s *spares) free() bool {
	if len(s.held) == 0 {
		return false
	}
	last := len(s.held) - 1
	_ = s.held[last].Close()
	s.held = s.held[:last]
	return true
}

// close ends a call of Serve. The last one frees all.
func (s *spares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.users--; s.users == 0 && s.free(); {
	}
}

// sparing is a listener that accepts even when the process has no free descriptor.
type sparing struct {
	net.Listener
	s *Server
}

// grace is how long a connection may wait for its request before it is closed
// to make room.
const grace = 10 * time.Millisecond

// Accept gives up a descriptor for a connection that finds none: one that the
// process can do without, a spare one, or that of an idle connection here.
func (l sparing) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err == nil || !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
			return conn, err
		}
		if l.s.o.Relieve != nil && l.s.o.Relieve() || l.s.spares.give() {
			continue
		}
		time.Sleep(grace)
		if !l.s.conns.closeLongest() {
			return nil, err // net/http tries again
		}
	}
}

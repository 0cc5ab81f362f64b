// Package inbound speaks to clients: it tells SOCKS from HTTP on one port,
// parses, authenticates, and answers in the client's own protocol. It neither
// dials nor copies; tunnel does.
package inbound

import (
	"net"

	"proxyd/internal/config"
	"proxyd/internal/tunnel"
)

// Options are what a Server needs.
type Options struct {
	Handler *tunnel.Handler
	// Debug takes what the protocol libraries have to say; nil drops it.
	Debug func(msg string)
	// Panicked is told of a panic in one connection's handling, with its stack; nil drops it.
	Panicked func(v any, stack []byte)
	// AcceptFailed is told of a failed accept (out of descriptors, say); Serve goes on.
	AcceptFailed func(err error)
}

// Server serves clients on any number of listeners.
type Server struct{}

// New makes a Server. It starts nothing.
func New(o Options) *Server { panic("written in the next commit") }

// Serve accepts on ln until it is closed, and returns nil then. settings is
// asked once for each connection, so that a reload takes effect without a new
// listener. Serve owns ln.
func (s *Server) Serve(ln net.Listener, settings func() config.Listener) error {
	panic("written in the next commit")
}

// Drain lets kept plain HTTP connections end after their current request and
// answers no new ones; connections in their handshake go on.
func (s *Server) Drain() { panic("written in the next commit") }

// Close ends all connections that are not yet tunnels and waits for them.
func (s *Server) Close() { panic("written in the next commit") }

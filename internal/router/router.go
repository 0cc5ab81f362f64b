// Package router says which way serves a host. A Router is one configuration,
// immutable and without I/O; looking up costs no allocation beyond the
// normalised name.
package router

import (
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/upstream"
)

// Hint is what the front end knows beside the host.
type Hint struct {
	Listener string       // the listener's Address in the configuration; its `use` is found in the same snapshot
	Kind     catalog.Kind // from the username's suffix or an Upgrade header; unknown otherwise
}

// Route is the way that serves a host.
type Route struct {
	Target  upstream.Target
	Rule    string         // which rule decided and why, for people
	Source  string         // the key path of the way, "" when nothing matched and no default is set
	Pool    *upstream.Pool // never nil without an error
	Timeout time.Duration
}

// Denied is why a host is refused by policy.
type Denied struct {
	Target upstream.Target
	Rule   string
	Text   string // what is refused, in words that a client may see
	Hint   string // what to do about it
}

// Error is the text.
func (d *Denied) Error() string { return d.Text }

// BadTarget is a host or port that cannot be one.
type BadTarget struct{ Err error }

// Error is the text.
func (b *BadTarget) Error() string { return b.Err.Error() }

// Unwrap gives the cause.
func (b *BadTarget) Unwrap() error { return b.Err }

// Router is one configuration's rules.
type Router struct{}

// New builds the router of c over the upstreams of s.
func New(c *config.Config, s *upstream.Set) (*Router, error) {
	panic("written in the next commit")
}

// Config is the configuration that the router was built from.
func (r *Router) Config() *config.Config { panic("written in the next commit") }

// Set is the router's upstreams.
func (r *Router) Set() *upstream.Set { panic("written in the next commit") }

// Route finds the way for a host as a client wrote it. The error is a
// *BadTarget or a *Denied.
func (r *Router) Route(host string, port uint16, h Hint) (Route, error) {
	panic("written in the next commit")
}

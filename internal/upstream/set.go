package upstream

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"proxyd/internal/config"
)

// Set is every upstream and pool of one configuration. It never changes.
type Set struct{}

// NewSet builds the set of c. What did not change since prev (nil at start)
// keeps its object, and so its health and counters. own tells proxyd's real
// listen addresses, which direct connections must not reach.
func NewSet(c *config.Config, prev *Set, own func(netip.AddrPort) bool) (*Set, error) {
	panic("written in the next commit")
}

// Direct is the pool of the plain direct way.
func (s *Set) Direct() *Pool { panic("written in the next commit") }

// Pool gives the pool that config.Way.Pool names, nil if there is none.
func (s *Set) Pool(name string) *Pool { panic("written in the next commit") }

// Upstreams lists every upstream of the set, once each, by name.
func (s *Set) Upstreams() []*Upstream { panic("written in the next commit") }

// Pool is a choice among members.
type Pool struct{}

// Name is the pool's name or, for an inline one, its key path.
func (p *Pool) Name() string { panic("written in the next commit") }

// Members lists the members in the order of the file.
func (p *Pool) Members() []Member { panic("written in the next commit") }

// Member is an upstream in a pool.
type Member struct {
	*Upstream
	Weight, Tier int
	Enabled      bool
}

// Dial opens a way to t through the first member that can, inside ctx's
// deadline. The error is an *Error, or ctx's when the caller gave up.
func (p *Pool) Dial(ctx context.Context, t Target) (*Way, error) {
	panic("written in the next commit")
}

// RoundTrip sends one plain HTTP request to t through the first member that
// can and gives its answer; req.URL and req.Host already name the target.
// budget bounds only the way to the target, not the answer. Connections are
// kept and used again. The error is an *Error, or the request context's.
func (p *Pool) RoundTrip(req *http.Request, t Target, budget time.Duration) (*http.Response, *Trip, error) {
	panic("written in the next commit")
}

// Trip tells which member served a plain HTTP request.
type Trip struct {
	Member *Upstream
	Tried  []Attempt
}

// Upstream is one way out. It lives as long as some configuration names it.
type Upstream struct{}

// Name is the upstream's name.
func (u *Upstream) Name() string { panic("written in the next commit") }

// URL is the upstream's address, credentials masked.
func (u *Upstream) URL() string { panic("written in the next commit") }

// Live is the number of open connections that leave through it.
func (u *Upstream) Live() int64 { panic("written in the next commit") }

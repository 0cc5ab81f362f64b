package feed

import (
	"context"
	"time"

	"proxyd/internal/event"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
)

// Options are what a Table needs.
type Options struct {
	Snapshot func() *router.Router        // the configuration in force
	Each     func(func(tunnel.Live) bool) // the live tunnels
	Emit     func(event.Event)            // takes what an operator should read later; must not block
}

// Table keeps what is known of the feeds. Its methods are safe for concurrent use.
type Table struct {
	o Options
}

// New returns a Table. It starts nothing.
func New(o Options) *Table { return &Table{o: o} }

// Run samples the live tunnels once a second until ctx ends.
func (t *Table) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// Observe takes a record. It must see every record of the process; it does not
// block, and does not keep r.
func (t *Table) Observe(*tunnel.Record) {}

// Adopt takes a tunnel that came from another process: it is no request. Its end
// comes by Observe.
func (t *Table) Adopt(tunnel.Record) {}

// Report returns the rows.
func (t *Table) Report() Report {
	return Report{Time: time.Now(), Exchanges: []Exchange{}, Feeds: []Feed{}}
}

// Tunnel returns what was last sampled of a live tunnel, and false if it is not
// known.
func (t *Table) Tunnel(string) (Tunnel, bool) { return Tunnel{}, false }

// Package daemon builds the parts and owns the configuration in force: it
// starts, reloads, drains, stops, and hands over to the next process.
package daemon

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/inbound"
	"proxyd/internal/metrics"
	"proxyd/internal/relay"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
	"proxyd/internal/watch"
)

// Options are what the command line and the environment say.
type Options struct {
	ConfigPath string   // "" for the built-in defaults
	Environ    []string // "NAME=value" each
	Stderr     io.Writer
	Terminal   bool // Stderr is a terminal: the log's format "auto" is then console
	Version    string
	Revision   string // of the source, "" if not known
}

// Signals are what an operator asks of a running daemon. A nil channel never asks.
type Signals struct {
	Reload, Upgrade <-chan struct{} // one receive, one wish
	Force           <-chan struct{} // closed: do not wait any longer while stopping
}

// Daemon is one proxyd.
type Daemon struct {
	options  Options
	started  time.Time
	logger   atomic.Pointer[zap.Logger]
	level    zap.AtomicLevel
	lines    *lineWriter
	snapshot atomic.Pointer[router.Router]
	bound    atomic.Pointer[[]boundListener]
	files    uint64 // the limit of open files

	relay   *relay.Engine
	handler *tunnel.Handler
	inbound *inbound.Server
	admin   *admin.Server
	metrics *metrics.Metrics
	servers sync.WaitGroup

	generation int        // 1, and one more after each upgrade
	reloading  sync.Mutex // one reload at a time
	watcher    *watch.Watcher
	adminBound adminListener
	file       atomic.Pointer[fileState]
	phase      atomic.Pointer[admin.State]
	removed    removed
}

// Snapshot builds the configuration c as one immutable whole. own tells the
// addresses that proxyd itself listens on; it may be nil.
func Snapshot(c *config.Config, prev *upstream.Set, own func(netip.AddrPort) bool) (*router.Router, error) {
	set, err := upstream.NewSet(c, prev, own)
	if err != nil {
		return nil, err
	}
	return router.New(c, set)
}

// New loads the configuration and binds its listeners. It starts nothing: with
// an error nothing is left open, else Run must follow. The error is a
// config.Faults when the configuration is at fault.
func New(o Options) (*Daemon, error) {
	d := &Daemon{options: o, started: time.Now(), relay: relay.NewEngine(), files: raiseFileLimit(), generation: 1}
	d.watcher = watch.New(d.watching()) // before the file is read, so that no change is missed
	c, err := config.Load(o.ConfigPath, o.Environ)
	if err != nil {
		return nil, err
	}
	d.removed.kick = make(chan struct{}, 1)
	d.enter(admin.StateStarting)
	d.bound.Store(new([]boundListener))
	snap, err := Snapshot(c, nil, d.own)
	if err != nil {
		return nil, err
	}
	r, err := rebind(c.Listen, nil)
	if err != nil {
		return nil, err
	}
	if d.adminBound, err = bindAdmin(c, adminListener{}); err != nil {
		closeAll(r.added)
		return nil, err
	}
	d.bound.Store(&r.added)
	d.snapshot.Store(snap)
	d.watcher.Refresh(d.started)
	d.file.Store(&fileState{at: d.started})
	d.level = zap.NewAtomicLevelAt(logLevel(c.Log.Level))
	d.lines = newLineWriter(o.Stderr)
	d.setLogger(c)
	d.handler = tunnel.NewHandler(tunnel.Options{
		Snapshot: d.snapshot.Load, Relay: d.relay, Record: d.record, MaxTunnels: maxTunnels(d.files),
	})
	d.inbound = inbound.New(inbound.Options{
		Handler:      d.handler,
		HopToken:     snap.Set().HopToken(),
		Debug:        func(msg string) { d.log().Debug(msg) },
		Panicked:     d.panicked,
		Accepted:     func(protocol string) { d.metrics.Connection(protocol) },
		AcceptFailed: func(err error) { d.log().Error("accept", zap.Error(err), zap.Uint64("open_files_limit", d.files)) },
	})
	d.metrics = d.newMetrics()
	d.metrics.Reloaded("start", true, d.started)
	d.admin = d.newAdmin()
	return d, nil
}

func (d *Daemon) panicked(v any, stack []byte) {
	d.log().Error("panic", zap.Any("value", v), zap.ByteString("stack", stack))
}

// AdminAddr is where the admin server listens, nil if it does not.
func (d *Daemon) AdminAddr() net.Addr {
	if d.adminBound.ln == nil {
		return nil
	}
	return d.adminBound.ln.Addr()
}

// Addrs lists the addresses really listened on.
func (d *Daemon) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, b := range d.listeners() {
		addrs = append(addrs, b.ln.Addr())
	}
	return addrs
}

// Run serves until ctx ends, then stops as the configuration says.
func (d *Daemon) Run(ctx context.Context, s Signals) error {
	defer d.lines.Close()
	d.announce()
	partsCtx, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup // each ends with partsCtx
	parts.Go(func() { _ = d.relay.Run(partsCtx) })
	parts.Go(func() { d.closeRemoved(partsCtx) })
	d.serveEach(d.listeners())
	d.serveAdmin()
	d.enter(admin.StateReady)
	watchCtx, stopWatching := context.WithCancel(ctx)
	parts.Go(func() { _ = d.watcher.Run(watchCtx) })
	d.heed(ctx, s)
	stopWatching() // what is stopping needs no other configuration
	d.stop(ctx, s.Force)
	d.servers.Wait()
	stopParts()
	parts.Wait()
	return nil
}

// heed does what is asked by signals until ctx ends.
func (d *Daemon) heed(ctx context.Context, s Signals) {
	beat := d.watchdog()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.Reload:
			d.Reload(BySignal, false)
		case <-beat:
			notify("WATCHDOG=1")
		}
	}
}

// serveEach accepts on listeners until they are closed.
func (d *Daemon) serveEach(listeners []boundListener) {
	for _, b := range listeners {
		d.servers.Go(func() { _ = d.inbound.Serve(b.ln, d.settings(b.address)) }) // ends when the listener is closed, without an error
	}
}

// settings gives what the configuration in force says of a listener, the last
// known when it no longer does.
func (d *Daemon) settings(address string) func() config.Listener {
	var last atomic.Pointer[config.Listener]
	return func() config.Listener {
		listen := d.snapshot.Load().Config().Listen
		for i := range listen {
			if listen[i].Address == address {
				last.Store(&listen[i])
			}
		}
		return *last.Load()
	}
}

// enter begins a phase.
func (d *Daemon) enter(phase admin.State) {
	d.phase.Store(&phase)
	switch phase {
	case admin.StateReady:
		notify("READY=1")
	case admin.StateDraining:
		notify("STOPPING=1")
	}
}

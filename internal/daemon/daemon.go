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
	"proxyd/internal/handover"
	"proxyd/internal/health"
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
	// Next gives the line that points a shell's clients here, for the log; listener
	// is the first listener's address where the daemon chose its port, else "".
	Next func(listener string) string
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
	shortage shortage

	relay   *relay.Engine
	handler *tunnel.Handler
	inbound *inbound.Server
	admin   *admin.Server
	metrics *metrics.Metrics
	servers sync.WaitGroup

	generation int        // 1, and one more after each upgrade
	reloading  sync.Mutex // one reload at a time
	watcher    *watch.Watcher
	adminBound atomic.Pointer[adminListener]
	file       atomic.Pointer[fileState]
	phase      atomic.Pointer[admin.State]
	removed    removed

	program   string // what an upgrade starts
	upgrading sync.Mutex
	upgrader  handover.Upgrader
	replaced  chan struct{} // closed when the next process serves; child and leaving are set then
	child     *handover.Child
	leaving   time.Time
	parent    *handover.Parent // the process before this one; nil if there was none
	inherited *handover.Listeners
	arriving  atomic.Bool                     // tunnels still come from there
	older     atomic.Pointer[[]admin.Process] // those that still serve tunnels
	olderOpen atomic.Pointer[[]openCount]     // what they have open, as budgets count it
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

// New loads the configuration and binds its listeners, or takes them over from
// the process that started this one. It starts nothing: with an error nothing is
// left open, else Run must follow. The error is a config.Faults when the
// configuration is at fault.
func New(o Options) (*Daemon, error) {
	d := &Daemon{
		options: o, started: time.Now(), relay: relay.NewEngine(), files: raiseFileLimit(), generation: 1,
		removed: removed{kick: make(chan struct{}, 1)}, replaced: make(chan struct{}),
	}
	d.program, _ = handover.Program() // without one an upgrade fails, and says so
	d.setState(admin.StateStarting)
	d.bound.Store(new([]boundListener))
	d.adminBound.Store(new(adminListener))
	if err := d.inherit(); err != nil {
		return nil, err
	}
	if err := d.load(); err != nil {
		if d.parent != nil {
			d.parent.Failed(err)
		}
		d.inherited.Close()
		return nil, err
	}
	d.handler = tunnel.NewHandler(tunnel.Options{
		Snapshot: d.snapshot.Load, Relay: d.relay, Record: d.record, MaxTunnels: maxTunnels(d.files),
		Relieve: d.relieve,
	})
	d.inbound = inbound.New(inbound.Options{
		Handler:      d.handler,
		HopToken:     d.snapshot.Load().Set().HopToken(),
		Debug:        func(msg string) { d.log().Debug(msg) },
		Panicked:     d.panicked,
		Accepted:     func(protocol string) { d.metrics.Connection(protocol) },
		AcceptFailed: func(err error) { d.log().Error("accept", zap.Error(err), zap.Uint64("open_files_limit", d.files)) },
		OutOfFiles:   d.relieve,
		Room:         func() int { return waitingRoom(d.files, d.handler.Occupied()) },
		Evicted:      d.shortage.evicted,
	})
	return d, nil
}

func (d *Daemon) panicked(v any, stack []byte) {
	d.log().Error("panic", zap.Any("value", v), zap.ByteString("stack", stack))
}

// AdminAddr is where the admin server listens, nil if it does not.
func (d *Daemon) AdminAddr() net.Addr {
	if ln := d.adminBound.Load().ln; ln != nil {
		return ln.Addr()
	}
	return nil
}

// Addrs lists the addresses really listened on.
func (d *Daemon) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, b := range d.listeners() {
		addrs = append(addrs, b.ln.Addr())
	}
	return addrs
}

// Run serves until ctx ends, then stops as the configuration says; or until the
// next process has taken over, and then serves what is left.
func (d *Daemon) Run(ctx context.Context, s Signals) error {
	defer d.lines.Close()
	if d.parent != nil {
		d.awaitTakeover()
	}
	d.metrics = d.newMetrics()
	d.metrics.Reloaded("start", true, d.started)
	d.admin = d.newAdmin(ctx)
	d.snapshot.Load().Set().OnBudgetNearlyUsed(d.nearlyUsed)
	partsCtx, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup // each ends with partsCtx
	parts.Go(func() { _ = d.relay.Run(partsCtx) })
	parts.Go(func() { d.closeRemoved(partsCtx) })
	parts.Go(func() { d.logEjections(partsCtx) })
	d.serveEach(d.listeners())
	d.serveAdmin()
	d.announce()
	if d.parent != nil {
		if err := d.parent.Serving(); err == nil {
			go d.receive() // ends with the process before this one, at the latest with this one
			parts.Go(func() { d.followElsewhere(partsCtx) })
		}
	}
	d.setState(admin.StateReady)
	watchCtx, stopWatching := context.WithCancel(ctx)
	parts.Go(func() { _ = d.watcher.Run(watchCtx) })
	parts.Go(func() {
		_ = health.Run(watchCtx, health.Options{Router: d.snapshot.Load, Known: d.known, Observe: d.observe})
	})
	d.handleSignals(ctx, s)
	stopWatching() // what is stopping needs no other configuration, and no probes
	if d.isReplaced() {
		d.retire(ctx, s)
	} else {
		d.stop(ctx, s.Force)
	}
	d.reloading.Lock() // a reload may have opened addresses just when the stop came
	closeAll(d.listeners())
	d.reloading.Unlock()
	d.servers.Wait()
	stopParts()
	parts.Wait()
	return nil
}

func (d *Daemon) isReplaced() bool {
	select {
	case <-d.replaced:
		return true
	default:
		return false
	}
}

// heedReloads reloads when a signal asks for it. It may have to wait for an
// upgrade, and then must not keep others waiting.
func (d *Daemon) heedReloads(ctx context.Context, wishes <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.replaced:
			return
		case <-wishes:
			d.Reload(BySignal, false)
		}
	}
}

// handleSignals does what is asked by signals until ctx ends or the next process serves.
func (d *Daemon) handleSignals(ctx context.Context, s Signals) {
	d.servers.Go(func() { d.heedReloads(ctx, s.Reload) }) // ends with heed
	beat := d.watchdog()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.replaced:
			return
		case <-s.Upgrade:
			move := d.snapshot.Load().Config().Upgrade.Tunnels == "move"
			d.servers.Go(func() { _ = d.Upgrade(ctx, move, func(string) {}) }) // logged there; ends with ctx
		case <-beat:
			notify("WATCHDOG=1")
		}
	}
}

// serveEach accepts on listeners until they are closed.
func (d *Daemon) serveEach(listeners []boundListener) {
	for _, b := range listeners {
		settings := d.settings(b.address)
		d.servers.Go(func() { _ = d.inbound.Serve(b.ln, settings) }) // ends when the listener is closed, without an error
	}
}

// settings gives what the configuration in force says of a listener, the last
// known when it no longer does.
func (d *Daemon) settings(address string) func() config.Listener {
	var last atomic.Pointer[config.Listener]
	look := func() config.Listener {
		listen := d.snapshot.Load().Config().Listen
		for i := range listen {
			if listen[i].Address == address {
				last.Store(&listen[i])
			}
		}
		return *last.Load()
	}
	look() // a connection may be the first when the address is gone already
	return look
}

// setState begins a phase.
func (d *Daemon) setState(phase admin.State) {
	d.phase.Store(&phase)
	switch phase {
	case admin.StateReady:
		notify("READY=1")
	case admin.StateDraining:
		notify("STOPPING=1")
	}
}

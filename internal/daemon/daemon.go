// Package daemon builds the parts and owns the configuration in force: it
// starts, reloads, drains, stops, and hands over to the next process.
package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/feed"
	"proxyd/internal/fleet"
	"proxyd/internal/handover"
	"proxyd/internal/health"
	"proxyd/internal/inbound"
	"proxyd/internal/limit"
	"proxyd/internal/metrics"
	"proxyd/internal/relay"
	"proxyd/internal/router"
	"proxyd/internal/source"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
	"proxyd/internal/watch"
)

// Options are what the command line and the environment say.
type Options struct {
	ConfigPath string   // "" for the built-in defaults
	Environ    []string // "NAME=value" each
	Stderr     io.Writer
	Own        bool    // for one command: listen on one free loopback port, in place of what listen and admin say
	Inside     *Inside // of a daemon for one command: open listeners in place of that port; nil for none
	PartOf     string  // the command that has more in its process than this daemon, "" for none; it refuses upgrades
	Terminal   bool    // Stderr is a terminal: the log's format "auto" is then console
	Version    string
	Revision   string // of the source, "" if not known
	// Next gives the line that points a shell's clients here, for the log; listener
	// is the first listener's address where the daemon chose its port, else "".
	Next func(listener string) string
}

// Inside is what was opened in the network namespace of a command, which this process
// is not in.
type Inside struct {
	// Configure makes a configuration, as read, the command's: what it listens on is
	// Sockets. Its Admin is not used.
	Configure func(*config.Config)
	Sockets   map[string]net.Listener // by config.Listener.Address; the first of Listen is what Own returns
	// NameOf returns the name that an address of the namespace stands for.
	NameOf func(netip.Addr) (name string, ok bool)
	// Refused gets the refusals as they come, those that are counted apart. It must not
	// block.
	Refused func(admin.ExecRefusal)
}

// Signals are what an operator asks of a running daemon. A nil channel never asks.
type Signals struct {
	Reload, Upgrade <-chan struct{} // each receive is one request
	Force           <-chan struct{} // closed: do not wait any longer while stopping
}

// Daemon is one proxyd.
type Daemon struct {
	// These live as long as it does.
	options     Options
	environ     func() string // config.EnvironmentFingerprint, worked out once
	started     time.Time
	generation  int // 1, and one more after each upgrade
	level       zap.AtomicLevel
	lines       *lineWriter
	descriptors descriptors
	full        lastMinute // refusals for want of room under the limit of tunnels
	alarms      alarms
	relay       *relay.Engine
	handler     *tunnel.Handler
	inbound     *inbound.Server
	admin       *admin.Server
	metrics     *metrics.Metrics
	journal     *event.Journal
	sources     *sources
	execs       *execs
	redirected  atomic.Int64 // when the last one came to a transparent listener, in Unix nanoseconds; 0 for none
	feeds       *feed.Table
	watcher     *watch.Watcher
	removed     *removedTunnels
	lists       *source.Lists
	fetching    context.Context // ends when lists are no longer fetched; set by Run
	startLists  func()          // starts the fetching of lists; set by Run
	recorder    *recorder
	tunnels     *liveTunnels
	servers     sync.WaitGroup
	reloading   sync.Mutex // one reload at a time
	upgrade     upgrade
	fleet       fleetPart

	// These are swapped as a whole.
	snapshot  atomic.Pointer[router.Router]
	listening atomic.Pointer[listenerSet]
	logger    atomic.Pointer[zap.Logger]
	file      atomic.Pointer[fileState]
	phase     atomic.Pointer[admin.State]
}

// Snapshot builds the configuration c as one immutable whole. own reports
// whether proxyd itself listens on an address; it may be nil.
func Snapshot(c *config.Config, prev *upstream.Set, own func(netip.AddrPort) bool) (*router.Router, error) {
	if c.Fleet != (config.Fleet{}) {
		if err := fleet.CheckURL(c.Fleet.Redis.Reveal()); err != nil {
			return nil, fmt.Errorf("fleet.redis: %w", err)
		}
	}
	set, err := upstream.NewSet(c, prev, own)
	if err != nil {
		return nil, err
	}
	return router.New(c, set)
}

// New loads the configuration and binds its listeners, or takes them over from
// the process that started this one. It starts nothing: with an error nothing is
// left open, else Run must follow. The error is a config.Errors when the
// configuration has errors.
func New(o Options) (*Daemon, error) {
	d := &Daemon{options: o, started: time.Now(), relay: relay.NewEngine(), generation: 1}
	d.environ = sync.OnceValue(func() string { return config.EnvironmentFingerprint(o.Environ) })
	d.descriptors = descriptors{limit: raiseFileLimit(), free: d.freeDescriptor}
	d.upgrade.replaced = make(chan struct{})
	d.fleet.probe = make(chan []string, 16)
	d.upgrade.program, _ = handover.Program() // without one an upgrade fails, and says so
	d.setState(admin.StateStarting)
	d.listening.Store(&listenerSet{})
	d.lists = d.newLists()
	if err := d.inherit(); err != nil {
		return nil, err
	}
	if err := d.load(); err != nil {
		if d.upgrade.parent != nil {
			d.upgrade.parent.Failed(err)
		}
		d.upgrade.inherited.Close()
		return nil, err
	}
	d.journal = event.NewJournal(func(e event.Event) {
		if d.metrics != nil { // there are none before Run
			d.metrics.Event(e.Severity, e.Type)
		}
		logEvent(d.log(), e)
	})
	d.alarms.add = d.journal.Add
	d.sources = newSources(d.journal.Add)
	d.execs = newExecs(o.Own)
	d.recorder = &recorder{observe: d.observe, snapshot: d.snapshot.Load, log: d.log}
	d.handler = tunnel.NewHandler(tunnel.Options{
		Snapshot: d.snapshot.Load, Relay: d.relay, Record: d.recorder.record, Ending: func(r *tunnel.Record) { d.feeds.Ending(r) }, MaxTunnels: maxTunnels(d.descriptors.limit),
		Relieve: d.descriptors.relieve,
	})
	d.feeds = feed.New(feed.Options{Snapshot: d.snapshot.Load, Each: d.handler.Each, Emit: d.addFeed})
	d.tunnels = &liveTunnels{handler: d.handler, feeds: d.feeds, snapshot: d.snapshot.Load, add: d.journal.Add}
	var nameOf func(netip.Addr) (string, bool)
	if o.Inside != nil {
		nameOf, d.execs.refused = o.Inside.NameOf, o.Inside.Refused
	}
	d.inbound = inbound.New(inbound.Options{
		NameOf:   nameOf,
		Handler:  d.handler,
		HopToken: d.snapshot.Load().Set().HopToken(),
		Debug:    func(msg string) { d.log().Debug(msg) },
		Panicked: d.panicked,
		Accepted: d.accepted,
		AcceptFailed: func(err error) {
			d.log().Error("accept", zap.Error(err), zap.Uint64("open_files_limit", d.descriptors.limit))
		},
		OutOfFiles: d.descriptors.relieve,
		Room:       func() int { return waitingRoom(d.descriptors.limit, d.handler.Occupied()) },
		Evicted:    d.descriptors.evicted,
	})
	d.removed = &removedTunnels{kick: make(chan struct{}, 1), snapshot: d.snapshot.Load, each: d.handler.Each, log: d.log}
	return d, nil
}

// observe passes a record on to those that count it.
func (d *Daemon) observe(r *tunnel.Record) {
	d.metrics.Observe(r)
	d.feeds.Observe(r)
	d.execs.observe(r)
	if r.Event == tunnel.Refused && r.Class == failure.Overload && r.Step == "limit" {
		d.full.add(time.Now())
	}
	d.sources.record(r)
}

// accepted counts a connection by what it speaks.
func (d *Daemon) accepted(protocol string) {
	if protocol == tunnel.Transparent {
		d.redirected.Store(time.Now().UnixNano())
	}
	d.metrics.Connection(protocol)
}

func (d *Daemon) panicked(v any, stack []byte) {
	d.log().Error("panic", zap.Any("value", v), zap.ByteString("stack", stack))
}

// freeDescriptor closes a connection that can be spared, and reports whether there was one.
func (d *Daemon) freeDescriptor() bool {
	return d.inbound.Relieve() || d.snapshot.Load().Set().CloseIdle()
}

// budgets returns the table of budgets in force.
func (d *Daemon) budgets() *limit.Table { return d.snapshot.Load().Set().Budgets() }

// Run serves until ctx ends, then stops as the configuration says; or until the
// next process has taken over, and then serves what is left.
func (d *Daemon) Run(ctx context.Context, s Signals) error {
	go d.lines.run() // ends with Close, which waits for it
	defer d.lines.Close()
	if d.upgrade.parent != nil {
		d.awaitTakeover()
	}
	d.metrics = newMetrics(d)
	d.metrics.Reloaded("start", true, d.started)
	partsCtx, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	d.tunnels.closing = partsCtx
	d.admin = d.newAdmin(ctx)
	d.snapshot.Load().Set().OnBudgetNearlyUsed(func(r limit.Row) { d.journal.Add(lowEvent(r)) })
	d.snapshot.Load().Set().OnTurnedAway(d.foundVerdict)
	d.fleet.running = partsCtx
	d.setFleet(d.snapshot.Load().Config().Fleet) // before the first connection
	var parts sync.WaitGroup                     // each ends with partsCtx
	parts.Go(func() { _ = d.relay.Run(partsCtx) })
	parts.Go(func() { _ = d.feeds.Run(partsCtx) })
	parts.Go(func() { d.removed.run(partsCtx) })
	known := newStandings(d.snapshot.Load().Set().Upstreams(), d.journal.Add)
	known.out = d.ejectedUpstream
	parts.Go(func() { d.everySecond(partsCtx, known) })
	watchCtx, stopWatching := context.WithCancel(ctx)
	d.fetching, d.startLists = watchCtx, sync.OnceFunc(func() { parts.Go(func() { d.lists.Run(watchCtx) }) })
	d.listsChanged()
	d.firstLists()
	d.serve(d.listening.Load().bound)
	d.announce()
	if d.upgrade.parent != nil {
		if err := d.upgrade.parent.Serving(); err == nil {
			go d.receive() // ends with the process before this one, at the latest with this one
			parts.Go(func() { d.upgrade.others.follow(partsCtx, d.budgets) })
		}
	}
	d.setState(admin.StateReady)
	parts.Go(func() { _ = d.watcher.Run(watchCtx) })
	parts.Go(func() {
		_ = health.Run(watchCtx, health.Options{Router: d.snapshot.Load, Known: health.Pair.Known, Observe: d.observeProbe, Soon: d.fleet.probe})
	})
	d.handleSignals(ctx, s)
	stopWatching() // what is stopping needs no other configuration, and no probes
	if d.upgrade.isReplaced() {
		d.retire(ctx, s)
	} else {
		d.stop(ctx, s.Force)
	}
	d.reloading.Lock() // a reload may have opened addresses just when the stop came
	closeAll(d.listening.Load().bound)
	d.reloading.Unlock()
	d.servers.Wait()
	stopParts()
	d.endFleet()
	d.tunnels.working.Wait()
	parts.Wait()
	return nil
}

// handleReloads reloads on each receive. It may have to wait for an upgrade, which
// must not hold up other signals.
func (d *Daemon) handleReloads(ctx context.Context, requests <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.upgrade.replaced:
			return
		case <-requests:
			d.Reload(BySignal, false)
		}
	}
}

// handleSignals acts on signals until ctx ends or the next process serves.
func (d *Daemon) handleSignals(ctx context.Context, s Signals) {
	d.servers.Go(func() { d.handleReloads(ctx, s.Reload) }) // ends when this function does
	beat := watchdog()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.upgrade.replaced:
			return
		case <-s.Upgrade:
			move := d.snapshot.Load().Config().Upgrade.Tunnels == "move"
			d.servers.Go(func() { _ = d.Upgrade(ctx, move, func(string) {}) }) // logged there; ends with ctx
		case <-beat:
			notify("WATCHDOG=1")
		}
	}
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

// notify reports a state to systemd, if systemd started this process (sd_notify(3)).
func notify(state string) { _, _ = systemd.SdNotify(false, state) } // fails only without systemd

// watchdog returns a channel that ticks twice in WatchdogSec if systemd wants to
// be notified, else nil.
func watchdog() <-chan time.Time {
	every, err := systemd.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return nil
	}
	return time.Tick(every / 2)
}

// warn logs what an operator should know of a configuration.
func (d *Daemon) warn(warnings []string) {
	for _, w := range warnings {
		d.log().Warn("configuration", zap.String("warning", w))
	}
}

func (d *Daemon) fileName() string {
	if d.options.ConfigPath == "" {
		return "built-in defaults (no proxyd.yaml here or in /etc/proxyd)"
	}
	return d.options.ConfigPath
}

// logAdmin logs where the admin server listens.
func (d *Daemon) logAdmin() {
	if a := d.listening.Load().admin(); a != nil {
		d.log().Info("admin", zap.Stringer("address", a))
	}
}

// log returns the logger as the configuration in force wants it.
func (d *Daemon) log() *zap.Logger { return d.logger.Load() }

func (d *Daemon) setLogger(c *config.Config) {
	d.logger.Store(newLogger(d.lines, d.level, console(c.Log.Format, d.options.Terminal)))
}

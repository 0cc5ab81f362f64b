// Package daemon builds the parts of proxyd from a configuration, owns the
// snapshot in force, and starts, reloads and drains. It decides nothing about
// a single connection.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/config"
	"proxyd/internal/inbound"
	"proxyd/internal/relay"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// Options are what a Daemon is started with.
type Options struct {
	ConfigPath string   // "" for the built-in defaults
	Environ    []string // "NAME=value" each
	Stderr     io.Writer
	Terminal   bool // Stderr is a terminal: the log's format "auto" is then console
	Version    string
}

// Daemon is one running proxyd.
type Daemon struct {
	options  Options
	log      *zap.Logger
	level    zap.AtomicLevel
	lines    *lineWriter
	snapshot atomic.Pointer[router.Router]

	relay   *relay.Engine
	handler *tunnel.Handler
	inbound *inbound.Server
	bound   []boundListener
	files   uint64 // the limit of open files
}

// Snapshot builds the router of a configuration, without any effect. prev
// gives the upstreams to carry over (nil at first), own the addresses that
// direct connections must not reach.
func Snapshot(c *config.Config, prev *upstream.Set, own func(netip.AddrPort) bool) (*router.Router, error) {
	set, err := upstream.NewSet(c, prev, own)
	if err != nil {
		return nil, err
	}
	return router.New(c, set)
}

// New loads the configuration and binds the listeners, so that an address with
// port 0 is known before Run. It starts no goroutine but the log's.
func New(o Options) (*Daemon, error) {
	c, err := config.Load(o.ConfigPath, o.Environ)
	if err != nil {
		return nil, err
	}
	d := &Daemon{options: o, relay: relay.NewEngine(), files: raiseFileLimit()}
	if d.bound, err = bind(c.Listen); err != nil {
		return nil, err
	}
	snap, err := Snapshot(c, nil, d.own)
	if err != nil {
		closeAll(d.bound)
		return nil, err
	}
	d.snapshot.Store(snap)
	d.level = zap.NewAtomicLevelAt(logLevel(c.Log.Level))
	d.lines = newLineWriter(o.Stderr)
	d.log = newLogger(d.lines, d.level, console(c.Log.Format, o.Terminal))
	d.handler = tunnel.NewHandler(tunnel.Options{
		Snapshot: d.snapshot.Load, Relay: d.relay, Record: d.record, MaxTunnels: maxTunnels(d.files),
	})
	d.inbound = inbound.New(inbound.Options{
		Handler:      d.handler,
		HopToken:     snap.Set().HopToken(),
		Debug:        func(msg string) { d.log.Debug(msg) },
		Panicked:     func(v any, stack []byte) { d.log.Error("panic", zap.Any("value", v), zap.ByteString("stack", stack)) },
		AcceptFailed: func(err error) { d.log.Error("accept", zap.Error(err), zap.Uint64("open_files_limit", d.files)) },
	})
	return d, nil
}

// Addrs are the addresses that are listened on.
func (d *Daemon) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, b := range d.bound {
		addrs = append(addrs, b.ln.Addr())
	}
	return addrs
}

// Run serves until ctx ends, then drains: it accepts nothing more, waits for
// the tunnels as long as drain_seconds says, and closes what is left. A value
// on force ends the waiting at once, one on reload loads the file anew.
func (d *Daemon) Run(ctx context.Context, reload, force <-chan struct{}) error {
	defer d.lines.Close()
	d.announce()
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	var engine, servers sync.WaitGroup
	engine.Go(func() { _ = d.relay.Run(engineCtx) }) // ends with engineCtx
	failed := make(chan error, len(d.bound))         // one place for each server
	for _, b := range d.bound {
		servers.Go(func() { // ends when the listener is closed
			if err := d.inbound.Serve(b.ln, d.settings(b.address)); err != nil {
				failed <- fmt.Errorf("%s: %w", b.address, err)
			}
		})
	}
	err := d.serve(ctx, reload, failed)
	d.stop(ctx, force)
	servers.Wait()
	stopEngine()
	engine.Wait()
	return err
}

func (d *Daemon) serve(ctx context.Context, reload <-chan struct{}, failed <-chan error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-reload:
			_ = d.Reload() // logged there
		}
	}
}

// stop drains and closes.
func (d *Daemon) stop(ctx context.Context, force <-chan struct{}) {
	drain := d.snapshot.Load().Config().Drain
	d.handler.Drain()
	closeAll(d.bound)
	d.inbound.Drain()
	d.log.Info("stopping", zap.Int("tunnels", d.handler.Active()), zap.Float64("drain_seconds", drain.Seconds()),
		zap.String("note", "a second signal closes them at once"))
	waitCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	gone := make(chan struct{})
	go func() { // ends when Wait does: at the latest with waitCtx, which the next lines end
		defer close(gone)
		_ = d.inbound.Wait(waitCtx) // a dial under way may still become a tunnel
		_ = d.handler.Wait(waitCtx)
	}()
	select {
	case <-gone:
	case <-force:
		cancel()
		<-gone
	}
	d.inbound.Close()
	if n := d.handler.Active(); n > 0 {
		d.log.Warn("closing tunnels", zap.Int("tunnels", n))
	}
	d.handler.CloseAll()
	lastCtx, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancelLast()
	_ = d.handler.Wait(lastCtx)
	d.snapshot.Load().Set().Close()
	d.log.Info("stopped", zap.Uint64("log_lines_dropped", d.lines.Dropped()))
}

// Reload reads the configuration again. A faulty one changes nothing. The
// listen addresses stay as they were bound.
func (d *Daemon) Reload() error {
	c, err := config.Load(d.options.ConfigPath, d.options.Environ)
	if err == nil {
		err = d.apply(c)
	}
	if err != nil {
		d.log.Error("reload refused, the configuration in force stays", zap.Strings("faults", faultLines(err)))
		return err
	}
	d.log.Info("reloaded", zap.String("file", fileName(c)))
	d.warn(d.snapshot.Load())
	return nil
}

func (d *Daemon) apply(c *config.Config) error {
	snap, err := Snapshot(c, d.snapshot.Load().Set(), d.own)
	if err != nil {
		return err
	}
	d.snapshot.Store(snap)
	snap.Set().CloseIdle()
	d.level.SetLevel(logLevel(c.Log.Level))
	return nil
}

// settings gives a listener's settings in the snapshot in force; one that a
// reload has taken out keeps its last.
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

// faultLines is one line for each fault of a configuration.
func faultLines(err error) []string {
	var faults config.Faults
	if !errors.As(err, &faults) {
		return []string{err.Error()}
	}
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.String()
	}
	return lines
}

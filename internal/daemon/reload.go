package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/handover"
	"proxyd/internal/router"
	"proxyd/internal/source"
	"proxyd/internal/upstream"
	"proxyd/internal/watch"
)

// The causes of a reload, as the log names them.
const (
	ByWatch  = "file changed"
	BySignal = "SIGHUP"
	ByAdmin  = "admin"
)

// fileState is whether the file is in force.
type fileState struct {
	at     time.Time         // of the last reload that was applied
	errors []string          // why the file on disk is not in force; none: it is
	since  time.Time         // when that began
	last   *admin.LastReload // nil: none since the start
	real   string            // the path without symbolic links, when the configuration in force was loaded
	hash   func() string     // of that configuration, worked out once
}

// configReport returns the configuration in force, masked, and how the last reload
// went.
func (d *Daemon) configReport() admin.ConfigReport {
	snap, file := d.snapshot.Load(), d.file.Load()
	return admin.ConfigReport{Config: d.configRow(snap, file), YAML: config.Print(snap.Config()), LastReload: file.last}
}

func (d *Daemon) configRow(snap *router.Router, file *fileState) admin.Config {
	return admin.Config{
		File: snap.Config().File, RealPath: file.real, Hash: file.hash(), Environ: d.environ(), LoadedAt: file.at, InForce: len(file.errors) == 0, Faults: file.errors, FaultsSince: file.since, Warnings: d.warnings(snap),
	}
}

// watching returns the watcher's options. The files are asked for after each
// reload, so that watch: takes effect by a reload too.
func (d *Daemon) watching() watch.Options {
	return watch.Options{
		Files: func() []string {
			snap := d.snapshot.Load()
			if snap == nil { // about to be read
				return []string{d.options.ConfigPath}
			}
			c := snap.Config()
			if !c.Watch || d.options.ConfigPath == "" {
				return nil
			}
			files := append([]string{d.options.ConfigPath}, c.Files()...)
			if len(d.file.Load().errors) > 0 { // what is not in force may want a file that comes later
				files = append(files, config.NamedFiles(d.options.ConfigPath)...)
			}
			return files
		},
		Changed: func() { d.Reload(ByWatch, false) },
		Scarce:  func() { d.descriptors.relieve() },
	}
}

// Reload reads the configuration again and puts it in force as a whole, or
// changes nothing. All change enters here, one reload at a time. A dry run stops
// before the first effect.
func (d *Daemon) Reload(by string, dryRun bool) admin.Report {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if err := d.canChange(); err != nil {
		if by == BySignal && d.upgrade.isReplaced() { // the next process may have read the file before it was saved
			_ = d.upgrade.child.Signal(syscall.SIGHUP) // fails only when it has ended
		}
		return admin.Report{File: d.options.ConfigPath, Faults: errorLines(err)}
	}
	start := time.Now()
	if !dryRun {
		notify(reloadingNow())
		defer notify("READY=1")
	}
	if by != ByWatch && !dryRun {
		defer d.watcher.Refresh(start)
	}
	prev := d.snapshot.Load()
	var fresh source.Fresh
	var problems []source.Problem
	next, newlyDirect, err := d.candidate(prev, func() (c *config.Config, err error) {
		if c, err = d.read(config.Options{}); err == nil {
			c, fresh, problems, err = d.withFresh(c, prev, by, dryRun)
		}
		return c, err
	})
	var notFetched []string
	if err == nil {
		notFetched, err = withoutLists(prev.Config(), next.Config(), problems)
	}
	report := admin.Report{File: d.options.ConfigPath}
	if err == nil {
		report.Changes, report.Warnings = config.Diff(prev.Config(), next.Config()), slices.Concat(newlyDirect, router.Loosened(prev, next), notFetched, d.warnings(next))
		if by == ByWatch {
			err = holdBack(slices.Concat(newlyDirect, config.ShrunkLists(prev.Config(), next.Config())))
		}
	}
	if err == nil && !dryRun {
		if err = d.descriptors.retry(func() error { return d.apply(prev, next) }); err == nil {
			d.lists.Commit(fresh)
			defer d.lists.Keep(fresh)
		}
	}
	if err != nil {
		report = admin.Report{File: report.File, Faults: errorLines(err)}
	}
	if !dryRun {
		report.Applied = err == nil
		_, held := errors.AsType[heldBack](err)
		left := d.leftAfter(prev, next, &report)
		d.reloaded(by, start, report, held, left)
	}
	return report
}

// leftAfter returns the tunnels that an applied reload leaves on a route of before, and
// adds them to the warnings of its report.
func (d *Daemon) leftAfter(prev, next *router.Router, report *admin.Report) (left []leftTunnels) {
	if report.Applied && len(report.Changes) > 0 {
		left = leftBy(prev, next, d.handler.Each)
	}
	for _, l := range left[:min(len(left), maxLines)] {
		report.Warnings = append(report.Warnings, l.String()+"; "+l.hint())
	}
	return left
}

// candidate builds what read returns. newlyDirect is what it would send out directly
// although it does not say so (router.NewlyDirect).
func (d *Daemon) candidate(prev *router.Router, read func() (*config.Config, error)) (next *router.Router, newlyDirect []string, err error) {
	err = d.descriptors.retry(func() (err error) {
		c, err := read()
		if err == nil {
			next, err = d.snapshotOf(c, prev.Set())
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return next, router.NewlyDirect(prev, next), nil
}

// reloaded keeps and logs the outcome of a reload. held reports whether the file is
// valid, and only held back; left are the tunnels that keep a route of before.
func (d *Daemon) reloaded(by string, start time.Time, r admin.Report, held bool, left []leftTunnels) {
	last := &admin.LastReload{Time: time.Now(), By: by, Report: r}
	if !r.Applied {
		before := d.file.Load()
		d.file.Store(&fileState{at: before.at, errors: r.Faults, since: cmp.Or(before.since, last.Time), last: last, real: before.real, hash: before.hash})
		d.metrics.Reloaded("refused", false, time.Now())
		d.journal.Add(reloadEvent(d.fileName(), by, time.Since(start), r, held, left))
		return
	}
	c := d.snapshot.Load().Config()
	d.file.Store(&fileState{at: last.Time, last: last, real: c.RealPath(), hash: sync.OnceValue(c.Fingerprint)})
	d.metrics.Reloaded("applied", true, time.Now())
	d.journal.Add(reloadEvent(d.fileName(), by, time.Since(start), r, held, left))
	d.warn(r.Warnings)
}

// canChange says why nothing is to change here any more; nil if it may.
func (d *Daemon) canChange() error {
	switch {
	case d.upgrade.isReplaced():
		return handover.ErrReplaced
	case *d.phase.Load() == admin.StateDraining:
		return errors.New("this process is stopping; what is to change takes effect when it is started again")
	}
	return nil
}

// load reads the configuration at start and binds what it says, all of it or nothing.
func (d *Daemon) load() error {
	d.watcher = watch.New(d.watching()) // before the file is read, so that no change is missed
	c, err := d.read(config.Options{})
	if err != nil {
		return err
	}
	snap, err := d.snapshotOf(c, nil)
	if err != nil {
		return err
	}
	have := inheritedListeners(c, d.upgrade.inherited)
	if in := d.options.Inside; in != nil {
		have = in.listeners(c)
	}
	change, err := rebind(c, have)
	if err != nil {
		closeAll(have)
		closeAll(change.restored)
		return err
	}
	d.listening.Store(change.set())
	d.snapshot.Store(snap)
	d.watcher.Refresh(d.started)
	d.file.Store(&fileState{at: d.started, real: c.RealPath(), hash: sync.OnceValue(c.Fingerprint)})
	d.level = zap.NewAtomicLevelAt(logLevel(c.Log.Level))
	d.lines = newLineWriter(d.options.Stderr)
	d.setLogger(c)
	for _, l := range d.upgrade.inherited.Close() {
		d.log().Warn("a socket that was handed over is not used", zap.String("name", l.Name), zap.Stringer("address", l.Addr()),
			zap.String("next", "write its address under listen"))
	}
	return nil
}

// read reads the configuration as it is now, with the lists that are known.
func (d *Daemon) read(o config.Options) (*config.Config, error) {
	o.Lists = d.lists.Text
	return config.LoadWith(d.options.ConfigPath, d.options.Environ, o)
}

// snapshotOf makes a snapshot of a configuration as it was read.
func (d *Daemon) snapshotOf(c *config.Config, prev *upstream.Set) (*router.Router, error) {
	if in := d.options.Inside; in != nil {
		in.Configure(c)
		c.Admin = config.Admin{}
		return Snapshot(c, prev, nil) // the same address out here is another's
	}
	if d.options.Own {
		c.Listen, c.Admin = []config.Listener{{Address: "127.0.0.1:0"}}, config.Admin{}
	}
	return Snapshot(c, prev, func(a netip.AddrPort) bool { return d.listening.Load().own(a) })
}

// apply binds what is new to listen on, and only then puts the snapshot in force.
func (d *Daemon) apply(prev, next *router.Router) error {
	c := next.Config()
	change, err := rebind(c, d.listening.Load().bound)
	if err != nil {
		d.rollback(change)
		return err
	}
	d.snapshot.Store(next)
	d.commit(change)
	for _, e := range noLongerTransparent(prev.Config().Listen, c.Listen) {
		d.journal.Add(e)
	}
	d.setFleet(c.Fleet)
	next.Set().Activate()
	d.level.SetLevel(logLevel(c.Log.Level))
	if c.Log.Format != prev.Config().Log.Format {
		d.setLogger(c)
	}
	d.removed.wake()
	d.listsChanged()
	return nil
}

// commit puts a change of the listeners in force: what came is served, what left
// is closed.
func (d *Daemon) commit(change *listenerChange) {
	for _, e := range listenerEvents(change, d.listening.Load().noAdmin) {
		d.journal.Add(e)
	}
	d.listening.Store(change.set())
	d.serve(change.added)
	closeAll(change.leaving)
}

// rollback keeps the listeners in force after a rebind that failed: those that had
// to make room for it are served anew.
func (d *Daemon) rollback(change *listenerChange) {
	set := *d.listening.Load()
	set.bound = slices.Clone(set.bound)
	for _, b := range change.restored {
		i := slices.IndexFunc(set.bound, func(x boundListener) bool { return x.address == b.address && x.admin == b.admin })
		set.bound[i] = b
	}
	d.listening.Store(&set)
	d.serve(change.restored)
}

// heldBack is why a file that was saved is not applied, although it is valid.
type heldBack struct{ error }

// Unwrap returns the cause.
func (h heldBack) Unwrap() error { return h.error }

const ifMeant = "if it is meant, run: proxyd reload"

// holdBack keeps a file that was saved half, or carelessly, from sending an
// exchange's traffic out directly, or a pool from losing most of its list.
func holdBack(reasons []string) error {
	if len(reasons) == 0 {
		return nil
	}
	var list []error
	for _, what := range reasons {
		list = append(list, errors.New(what+"; or, "+ifMeant))
	}
	return heldBack{errors.Join(list...)}
}

func (d *Daemon) warnings(r *router.Router) []string {
	list := slices.Clone(r.Warnings())
	if set, most := r.Config().MaxTunnels, d.descriptors.tunnelLimit(r); set > most {
		list = append(list, fmt.Sprintf("max_tunnels: the limit of open files, %d, has room for %d and not for %d; raise it (ulimit -n, LimitNOFILE=)", d.descriptors.limit, most, set))
	}
	for _, w := range r.Config().Warnings {
		list = append(list, w.String())
	}
	return list
}

// errorLines returns an error as lines that each stand alone.
func errorLines(err error) []string {
	var list config.Errors
	var joined interface{ Unwrap() []error }
	var lines []string
	switch {
	case errors.As(err, &list):
		for _, f := range list {
			lines = append(lines, f.String())
		}
	case errors.As(err, &joined):
		for _, e := range joined.Unwrap() {
			lines = append(lines, e.Error())
		}
	default:
		lines = []string{err.Error()}
	}
	return lines
}

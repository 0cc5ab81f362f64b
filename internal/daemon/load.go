package daemon

import (
	"slices"

	"go.uber.org/zap"

	"proxyd/internal/config"
	"proxyd/internal/watch"
)

// load reads the configuration and binds what it says, all of it or nothing.
func (d *Daemon) load() error {
	d.watcher = watch.New(d.watching()) // before the file is read, so that no change is missed
	c, err := config.Load(d.options.ConfigPath, d.options.Environ)
	if err != nil {
		return err
	}
	snap, err := Snapshot(c, nil, d.own)
	if err != nil {
		return err
	}
	var have []boundListener
	for _, l := range c.Listen {
		if ln := d.inherited.Take(l.Address); ln != nil {
			have = append(have, boundListener{l.Address, ln})
		}
	}
	haveAdmin := adminListener{address: c.Admin.Address}
	if c.Admin.Address != "" {
		if haveAdmin.ln = d.inherited.Take(c.Admin.Address); haveAdmin.ln == nil {
			haveAdmin.ln = d.inherited.Take("admin") // FileDescriptorName=admin
		}
	}
	r, err := rebind(c.Listen, have)
	if err != nil {
		closeAll(have)
		haveAdmin.close()
		return err
	}
	all := slices.Concat(r.kept, r.added)
	boundAdmin, err := bindAdmin(c, haveAdmin)
	if err != nil {
		closeAll(all)
		haveAdmin.close()
		return err
	}
	d.bound.Store(&all)
	d.adminBound.Store(&boundAdmin)
	d.snapshot.Store(snap)
	d.watcher.Refresh(d.started)
	d.file.Store(&fileState{at: d.started})
	d.level = zap.NewAtomicLevelAt(logLevel(c.Log.Level))
	d.lines = newLineWriter(d.options.Stderr)
	d.setLogger(c)
	for _, l := range d.inherited.Close() {
		d.log().Warn("a socket that was handed over is not used", zap.String("name", l.Name), zap.Stringer("address", l.Addr()),
			zap.String("next", "write its address under listen"))
	}
	return nil
}

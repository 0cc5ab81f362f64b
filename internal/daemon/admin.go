package daemon

import (
	"context"
	"net"

	"go.uber.org/zap"

	"proxyd/internal/admin"
	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/metrics"
	"proxyd/internal/tunnel"
)

// adminListener is where the admin server listens; ln is nil when it does not.
type adminListener struct {
	address string
	ln      net.Listener
	note    string // why it does not, though it was wanted
	moved   bool   // the one before it had to be closed first
}

func (a adminListener) close() {
	if a.ln != nil {
		_ = a.ln.Close()
	}
}

// bindAdmin opens the admin address of c, or takes over the one that is open.
// The built-in address may be another proxyd's: then this one goes without.
// Where only the host changes, the old address is closed first: see unsettleAdmin.
func bindAdmin(c *config.Config, have adminListener) (adminListener, error) {
	address := c.Admin.Address
	switch {
	case address == "":
		return adminListener{}, nil
	case address == have.address && have.ln != nil:
		return have, nil
	}
	ln, err := admin.Listen(address)
	moved := err != nil && have.ln != nil && portOf(address) != "" && portOf(address) == portOf(have.ln.Addr().String())
	if moved {
		have.close()
		ln, err = admin.Listen(address)
	}
	if err != nil && c.Admin.Default {
		return adminListener{address: address, note: err.Error(), moved: moved}, nil
	}
	return adminListener{address: address, ln: ln, moved: moved}, err
}

// unsettleAdmin keeps the old address in force instead of one that is bound.
func (d *Daemon) unsettleAdmin(old, next adminListener) {
	if next.ln != old.ln {
		next.close()
	}
	if !next.moved {
		return
	}
	ln, err := admin.Listen(old.ln.Addr().String())
	if err != nil { // somebody was quicker
		d.log().Error("no admin server", zap.Error(err))
		return
	}
	old.ln = ln
	d.adminBound.Store(&old)
	d.serveAdmin()
}

// settleAdmin serves a new admin address and leaves the old one.
func (d *Daemon) settleAdmin(next adminListener) {
	old := d.adminBound.Swap(&next)
	if next.ln != old.ln {
		old.close()
		d.serveAdmin()
		d.sayAdmin()
	}
}

// serveAdmin answers at the admin address until it is closed.
func (d *Daemon) serveAdmin() {
	if ln := d.adminBound.Load().ln; ln != nil {
		d.servers.Go(func() { _ = d.admin.Serve(ln) }) // ends without an error when the listener is closed
	}
}

// sayAdmin says where that is.
func (d *Daemon) sayAdmin() {
	switch a := d.adminBound.Load(); {
	case a.ln != nil:
		d.log().Info("admin", zap.Stringer("address", a.ln.Addr()))
	case a.note != "":
		d.log().Warn("no admin server", zap.String("why", a.note))
	}
}

func (d *Daemon) newMetrics() *metrics.Metrics {
	return metrics.New(metrics.Options{
		Version: d.options.Version, Revision: d.options.Revision, Catalogue: catalog.Date(), Generation: d.generation,
		Tunnels: func(each func(string, int64, int64)) {
			d.handler.Each(func(t tunnel.Live) bool {
				each(t.ID, t.Up, t.Down)
				return true
			})
		},
		Upstreams: func() (names []string) {
			for _, u := range d.snapshot.Load().Set().Upstreams() {
				names = append(names, u.Name())
			}
			return names
		},
		Generations: func() []metrics.Generation {
			list := []metrics.Generation{{Number: d.generation, Tunnels: d.handler.Active()}}
			for _, p := range d.olderProcesses() {
				list = append(list, metrics.Generation{Number: p.Generation, Tunnels: p.Tunnels})
			}
			return list
		},
		Up:         d.upRows,
		Verdicts:   d.verdictRows,
		Budgets:    d.budgetMetrics,
		Short:      d.shortRows,
		LogDropped: d.lines.Dropped,
		LogErrors:  d.lines.Errors,
	})
}

func (d *Daemon) newAdmin(ctx context.Context) *admin.Server {
	return admin.New(admin.Options{
		Settings: func() config.Admin { return d.snapshot.Load().Config().Admin },
		Snapshot: d.snapshot.Load,
		Status:   d.status,
		Brief:    d.brief,
		Tunnels:  d.eachTunnel,
		Metrics:  d.metrics.Handler(),
		Reload:   func(_ context.Context, dryRun bool) admin.Report { return d.Reload(ByAdmin, dryRun) },
		Upgrade: func(_ context.Context, move bool, progress func(string)) error {
			return d.Upgrade(ctx, move || d.snapshot.Load().Config().Upgrade.Tunnels == "move", progress)
		},
		Drain:    d.setDrained,
		Outlook:  d.outlook,
		Panicked: d.panicked,
		Relieve:  d.relieve,
		MaxConns: adminConns(d.files),
	})
}

func (d *Daemon) eachTunnel(yield func(admin.Tunnel) bool) {
	d.handler.Each(func(t tunnel.Live) bool {
		return yield(admin.Tunnel{
			ID: t.ID, Client: t.Client.String(), User: t.Label, Protocol: t.Protocol, Host: t.Host, Port: t.Port,
			Exchange: t.Exchange, Kind: t.Kind.String(), Rule: t.Rule, Pool: t.Pool, Upstream: t.Upstream, Via: t.Via,
			Started: t.Start, BytesUp: t.Up, BytesDown: t.Down,
		})
	})
}

package daemon

import (
	"slices"

	"proxyd/internal/catalog"
	"proxyd/internal/metrics"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
)

func newMetrics(d *Daemon) *metrics.Metrics {
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
		Exchanges: func() []string {
			c := d.snapshot.Load().Config()
			ids := slices.Clone(c.Known().IDs())
			for i := range c.Exchanges {
				ids = append(ids, c.Exchanges[i].ID)
			}
			return ids
		},
		Feeds:      d.feedReport,
		MaxTunnels: func() int { return d.descriptors.tunnelLimit(d.snapshot.Load()) },
		Generations: func() []metrics.Generation {
			list := []metrics.Generation{{Number: d.generation, Tunnels: d.handler.Active()}}
			for _, p := range d.upgrade.others.processes() {
				list = append(list, metrics.Generation{Number: p.Generation, Tunnels: p.Tunnels})
			}
			return list
		},
		Up:           func() []metrics.Up { return upRows(d.snapshot.Load()) },
		Verdicts:     func() []metrics.Verdict { return verdictRows(d.snapshot.Load()) },
		Certificates: func() []metrics.Certificate { return certificateRows(d.snapshot.Load()) },
		Listeners: func() (rows []metrics.Certificate) {
			for _, c := range d.inbound.Certificates() {
				rows = append(rows, metrics.Certificate{Name: c.Listener, NotAfter: c.Validity.NotAfter})
			}
			return rows
		},
		Budgets: func() []metrics.Budget { return budgetMetrics(d.snapshot.Load()) },
		FleetUsed: func() []bool {
			if f := d.fleet.current.Load(); f != nil {
				return []bool{f.State().Used}
			}
			return nil
		},
		Lists: func() (rows []metrics.List) {
			for _, r := range d.lists.Rows() {
				rows = append(rows, metrics.List{Name: r.Source.Name, Success: r.Success})
			}
			return rows
		},
		Short:      func() []metrics.Short { return shortRows(d.snapshot.Load()) },
		LogDropped: d.lines.Dropped,
		LogErrors:  d.lines.Errors,
	})
}

func upRows(snap *router.Router) (rows []metrics.Up) {
	for _, u := range snap.Set().Upstreams() {
		_, _, ejected := u.Ejected()
		rows = append(rows, metrics.Up{Upstream: u.Name(), Up: !ejected})
	}
	return rows
}

func verdictRows(snap *router.Router) (rows []metrics.Verdict) {
	for _, u := range snap.Set().Upstreams() {
		for _, v := range u.Verdicts() {
			if v.Holds {
				rows = append(rows, metrics.Verdict{Upstream: u.Name(), Exchange: v.Exchange, Kind: v.Kind.String(), Verdict: string(v.Verdict.Word)})
			}
		}
	}
	return rows
}

func shortRows(snap *router.Router) (rows []metrics.Short) {
	for _, u := range snap.Set().Upstreams() {
		for _, p := range u.Status().Pairs {
			if p.Short > 0 {
				rows = append(rows, metrics.Short{Exchange: p.Exchange, Kind: p.Kind, Upstream: u.Name(), Count: p.Short})
			}
		}
	}
	return rows
}

func budgetMetrics(snap *router.Router) (rows []metrics.Budget) {
	for _, r := range snap.Set().Budgets().Rows() {
		most := r.Limits.Connects
		if open := r.Limits.MaxConnections; most == 0 || open > 0 && open < most {
			most = open
		}
		rows = append(rows, metrics.Budget{Exchange: r.Budget.Exchange, Kind: r.Budget.Kind, Exit: r.Budget.Exit, Limit: most, Remaining: r.Remaining, Refused: r.Refused})
	}
	return rows
}

func certificateRows(snap *router.Router) (rows []metrics.Certificate) {
	for _, u := range snap.Set().Upstreams() {
		if end := u.Certificate().NotAfter; !end.IsZero() {
			rows = append(rows, metrics.Certificate{Name: u.Name(), NotAfter: end})
		}
	}
	return rows
}

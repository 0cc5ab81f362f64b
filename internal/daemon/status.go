package daemon

import (
	"cmp"
	"os"
	"slices"
	"strings"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
)

// status is what the daemon is doing now.
func (d *Daemon) status() admin.Status {
	snap, file := d.snapshot.Load(), d.file.Load()
	c := snap.Config()
	s := admin.Status{
		Version: d.options.Version, Generation: d.generation, PID: os.Getpid(), Started: d.started,
		State: *d.phase.Load(),
		Config: admin.Config{
			File: c.File, LoadedAt: file.at, InForce: len(file.faults) == 0, Faults: file.faults, Warnings: warnings(snap),
		},
		Active: d.handler.Active(), Tunnels: d.tunnelCounts(), Upstreams: upstreamRows(snap), Older: d.olderProcesses(),
	}
	for _, l := range c.Listen {
		if b := d.boundAt(l.Address); b != nil {
			s.Listeners = append(s.Listeners, listenerRow(l, *b))
		}
	}
	return s
}

func listenerRow(l config.Listener, b boundListener) admin.Listener {
	row := admin.Listener{Address: l.Address, Reach: audience(l, b.ln.Addr())}
	if bound := b.ln.Addr().String(); bound != l.Address {
		row.Bound = bound
	}
	if l.Use != nil {
		row.Use = useWord(*l.Use)
	}
	if l.Kind != 0 {
		row.Kind = l.Kind.String()
	}
	return row
}

func useWord(w config.Way) string {
	switch w.Action {
	case config.Direct:
		return "direct"
	case config.Reject:
		return "reject"
	}
	return w.Pool
}

// tunnelCounts splits the live tunnels up.
func (d *Daemon) tunnelCounts() []admin.Count {
	counts := map[admin.Count]int{}
	d.handler.Each(func(t tunnel.Live) bool {
		counts[admin.Count{Exchange: t.Exchange, Kind: t.Kind.String(), Upstream: t.Upstream}]++
		return true
	})
	var list []admin.Count
	for c, n := range counts {
		c.Tunnels = n
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b admin.Count) int {
		return cmp.Or(strings.Compare(a.Exchange, b.Exchange), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Upstream, b.Upstream))
	})
	return list
}

func upstreamRows(snap *router.Router) []admin.Upstream {
	pools := map[string][]string{}
	for _, p := range snap.Config().Pools {
		for _, m := range snap.Set().Pool(p.Name).Members() {
			pools[m.Name()] = append(pools[m.Name()], p.Name)
		}
	}
	var rows []admin.Upstream
	for _, u := range snap.Set().Upstreams() {
		rows = append(rows, admin.Upstream{Name: u.Name(), URL: u.URL(), Pools: append([]string{}, pools[u.Name()]...), Tunnels: u.Live()})
	}
	return rows
}

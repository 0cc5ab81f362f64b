package daemon

import (
	"cmp"
	"os"
	"slices"
	"strings"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/metrics"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

// brief is how the daemon is.
func (d *Daemon) brief() admin.Status {
	snap, file := d.snapshot.Load(), d.file.Load()
	return admin.Status{
		Version: d.options.Version, Generation: d.generation, PID: os.Getpid(), Started: d.started,
		State: *d.phase.Load(), Reasons: d.reasons(snap),
		Config: admin.Config{
			File: snap.Config().File, LoadedAt: file.at, InForce: len(file.faults) == 0, Faults: file.faults, Warnings: d.warnings(snap),
		},
	}
}

// status is brief, and what the daemon is doing.
func (d *Daemon) status() admin.Status {
	s, snap := d.brief(), d.snapshot.Load()
	s.Active, s.Tunnels, s.Older = d.handler.Active(), d.tunnelCounts(), d.olderProcesses()
	s.Upstreams, s.Budgets = upstreamRows(snap), d.budgetRows()
	for _, l := range snap.Config().Listen {
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

func useWord(w config.Outbound) string {
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
		rows = append(rows, upstreamRow(u.Status(), append([]string{}, pools[u.Name()]...)))
	}
	return rows
}

func upstreamRow(s upstream.Status, pools []string) admin.Upstream {
	row := admin.Upstream{Name: s.Name, URL: s.URL, Pools: pools, Tunnels: s.Live, Dials: int64(s.Connects)} //nolint:gosec // a count
	for _, n := range s.Failures {
		row.Failures += int64(n) //nolint:gosec // a count
	}
	words := ejectionWords(s.Ejection)
	if s.Drained {
		words = append(words, "drained")
	}
	row.Bad = len(words) > 0
	var drained, slow []string
	for _, p := range s.Pairs {
		if p.Drained && !slices.Contains(drained, p.Exchange) {
			drained = append(drained, p.Exchange)
		}
		if p.Degraded != nil {
			slow = append(slow, slowWords(p))
		}
		if p.Verdict == nil || !p.Holds {
			continue
		}
		v := admin.Verdict{Exchange: p.Exchange, Kind: p.Kind, Verdict: string(p.Verdict.Word), Since: p.Verdict.Since}
		if !p.Verdict.Until.IsZero() {
			v.Until = &p.Verdict.Until
		}
		row.Verdicts = append(row.Verdicts, v)
	}
	if len(slow) > 0 {
		words = append(words, "degraded for "+strings.Join(slow, ", "))
	}
	if len(drained) > 0 {
		words = append(words, "drained for "+strings.Join(drained, ", "))
	}
	row.State = strings.Join(words, ", ")
	return row
}

// reasons are what is not as it should be, but for the file.
func (d *Daemon) reasons(snap *router.Router) (list []string) {
	for _, p := range snap.Config().Pools {
		s := snap.Set().Pool(p.Name).Standings(upstream.Target{})
		if !slices.ContainsFunc(s.Members, func(m upstream.MemberStatus) bool { return m.Standing == "usable" || m.Standing == "degraded" }) {
			list = append(list, "pool "+p.Name+" has no usable member")
		}
	}
	if lost := d.lines.reason(); lost != "" {
		list = append(list, lost)
	}
	return append(list, d.shortage.reasons(d.files)...)
}

func (d *Daemon) upRows() (rows []metrics.Up) {
	for _, u := range d.snapshot.Load().Set().Upstreams() {
		_, _, ejected := u.Ejected()
		rows = append(rows, metrics.Up{Upstream: u.Name(), Up: !ejected})
	}
	return rows
}

func (d *Daemon) verdictRows() (rows []metrics.Verdict) {
	for _, u := range d.snapshot.Load().Set().Upstreams() {
		for _, v := range u.Verdicts() {
			if v.Holds {
				rows = append(rows, metrics.Verdict{Upstream: u.Name(), Exchange: v.Exchange, Kind: v.Kind.String(), Verdict: string(v.Verdict.Word)})
			}
		}
	}
	return rows
}

func (d *Daemon) shortRows() (rows []metrics.Short) {
	for _, u := range d.snapshot.Load().Set().Upstreams() {
		for _, p := range u.Status().Pairs {
			if p.Short > 0 {
				rows = append(rows, metrics.Short{Exchange: p.Exchange, Kind: p.Kind, Upstream: u.Name(), Count: p.Short})
			}
		}
	}
	return rows
}

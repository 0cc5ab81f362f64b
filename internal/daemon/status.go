package daemon

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/feed"
	"proxyd/internal/health"
	"proxyd/internal/router"
	"proxyd/internal/upstream"

	"go.uber.org/zap"
)

// brief returns the state of the daemon. It looks at no tunnel.
func (d *Daemon) brief() admin.Status {
	return d.briefWith(withOlder(d.feeds.Exchanges(), d.upgrade.others.processes()))
}

func (d *Daemon) briefWith(rows []feed.Exchange) admin.Status {
	snap, file := d.snapshot.Load(), d.file.Load()
	return admin.Status{
		Time:    time.Now(),
		Version: d.options.Version, Generation: d.generation, PID: os.Getpid(), Started: d.started,
		State: *d.phase.Load(), Reasons: d.reasons(snap), Exchanges: rows,
		Config: d.configRow(snap, file),
	}
}

// status returns brief, and what the daemon is doing.
func (d *Daemon) status() admin.Status {
	snap, feeds := d.snapshot.Load(), d.feedReport()
	s := d.briefWith(feeds.Exchanges)
	s.Active, s.Tunnels, s.Older = d.handler.Active(), tunnelCounts(feeds), d.upgrade.others.processes()
	s.Execs = d.execs.rows()
	s.Fleet = d.fleetRow()
	s.Upstreams, s.Budgets, s.Lists = upstreamRows(snap), budgetRows(snap), listRows(d.lists.Rows())
	for _, l := range snap.Config().Listen {
		if b := d.listening.Load().at(l.Address); b != nil {
			s.Listeners = append(s.Listeners, listenerRow(l, *b, d.redirected.Load()))
		}
	}
	return s
}

// feedReport returns the rows of this process, with what is silent in those before it.
func (d *Daemon) feedReport() feed.Report {
	r := d.feeds.Report()
	r.Exchanges = withOlder(r.Exchanges, d.upgrade.others.processes())
	return r
}

// withOlder returns rows with what is silent in the processes before this one: the
// tunnels there are the clients' feeds until they end.
func withOlder(rows []feed.Exchange, older []admin.Process) []feed.Exchange {
	for _, p := range older {
		for _, e := range p.Silent {
			i := slices.IndexFunc(rows, func(have feed.Exchange) bool { return have.Exchange == e.Exchange && have.Kind == e.Kind })
			if i < 0 {
				rows = append(rows, feed.Exchange{Exchange: e.Exchange, Kind: e.Kind, State: feed.NoTraffic})
				i = len(rows) - 1
			}
			if row := &rows[i]; !row.State.Bad() {
				row.State, row.Since, row.Cause = feed.Silent, e.Since, e.Cause
				row.Tunnels, row.Silent = row.Tunnels+e.Tunnels, cmp.Or(e.Silent, e.Tunnels)
				row.Text = fmt.Sprintf("%s (in process %d, generation %d)", e.Text, p.PID, p.Generation)
				row.Hint = fmt.Sprintf("restart the clients, or end that process with its tunnels: kill %d", p.PID)
			}
		}
	}
	feed.Sort(rows)
	return rows
}

// tunnelCounts returns the feeds in short: those with live tunnels, with data in the
// last minute (plain requests keep no tunnel), or with failures in the last hour.
func tunnelCounts(r feed.Report) (list []admin.Count) {
	for i := range r.Feeds {
		if f := &r.Feeds[i]; f.Tunnels > 0 || f.Failed > 0 || r.Time.Sub(f.LastByte) < time.Minute {
			list = append(list, admin.Count{
				Exchange: f.Exchange, Kind: f.Kind, Upstream: f.Upstream, Tunnels: f.Tunnels, Down: f.Down, LastByte: f.LastByte,
				Opened: f.Opened, Failed: f.Failed, Silent: f.Silence != nil,
			})
		}
	}
	return list
}

// reasons returns what is wrong with the daemon, except for the file: errors first.
func (d *Daemon) reasons(snap *router.Router) []string {
	now := time.Now()
	found := slices.Concat(
		poolFindings(snap), d.descriptors.tunnelFindings(snap, d.handler.Occupied(), &d.full, now), d.lines.findings(now), upstreamFindings(snap, now), verdictFindings(snap, now),
		dialFindings(d.handler.DialQueues()), budgetFindings(snap, now), listFindings(d.lists.Rows(), now), certificateFindings(snap, d.inbound.Certificates(), now),
		d.fleetFindings(now),
	)
	return d.alarms.update(now, found)
}

// everySecond runs the checks that are due each second, until ctx ends: one ticker
// for all of them. known are the upstreams as they were.
func (d *Daemon) everySecond(ctx context.Context, known *standings) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if d.sources.look(now); !d.upgrade.isReplaced() { // then the next process sees to the upstreams
				known.compare(d.snapshot.Load().Set().Upstreams())
			}
			d.reasons(d.snapshot.Load())
			if lines, due := d.lines.tryAgain(time.Now()); due {
				d.log().Warn("lines of the log were lost", zap.Int("lines", lines))
			}
		}
	}
}

// observeProbe keeps what a probe has found. What is new in it becomes an event.
func (d *Daemon) observeProbe(p health.Pair, found health.Result) {
	r, _, _ := p.Apply(found)
	switch {
	case r.Verdict == health.OK && r.Method == health.Exchange && p.Exchange != "":
		d.foundVerdict(p.Member, upstream.PairVerdict{Exchange: p.Exchange, Kind: p.Kind, Verdict: upstream.Verdict{Word: upstream.WordOK}})
	case r.Verdict == health.Unknown:
		d.log().Debug("probe", zap.String("upstream", p.Member.Name()), zap.String("exchange", p.Exchange), zap.String("text", r.Text))
	}
}

// Own returns where a daemon for one command (Options.Own) listens, and what has
// come from the command so far.
func (d *Daemon) Own() (net.Addr, admin.Exec) {
	return d.listening.Load().clients()[0].ln.Addr(), d.execs.rows()[0]
}

func (d *Daemon) newAdmin(ctx context.Context) *admin.Server {
	return admin.New(admin.Options{
		Settings: func() config.Admin { return d.snapshot.Load().Config().Admin },
		Snapshot: d.snapshot.Load,
		Status:   d.status,
		Brief:    d.brief,
		Tunnels:  d.tunnels.rows,
		Close:    d.tunnels.close,
		Metrics:  d.metrics.Handler(),
		Feeds:    d.feedReport,
		Journal:  d.journal,
		Config:   d.configReport,
		Fleet:    d.fleetReport,
		Reload:   func(_ context.Context, dryRun bool) admin.Report { return d.Reload(ByAdmin, dryRun) },
		Upgrade: func(_ context.Context, move bool, progress func(string)) error {
			return d.Upgrade(ctx, move || d.snapshot.Load().Config().Upgrade.Tunnels == "move", progress)
		},
		Drain:    d.setDrained,
		Outlook:  outlook,
		Panicked: d.panicked,
		Relieve:  d.descriptors.relieve,
		MaxConns: adminConns(d.descriptors.limit),
	})
}

// setDrained begins or ends a drain for an operator. Names compare without case,
// as in the file.
func (d *Daemon) setDrained(name, exchange string, on bool) error {
	name, exchange = strings.ToLower(name), strings.ToLower(exchange)
	set := d.snapshot.Load().Set()
	u := set.Upstream(name)
	if u == nil {
		var names []string
		for _, have := range set.Upstreams() {
			names = append(names, have.Name())
		}
		return fmt.Errorf("there is no upstream %q; there are: %s", name, strings.Join(names, ", "))
	}
	exchange, err := exchangeID(d.snapshot.Load(), exchange)
	if err != nil {
		return err
	}
	u.SetDrained(exchange, on)
	d.journal.Add(drainEvent(name, exchange, on))
	return nil
}

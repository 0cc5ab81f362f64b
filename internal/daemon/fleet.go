package daemon

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/admin"
	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/fleet"
	"proxyd/internal/printable"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

// fleetPart is this process' part in the fleet; none without one in the configuration.
type fleetPart struct {
	current atomic.Pointer[fleet.Fleet] // nil: this host is alone
	running context.Context             //nolint:containedctx // the life of the daemon's parts; set by Run
	exits   atomic.Pointer[exitTable]   // of the snapshot that it was made of
	probe   chan []string               // members to be probed soon

	mu      sync.Mutex // guards the rest
	config  config.Fleet
	stop    func()        // ends the current one's Run
	inherit []fleet.Slots // of the process before, until the first one begins
}

// setFleet begins, ends or replaces this process' part in the fleet, as c says.
func (d *Daemon) setFleet(c config.Fleet) {
	p := &d.fleet
	p.mu.Lock()
	defer p.mu.Unlock()
	if c == p.config {
		return
	}
	stop := p.stop
	p.config, p.stop = c, nil
	if c == (config.Fleet{}) {
		p.current.Store(nil)
	} else if f, err := fleet.New(d.fleetOptions(c)); err == nil { // else Snapshot has refused it
		f.Import(p.inherit)
		p.inherit = nil
		f.Join(p.running)
		ctx, cancel := context.WithCancel(p.running)
		done := make(chan struct{})
		go func() { // ends with ctx; stop waits for it
			defer close(done)
			f.Run(ctx)
		}()
		p.stop = func() {
			cancel()
			<-done
		}
		p.current.Store(f)
	}
	if stop != nil { // after the next one has joined: what is shared stays so
		stop()
	}
	if c == (config.Fleet{}) {
		d.takeVerdicts(nil) // of others there are none any more
	}
}

// endFleet takes this process out of the fleet.
func (d *Daemon) endFleet() {
	d.fleet.mu.Lock()
	defer d.fleet.mu.Unlock()
	if d.fleet.stop != nil {
		d.fleet.stop()
		d.fleet.stop = nil
	}
}

func (d *Daemon) fleetOptions(c config.Fleet) fleet.Options {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	return fleet.Options{
		URL: c.Redis.Reveal(), Name: c.Name, Hosts: c.Hosts, Host: name, Table: d.budgets(), Called: d.metrics.FleetCall,
		Board: fleet.Board{Own: d.ownVerdicts, Others: d.takeVerdicts, Hint: d.takeHint},
		Row: func() fleet.Host {
			row := fleet.Host{PID: os.Getpid(), Version: d.options.Version, Config: d.file.Load().hash()}
			for _, e := range withOlder(d.feeds.Exchanges(), d.upgrade.others.processes()) {
				if e.State.Bad() {
					row.Lost = append(row.Lost, cmp.Or(e.Exchange, "other hosts")+" "+e.Kind)
				}
			}
			return row
		},
	}
}

// retire returns what the next process must know, and leaves granting to it.
func (p *fleetPart) retire() []fleet.Slots {
	f := p.current.Load()
	if f == nil {
		return nil
	}
	f.Retire(true)
	return f.Export()
}

// resume ends retire: there is no next process.
func (p *fleetPart) resume() {
	if f := p.current.Load(); f != nil {
		f.Retire(false)
	}
}

// fleetFindings returns that Redis is not used, and the limits that differ between
// hosts.
func (d *Daemon) fleetFindings(now time.Time) (list []finding) {
	f := d.fleet.current.Load()
	if f == nil || d.upgrade.isReplaced() {
		return nil
	}
	if s := f.State(); !s.Used {
		hosts, advice := "shared budgets admit nothing here, as the number of hosts is not known", s.Advice+"; fleet.hosts gives this host a share"
		if s.Between > 0 {
			hosts, advice = fmt.Sprintf("shared budgets are down to this host's share between %d", s.Between), s.Advice
		}
		found := finding{
			key: "fleet", typ: event.Fleet, severity: event.Warn, since: s.Since, dated: true, over: "fleet: Redis is used again",
			text: fmt.Sprintf("fleet: Redis is not used since %s (%s): %s", printable.Clock(s.Since, now), s.Why, hosts), hint: advice,
		}
		list = append(list, found)
	}
	for i, x := range f.Differences() {
		if i == maxLines {
			break
		}
		list = append(list, finding{
			key: "fleet " + x.Budget.String() + x.Budget.Kind, typ: event.Fleet, severity: event.Warn, linger: limitLinger, over: "fleet: all hosts have the same limits for " + x.Budget.String(),
			text: fmt.Sprintf("fleet: hosts have different limits for %s: %s", x.Budget, differenceWords(x)), hint: "give all hosts the same configuration; proxyd status --fleet shows which have another one",
		})
	}
	return list
}

func differenceWords(x fleet.Difference) string {
	if limitWords(x.Here) == limitWords(x.Force) {
		return limitWords(x.Here) + " here, which holds for all, and another host has more"
	}
	return fmt.Sprintf("%s here, and %s of another host holds for all", limitWords(x.Here), limitWords(x.Force))
}

// fleetRow returns this process' part in the fleet, nil if it has none.
func (d *Daemon) fleetRow() *admin.Fleet {
	f := d.fleet.current.Load()
	if f == nil {
		return nil
	}
	s := f.State()
	return &admin.Fleet{Used: s.Used, Since: s.Since, Hosts: s.Hosts, Why: s.Why}
}

// fleetReport returns the whole fleet, nil without one.
func (d *Daemon) fleetReport(ctx context.Context) *admin.FleetReport {
	f := d.fleet.current.Load()
	if f == nil {
		return nil
	}
	s := f.State()
	r := &admin.FleetReport{Name: d.snapshot.Load().Config().Fleet.Name, Used: s.Used, Since: s.Since, Why: s.Why}
	hosts, read, err := f.Hosts(ctx)
	if r.Time, r.Read = time.Now(), read; err != nil {
		r.Problem = err.Error()
	}
	for _, h := range hosts {
		r.Processes = append(r.Processes, admin.FleetProcess{
			Host: h.Host, PID: h.PID, Version: h.Version, Config: h.Config, Lost: h.Lost, LastSeen: h.LastSeen, Gone: h.Gone, Retired: h.Retired, Alone: h.Alone, Here: h.Here,
		})
	}
	for _, t := range f.Totals() {
		r.Budgets = append(r.Budgets, admin.FleetBudget{
			Exit: t.Budget.Exit, Exchange: t.Budget.Exchange, Kind: t.Budget.Kind, Limit: limitWords(t.Limits), Used: t.Used, Open: t.Open, Heard: t.Heard, Differs: t.Differs,
		})
	}
	for _, v := range f.Verdicts() {
		r.Verdicts = append(r.Verdicts, admin.FleetVerdict{Exit: v.Exit, Exchange: v.Exchange, Kind: v.Kind, Verdict: v.Word, Until: v.Until, Text: v.Text, From: v.Host})
	}
	return r
}

// exitTable is which upstreams leave by which exits, of those that the file names: only
// these mean the same address on each host.
type exitTable struct {
	snap      *router.Router
	upstreams map[string][]*upstream.Upstream // by exit
	exits     map[string][]string             // by upstream
}

func (d *Daemon) exitTable() *exitTable {
	snap := d.snapshot.Load()
	if t := d.fleet.exits.Load(); t != nil && t.snap == snap {
		return t
	}
	t := &exitTable{snap, map[string][]*upstream.Upstream{}, map[string][]string{}}
	for _, p := range snap.Config().Pools {
		for _, m := range p.Proxies {
			if !m.Enabled || !m.ExitStable || slices.Contains(t.exits[m.Name], m.Exit) {
				continue
			}
			if u := snap.Set().Upstream(m.Name); u != nil {
				t.upstreams[m.Exit] = append(t.upstreams[m.Exit], u)
				t.exits[m.Name] = append(t.exits[m.Name], m.Exit)
			}
		}
	}
	d.fleet.exits.Store(t)
	return t
}

// foundVerdict tells the other hosts what this process has found of u.
func (d *Daemon) foundVerdict(u *upstream.Upstream, v upstream.PairVerdict) {
	f := d.fleet.current.Load()
	if f == nil || v.Exchange == "" || d.upgrade.isReplaced() {
		return
	}
	for _, exit := range d.exitTable().exits[u.Name()] {
		f.Found(fleetVerdict(exit, v))
	}
}

func fleetVerdict(exit string, v upstream.PairVerdict) fleet.Verdict {
	return fleet.Verdict{Exit: exit, Exchange: v.Exchange, Kind: v.Kind.String(), Word: string(v.Verdict.Word), Until: v.Verdict.Until, Text: v.Verdict.Text}
}

// ownVerdicts returns what this process has found of exits, and still holds.
func (d *Daemon) ownVerdicts() (list []fleet.Verdict) {
	if d.upgrade.isReplaced() {
		return nil
	}
	for exit, upstreams := range d.exitTable().upstreams {
		for _, u := range upstreams {
			for _, v := range u.BadVerdicts() {
				if v.Verdict.From == "" && v.Verdict.Word.ByExchange() && v.Exchange != "" {
					list = append(list, fleetVerdict(exit, v))
				}
			}
		}
	}
	return list
}

// takeVerdicts makes what other hosts have found hold here: of list, and nothing else.
// Exits and exchanges that this process does not know are left out.
func (d *Daemon) takeVerdicts(list []fleet.Verdict) {
	type pair struct {
		upstream, exchange string
		kind               catalog.Kind
	}
	t := d.exitTable()
	known := t.snap.Config().Known()
	held := map[pair]bool{}
	for _, v := range list {
		kind, err := catalog.ParseKind(v.Kind)
		x, ok := known.Get(v.Exchange)
		if err != nil || !ok || x.ID != v.Exchange {
			continue
		}
		for _, u := range t.upstreams[v.Exit] {
			held[pair{u.Name(), v.Exchange, kind}] = true
			u.OfferVerdict(v.Exchange, kind, upstream.Verdict{Word: upstream.Word(v.Word), Until: v.Until, Text: v.Text, From: v.Host})
		}
	}
	for _, u := range t.snap.Set().Upstreams() {
		for _, v := range u.BadVerdicts() {
			if v.Verdict.From != "" && !held[pair{u.Name(), v.Exchange, v.Kind}] {
				u.WithdrawVerdict(v.Exchange, v.Kind)
			}
		}
	}
}

// hintTime is how long other hosts remember that an exit was ejected somewhere.
const hintTime = 30 * time.Second

// ejectedUpstream tells the other hosts that u is ejected here: it may be the network.
func (d *Daemon) ejectedUpstream(u *upstream.Upstream, cause string) {
	if f := d.fleet.current.Load(); f != nil {
		for _, exit := range d.exitTable().exits[u.Name()] {
			f.Found(fleet.Verdict{Exit: exit, Word: fleet.Ejected, Until: time.Now().Add(hintTime), Text: cause})
		}
	}
}

// takeHint brings forward the probes of an exit that another host has ejected.
func (d *Daemon) takeHint(v fleet.Verdict) {
	var names []string
	for _, u := range d.exitTable().upstreams[v.Exit] {
		if _, _, ejected := u.Ejected(); !ejected {
			names = append(names, u.Name())
		}
	}
	if len(names) == 0 || d.upgrade.isReplaced() {
		return
	}
	select {
	case d.fleet.probe <- names:
		d.log().Info("probes are brought forward", zap.Strings("upstreams", names), zap.String("why", "host "+v.Host+" has ejected the exit: "+v.Text))
	default: // enough probes are asked for already
	}
}

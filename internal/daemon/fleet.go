package daemon

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/fleet"
	"proxyd/internal/printable"
)

// fleetPart is this process' part in the fleet; none without one in the configuration.
type fleetPart struct {
	current atomic.Pointer[fleet.Fleet] // nil: this host is alone
	running context.Context             //nolint:containedctx // the life of the daemon's parts; set by Run

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
		Row: func() fleet.Host {
			return fleet.Host{PID: os.Getpid(), Version: d.options.Version, Config: d.file.Load().hash()}
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
		hosts := "as long as the number of hosts is not known, this host admits nothing"
		if s.Hosts > 0 {
			hosts = fmt.Sprintf("shared budgets are down to this host's share between %d", s.Hosts)
		}
		found := finding{
			key: "fleet", typ: event.Fleet, severity: event.Warn, since: s.Since, dated: true, over: "fleet: Redis is used again",
			text: fmt.Sprintf("fleet: Redis is not used since %s (%s): %s", printable.Clock(s.Since, now), s.Why, hosts), hint: "see that Redis runs and can be reached from here: fleet.redis",
		}
		if s.Far {
			found.hint = "use a Redis that answers within 20 ms"
		}
		list = append(list, found)
	}
	for i, x := range f.Differences() {
		if i == maxLines {
			break
		}
		list = append(list, finding{
			key: "fleet " + x.Budget.String() + x.Budget.Kind, typ: event.Fleet, severity: event.Warn, linger: limitLinger, over: "fleet: all hosts have the same limits for " + x.Budget.String(),
			text: fmt.Sprintf("fleet: hosts have different limits for %s: %s here, and %s holds", x.Budget, limitWords(x.Here), limitWords(x.Force)), hint: "give all hosts the same configuration",
		})
	}
	return list
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

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/admin"
	"proxyd/internal/handover"
	"proxyd/internal/limit"
	"proxyd/internal/tunnel"
)

// inherit takes what the process that started this one has handed over, or what
// systemd has opened.
func (d *Daemon) inherit() (err error) {
	if d.upgrade.parent, err = handover.Inherited(keepAlive); err != nil {
		return err
	}
	if d.upgrade.parent != nil {
		d.upgrade.inherited = d.upgrade.parent.Listeners
		return nil
	}
	d.upgrade.inherited, err = handover.Activated(keepAlive)
	return err
}

// awaitTakeover waits until this process may serve, and takes over what it must know.
func (d *Daemon) awaitTakeover() {
	state, err := d.upgrade.parent.Ready(tunnel.Format)
	if err != nil { // it has died: the listeners are here, so serve
		d.log().Warn("upgrade", zap.Error(err))
		return
	}
	var s handoverState
	if err := json.Unmarshal(state, &s); err != nil {
		d.log().Warn("upgrade", zap.NamedError("state", err))
		return
	}
	d.generation = s.Generation
	if err := d.journal.Import(s.Journal); err != nil {
		d.log().Warn("upgrade", zap.NamedError("state", err))
	}
	d.alarms.restore(s.Alarms, time.Now())
	d.takeLists(s.Lists)
	set := d.snapshot.Load().Set()
	set.Import(s.Upstreams)
	set.Budgets().Import(s.Budgets)
	d.feeds.Import(s.Feeds)
	d.fleet.inherit = s.Fleet
	d.upgrade.others.setOpen(s.Open, d.budgets())
	d.upgrade.arriving.Store(true)
}

// receive takes over what the process before this one passes on, until that one
// ends. When it ends unexpectedly, what is known of those before it stays.
func (d *Daemon) receive() {
	last, err := d.upgrade.parent.Receive(d.prepareBatch)
	var n progressMsg
	if err == nil && json.Unmarshal(last, &n) == nil {
		d.applyProgress(n)
	} else { // what it had has ended with it
		d.upgrade.others.remove(d.upgrade.parent.PID, d.budgets())
	}
	d.upgrade.arriving.Store(false)
	d.log().Info("the process before this one has ended", zap.Int("pid", d.upgrade.parent.PID))
}

// prepareBatch unpacks a batch; the function that it returns takes it over.
func (d *Daemon) prepareBatch(items []handover.Item) (resume func(), err error) {
	var arrived []*tunnel.Arrived
	var news *progressMsg
	for _, i := range items {
		switch {
		case len(i.Data) == 0:
			return nil, errors.New("an item without data")
		case i.Data[0] == itemTunnel:
			a, err := tunnel.Unpack(tunnel.Parcel{Data: i.Data[1:], Conns: i.Conns})
			if err != nil {
				return nil, err
			}
			arrived = append(arrived, a)
		case i.Data[0] == itemProgress:
			news = &progressMsg{}
			if err := json.Unmarshal(i.Data[1:], news); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("an item of an unknown kind %q", i.Data[0])
		}
	}
	return func() {
		for _, a := range arrived {
			d.adopt(a)
		}
		if len(arrived) > 0 {
			d.removed.wake() // this configuration may lack their upstreams
		}
		if news != nil {
			d.applyProgress(*news)
		}
	}, nil
}

func (d *Daemon) adopt(a *tunnel.Arrived) {
	r := tunnel.Record{Opening: a.Opening}
	r.Up, r.Down = a.Bytes()
	d.metrics.Adopt(r) // before it goes on, and may end
	d.feeds.Adopt(r)
	u, release := d.snapshot.Load().Set().Adopt(a.Pool, a.Upstream, a.Exchange, a.Kind)
	d.handler.Adopt(a, u, release)
}

func (d *Daemon) applyProgress(n progressMsg) {
	d.upgrade.arriving.Store(n.Moving)
	d.upgrade.others.list.Store(&n.Older)
	d.upgrade.others.setOpen(n.Open, d.budgets())
	for _, e := range n.Events {
		d.journal.Adopt(e)
	}
}

// openCounts returns what this process and those before it have open, as the
// next one must count it.
func (d *Daemon) openCounts() []openCount {
	list := d.upgrade.others.openCounts()
	for k, n := range d.budgets().Open() {
		list = append(list, openCount{os.Getpid(), k.Exchange, k.Kind, k.Exit, n})
	}
	return list
}

// openCount is how many connections a process has open that count in a budget.
type openCount struct {
	PID                  int
	Exchange, Kind, Exit string
	Open                 int
}

// otherProcesses are those before this one that still serve tunnels. Safe for
// concurrent use.
type otherProcesses struct {
	list atomic.Pointer[[]admin.Process]
	open atomic.Pointer[[]openCount] // what they have open, as budgets count it
}

// processes returns those that are still there.
func (o *otherProcesses) processes() (list []admin.Process) {
	if known := o.list.Load(); known != nil {
		for _, p := range *known {
			if alive(p.PID) {
				list = append(list, p)
			}
		}
	}
	return list
}

// openCounts returns what those that are still there have open.
func (o *otherProcesses) openCounts() (list []openCount) {
	if known := o.open.Load(); known != nil {
		for _, c := range *known {
			if alive(c.PID) {
				list = append(list, c)
			}
		}
	}
	return list
}

// setOpen takes over what they have reported, and counts it in the budgets.
func (o *otherProcesses) setOpen(list []openCount, budgets *limit.Table) {
	o.open.Store(&list)
	countRemote(o.openCounts(), budgets)
}

// remove takes out a process that has ended.
func (o *otherProcesses) remove(pid int, budgets *limit.Table) {
	o.list.Store(new(slices.DeleteFunc(o.processes(), func(p admin.Process) bool { return p.PID == pid })))
	o.setOpen(slices.DeleteFunc(o.openCounts(), func(c openCount) bool { return c.PID == pid }), budgets)
}

// follow takes the connections of processes that end unexpectedly out of the
// budgets, at most a second late. It runs until ctx ends.
func (o *otherProcesses) follow(ctx context.Context, budgets func() *limit.Table) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			known := o.open.Load()
			if known == nil {
				continue
			}
			if still := o.openCounts(); len(still) < len(*known) && o.open.CompareAndSwap(known, &still) {
				countRemote(still, budgets())
			}
		}
	}
}

func countRemote(list []openCount, budgets *limit.Table) {
	open := map[limit.Key]int{}
	for _, c := range list {
		open[limit.Key{Exchange: c.Exchange, Kind: c.Kind, Exit: c.Exit}] += c.Open
	}
	budgets.SetRemoteOpen(open)
}

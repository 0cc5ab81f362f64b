package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"proxyd/internal/admin"
	"proxyd/internal/handover"
	"proxyd/internal/tunnel"
)

// inherit takes what the process that started this one has handed over, or what
// systemd has opened.
func (d *Daemon) inherit() (err error) {
	if d.parent, err = handover.Inherited(keepAlive); err != nil {
		return err
	}
	if d.parent != nil {
		d.inherited = d.parent.Listeners
		return nil
	}
	d.inherited, err = handover.Activated(keepAlive)
	return err
}

// awaitTakeover waits until this process may serve, and learns what it must know.
func (d *Daemon) awaitTakeover() {
	state, err := d.parent.Ready(tunnel.Format)
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
	set := d.snapshot.Load().Set()
	set.Import(s.Upstreams)
	set.Budgets().Import(s.Budgets)
	d.hearOpen(s.Open)
	d.arriving.Store(true)
}

// receive takes over what the process before this one passes on, until that one
// ends. When it ends without a word, what is known of those before it stays.
func (d *Daemon) receive() {
	last, err := d.parent.Receive(d.hold)
	var n progressMsg
	if err == nil && json.Unmarshal(last, &n) == nil {
		d.applyProgress(n)
	} else { // what it had has ended with it
		gone := d.parent.PID
		d.older.Store(new(slices.DeleteFunc(d.olderProcesses(), func(p admin.Process) bool { return p.PID == gone })))
		d.hearOpen(slices.DeleteFunc(d.openElsewhere(), func(c openCount) bool { return c.PID == gone }))
	}
	d.arriving.Store(false)
	d.log().Info("the process before this one has ended", zap.Int("pid", d.parent.PID))
}

// hold unpacks a batch; what it gives takes it over.
func (d *Daemon) hold(items []handover.Item) (resume func(), err error) {
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
		case i.Data[0] == itemNote:
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
			d.removed.look() // this configuration may lack their upstreams
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
	u, release := d.snapshot.Load().Set().Adopt(a.Pool, a.Upstream, a.Exchange, a.Kind)
	d.handler.Adopt(a, u, release)
}

func (d *Daemon) applyProgress(n progressMsg) {
	d.arriving.Store(n.Moving)
	d.older.Store(&n.Older)
	d.hearOpen(n.Open)
}

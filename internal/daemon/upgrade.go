package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/feed"
	"proxyd/internal/fleet"
	"proxyd/internal/handover"
	"proxyd/internal/limit"
	"proxyd/internal/printable"
	"proxyd/internal/source"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

const (
	childTime      = 30 * time.Second       // a new process may take so long until it is ready
	moveBatch      = 50                     // tunnels that stand still at the same time; with 100 the pause doubles
	settleTime     = 10 * time.Second       // for connections that were accepted before the hand-over; as inbound's handshakeTime
	retireInterval = 100 * time.Millisecond // between two looks at what is left
)

// handoverState is what the next process must know before its first connection.
type handoverState struct {
	Generation int
	Upstreams  []upstream.Memory
	Budgets    []limit.History
	Open       []openCount
	Journal    []byte // event.Journal.HandOver
	Alarms     []alarmMemory
	Feeds      []feed.Memory
	Fleet      []fleet.Slots
	Lists      []source.Kept `json:",omitempty"`
}

// upgrade is what a change of processes needs.
type upgrade struct {
	running   sync.Mutex // held during an upgrade
	program   string     // what is started
	upgrader  handover.Upgrader
	replaced  chan struct{} // closed when the next process serves; child and leaving are set then
	child     *handover.Child
	leaving   time.Time
	parent    *handover.Parent // the process before this one; nil if there was none
	inherited *handover.Listeners
	arriving  atomic.Bool // tunnels still come from there
	others    otherProcesses
}

// isReplaced reports whether the next process serves.
func (u *upgrade) isReplaced() bool {
	select {
	case <-u.replaced:
		return true
	default:
		return false
	}
}

// Items that pass to the next process begin with one of these.
const (
	itemTunnel   = 't' // then a tunnel.Parcel's data
	itemProgress = 'n' // then a progressMsg, in JSON
)

// progressMsg reports to the next process how far this one is.
type progressMsg struct {
	Moving bool            // tunnels still come
	Older  []admin.Process // this process, and those before it
	Open   []openCount     // what they have open, as budgets count it
	Events []event.Event   // what has happened here since the hand-over
}

// Upgrade starts the program that is now on disk, and lets it take over the
// listeners and, with move, the tunnels that can move. This process then serves
// what is left. The error says why nothing has happened: the new process could
// not start, another upgrade is running, or Options has PartOf.
func (d *Daemon) Upgrade(ctx context.Context, move bool, progress func(string)) error {
	if !d.upgrade.running.TryLock() {
		return handover.ErrRunning
	}
	defer d.upgrade.running.Unlock()
	if d.upgrade.arriving.Load() {
		return handover.ErrRunning
	}
	if d.options.PartOf != "" {
		return fmt.Errorf("this daemon is part of %s, and the new process would not take the rest over; end that, and start it again", d.options.PartOf)
	}
	if err := d.canChange(); err != nil {
		return err
	}
	d.reloading.Lock() // from here on the new process decides
	defer d.reloading.Unlock()
	if err := d.refuseFile(); err != nil {
		return err
	}
	report := func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		d.log().Info("upgrade", zap.String("step", line))
		progress(line)
	}
	err := d.handOver(ctx, move, report)
	switch {
	case err != nil && d.upgrade.isReplaced():
		d.journal.Add(event.Event{Severity: event.Error, Type: event.Upgraded, Text: err.Error()})
	case err != nil:
		d.journal.Add(event.Event{
			Severity: event.Error, Type: event.Upgraded, Text: "upgrade failed, this process goes on: " + err.Error(), Hint: "correct that, then: proxyd upgrade",
		})
	}
	return err
}

// refuseFile returns why the next process must not begin with the file on disk, as it is
// now: it would put that in force, the guard of reload or not. A file with keys that this
// version does not know is for the next one to judge, as is the first one with an error
// that no reload has found yet.
func (d *Daemon) refuseFile() error {
	prev := d.snapshot.Load()
	next, newlyDirect, err := d.candidate(prev, func() (*config.Config, error) { return d.read(config.Options{SkipUnknown: true}) })
	switch {
	case err == nil:
		err = holdBack(slices.Concat(newlyDirect, config.ShrunkLists(prev.Config(), next.Config())))
	case len(d.file.Load().errors) == 0:
		return nil
	}
	if err != nil {
		return fmt.Errorf("the file on disk is not in force, and the new process would begin with it: %s; correct it, or run: proxyd reload", errorLines(err)[0])
	}
	return nil
}

func (d *Daemon) handOver(ctx context.Context, move bool, report func(string, ...any)) error {
	child, err := d.upgrade.upgrader.Start(handover.StartOptions{Path: d.upgrade.program, Listeners: d.listening.Load().handover()})
	if err != nil {
		return err
	}
	report("%s is started, process %d", d.upgrade.program, child.PID)
	readyCtx, cancel := context.WithTimeout(ctx, childTime)
	defer cancel()
	if err := child.Ready(readyCtx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // stopped: this process and what it has started
		child.Kill()
		return err
	}
	d.journal.Add(event.Event{Severity: event.Info, Type: event.Upgraded, Text: fmt.Sprintf("process %d is ready to take over", child.PID)})
	set, journal := d.snapshot.Load().Set(), d.journal.HandOver()
	d.budgets().Suspend() // from here on the new process grants
	taken := false
	defer func() {
		if !taken {
			d.budgets().Resume()
			d.fleet.resume()
			d.journal.Resume()
		}
	}()
	state, err := json.Marshal(handoverState{d.generation + 1, set.Export(), set.Budgets().Export(), d.openCounts(), journal, d.alarms.export(), d.feeds.Export(), d.fleet.retire(), d.lists.Export()})
	if err != nil {
		child.Kill()
		return err
	}
	if err := child.Go(state); err != nil {
		return err
	}
	taken = true
	if ctx.Err() != nil { // likewise
		_ = child.Signal(syscall.SIGTERM) // fails only when it has ended
	}
	notify(fmt.Sprintf("MAINPID=%d\nREADY=1\nWATCHDOG=1", child.PID)) // its own first sign of life may be half the time away
	closeAll(d.listening.Load().bound)
	d.admin.Retire()
	d.inbound.Drain()
	report("it accepts connections; this process takes no new ones")
	d.upgrade.leaving = time.Now()
	if move {
		d.moveTunnels(ctx, child, report)
	}
	silent := d.sendProgress(child, false)
	d.upgrade.child = child
	if n := d.handler.Active(); n > 0 {
		report("%s with the old process until the end, at most %s", printable.Count(n, "tunnel stays", "tunnels stay"), d.snapshot.Load().Config().Upgrade.Drain)
	}
	close(d.upgrade.replaced)
	if silent != nil {
		return fmt.Errorf("the new process (PID %d) has taken over and does not answer (%w); if it has ended, start proxyd again: this process serves its tunnels to their end, and accepts nothing", child.PID, silent)
	}
	return nil
}

// moveTunnels passes on what can move; a second time for tunnels that were just
// being opened.
func (d *Daemon) moveTunnels(ctx context.Context, child *handover.Child, report func(string, ...any)) {
	if !child.Takes(tunnel.Format) {
		report("%v", handover.ErrFormat)
		return
	}
	_ = d.sendProgress(child, true)
	moved, longest := 0, time.Duration(0)
	for end := time.Now().Add(settleTime); ; time.Sleep(retireInterval / 4) {
		pending := !d.inbound.Idle() && time.Now().Before(end)
		m, err := d.handler.Move(ctx, moveBatch, func(parcels []tunnel.Parcel) (int, error) { return child.Move(items(parcels)) })
		moved, longest = moved+m.Moved, max(longest, m.Longest)
		if err != nil {
			report("moving tunnels stopped: %v", err)
			break
		}
		if !pending {
			break
		}
	}
	report("%s, the longest pause was %d ms", printable.Count(moved, "tunnel has moved", "tunnels have moved"), longest.Milliseconds())
	d.journal.Add(event.Event{
		Severity: event.Info, Type: event.Upgraded, Count: moved,
		Text: fmt.Sprintf("%s to the new process, %d stay with process %d until the end", printable.Count(moved, "tunnel has moved", "tunnels have moved"), d.handler.Active(), os.Getpid()),
	})
}

func items(parcels []tunnel.Parcel) []handover.Item {
	list := make([]handover.Item, len(parcels))
	for i, p := range parcels {
		list[i] = handover.Item{Data: append([]byte{itemTunnel}, p.Data...), Conns: p.Conns}
	}
	return list
}

// sendProgress sends how far this process is.
func (d *Daemon) sendProgress(child *handover.Child, moving bool) error {
	data, err := json.Marshal(progressMsg{moving, d.processes(), d.openCounts(), d.journal.Held()})
	if err != nil {
		return err
	}
	_, err = child.Move([]handover.Item{{Data: append([]byte{itemProgress}, data...)}})
	return err
}

// processes returns this one and those before it, as the next one shows them.
func (d *Daemon) processes() []admin.Process {
	self := admin.Process{Generation: d.generation, PID: os.Getpid(), Tunnels: d.handler.Active(), Since: d.upgrade.leaving, Seen: time.Now()}
	for _, e := range d.feeds.Exchanges() {
		if e.State == feed.Silent && e.Tunnels > 0 { // what has closed them opens others in the next process
			self.Silent = append(self.Silent, e)
		}
	}
	return append(d.upgrade.others.processes(), self)
}

// addFeed adds what the table of feeds has found. Once this process is replaced its
// tunnels only end, which is no loss: the next one knows whether they are opened again.
func (d *Daemon) addFeed(e event.Event) {
	if d.upgrade.isReplaced() && (e.Type == event.ExchangeLost || e.Type == event.ExchangeBack) {
		return
	}
	d.journal.Add(e)
}

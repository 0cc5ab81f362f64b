package daemon

import (
	"context"
	"os"
	"time"

	"proxyd/internal/limit"
)

// openCount is how many connections a process has open that count in a budget.
type openCount struct {
	PID                  int
	Exchange, Kind, Exit string
	Open                 int
}

// openCounts are this process's and those of the ones before it, as the next one
// must count them.
func (d *Daemon) openCounts() []openCount {
	list := d.openElsewhere()
	for k, n := range d.snapshot.Load().Set().Budgets().Open() {
		list = append(list, openCount{os.Getpid(), k.Exchange, k.Kind, k.Exit, n})
	}
	return list
}

// openElsewhere are those of the processes before this one that are still there.
func (d *Daemon) openElsewhere() (list []openCount) {
	if known := d.olderOpen.Load(); known != nil {
		for _, c := range *known {
			if alive(c.PID) {
				list = append(list, c)
			}
		}
	}
	return list
}

// hearOpen takes in what the processes before this one have open.
func (d *Daemon) hearOpen(list []openCount) {
	d.olderOpen.Store(&list)
	d.countElsewhere(d.openElsewhere())
}

func (d *Daemon) countElsewhere(list []openCount) {
	open := map[limit.Key]int{}
	for _, c := range list {
		open[limit.Key{Exchange: c.Exchange, Kind: c.Kind, Exit: c.Exit}] += c.Open
	}
	d.snapshot.Load().Set().Budgets().SetRemoteOpen(open)
}

// followElsewhere forgets the connections of processes that end without a word,
// at most a second late. It runs until ctx ends.
func (d *Daemon) followElsewhere(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			known := d.olderOpen.Load()
			if known == nil {
				continue
			}
			if still := d.openElsewhere(); len(still) < len(*known) && d.olderOpen.CompareAndSwap(known, &still) {
				d.countElsewhere(still)
			}
		}
	}
}

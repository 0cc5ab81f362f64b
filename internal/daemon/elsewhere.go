package daemon

import (
	"os"

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
	open := map[limit.Key]int{}
	for _, c := range d.openElsewhere() {
		open[limit.Key{Exchange: c.Exchange, Kind: c.Kind, Exit: c.Exit}] += c.Open
	}
	d.snapshot.Load().Set().Budgets().Elsewhere(open)
}

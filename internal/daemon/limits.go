package daemon

import (
	"fmt"
	"time"

	"proxyd/internal/event"
	"proxyd/internal/router"
)

const (
	raiseFiles  = "raise the limit of open files (ulimit -n, LimitNOFILE=)"
	recently    = 2 * time.Second // a limit that refused something counts as reached
	limitLinger = 3 * time.Second // and for longer, so that one that is reached again and again is one state
)

// near reports whether at least nine tenths of a limit are used.
func near(used, limit int) bool { return used*10 >= limit*9 }

// tunnelFindings returns whether the limit of tunnels or that of open files is
// reached, or nearly.
func (d *Daemon) tunnelFindings(snap *router.Router, now time.Time) (list []finding) {
	limit, used := d.descriptors.tunnelLimit(snap), d.handler.Occupied()
	refused, last := d.full.count(now)
	f := finding{key: "max_tunnels", typ: event.TunnelLimit, linger: limitLinger, hint: "raise max_tunnels", over: "there is room for tunnels again"}
	byFiles := limit != snap.Config().MaxTunnels
	if byFiles {
		f.hint = raiseFiles
	}
	switch {
	case limit == 0:
	case used >= limit || now.Sub(last) < recently:
		f.severity = event.Error
		f.text = fmt.Sprintf("max_tunnels reached: %d of %d", used, limit)
		if refused > 0 {
			f.text += fmt.Sprintf(", %d refused in 1 min", refused)
		}
		list = append(list, f)
	case near(used, limit):
		f.severity = event.Warn
		f.text = fmt.Sprintf("max_tunnels nearly reached: %d of %d", used, limit)
		list = append(list, f)
	}
	return append(list, d.descriptors.findings(now, d.descriptors.inUse(now), byFiles && len(list) > 0)...)
}

// countEvery is how often descriptors are counted where that takes time.
const countEvery = 15 * time.Second

// inUse returns the number of descriptors in use, at most countEvery old; 0 if it is unknown.
func (s *descriptors) inUse(now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cheap && !s.counted.IsZero() && now.Sub(s.counted) < countEvery {
		return s.used
	}
	s.used, s.cheap = openFiles()
	s.counted = now
	return s.used
}

// findings returns what is wrong with the descriptors; used is 0 where it is unknown.
// known: the limit of tunnels, which comes from that of open files, says that few are left.
func (s *descriptors) findings(now time.Time, used int, known bool) (list []finding) {
	f := finding{key: "descriptors", typ: event.Descriptors, linger: limitLinger, hint: raiseFiles, over: "file descriptors are free again"}
	inUse, most := "", int(min(s.limit, 1<<30)) //nolint:gosec // bounded
	if used > 0 && most > 0 {
		inUse = fmt.Sprintf(": %d of %d in use", min(used, most), most)
	}
	failed, last := s.failed.count(now)
	switch {
	case now.Sub(last) < recently || inUse != "" && used >= most:
		f.severity, f.text = event.Error, "out of file descriptors"+inUse
		if failed > 0 {
			f.text += fmt.Sprintf(", %d times none was free in 1 min", failed)
		}
		list = append(list, f)
	case inUse != "" && near(used, most) && !known:
		f.severity, f.text = event.Warn, "few file descriptors are left"+inUse
		list = append(list, f)
	}
	if gave, last := s.gave.count(now); now.Sub(last) < recently {
		list = append(list, finding{
			key: "evicted", typ: event.Descriptors, severity: event.Warn, linger: limitLinger, hint: "see which clients do so, or " + raiseFiles,
			text: fmt.Sprintf("%d connections that sent no request were closed to make room for others in 1 min", gave),
			over: "no connection has to make room for others any more",
		})
	}
	return list
}

// dialsWait is how long connections must have waited for a slot before it is news.
const dialsWait = 3 * time.Second

// dialFindings returns the pools whose connections wait for a dial slot.
func (d *Daemon) dialFindings() (list []finding) {
	for _, q := range d.handler.DialQueues() {
		list = append(list, finding{
			key: "dials " + q.Pool, severity: event.Warn, after: dialsWait, linger: limitLinger,
			text: fmt.Sprintf("%d connections of pool %s wait for a dial slot, %d are being opened", q.Waiting, q.Pool, q.Dialling),
			hint: "see why dials take long, or raise max_dials_per_host and max_dials",
		})
	}
	return list
}

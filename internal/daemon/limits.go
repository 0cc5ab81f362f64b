package daemon

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"proxyd/internal/event"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
)

const (
	raiseFiles  = "raise the limit of open files (ulimit -n, LimitNOFILE=)"
	recently    = 2 * time.Second // a limit that refused something counts as reached
	limitLinger = 3 * time.Second // and for longer, so that one that is reached again and again is one state
)

// near reports whether at least nine tenths of a limit are used.
func near(used, limit int) bool { return used*10 >= limit*9 }

// tunnelFindings returns whether the limit of tunnels or that of open files is
// reached, or nearly. used are the tunnels there are, full the refusals for want of room.
func (s *descriptors) tunnelFindings(snap *router.Router, used int, full *lastMinute, now time.Time) (list []finding) {
	limit := s.tunnelLimit(snap)
	refused, last := full.count(now)
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
	return append(list, s.findings(now, s.inUse(now), byFiles && len(list) > 0)...)
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
func dialFindings(queues []tunnel.DialQueue) (list []finding) {
	for _, q := range queues {
		list = append(list, finding{
			key: "dials " + q.Pool, severity: event.Warn, after: dialsWait, linger: limitLinger,
			text: fmt.Sprintf("%d connections of pool %s wait for a dial slot, %d are being opened", q.Waiting, q.Pool, q.Dialling),
			hint: "see why dials take long, or raise max_dials_per_host and max_dials",
		})
	}
	return list
}

// The limit of open files is shared out: two descriptors for each tunnel, some
// that proxyd needs itself (listeners, the admin address, probes, pipes, kept
// connections), and the rest for connections that wait for their request.

// ownFiles returns how many are for neither tunnels nor those that wait.
func ownFiles(files uint64) uint64 { return min(64, files/2) }

// maxTunnels returns how many tunnels the limit of open files has room for, whatever
// max_tunnels says; 0 where the limit is unknown.
func maxTunnels(files uint64) int {
	return int((min(files, 1<<30) - ownFiles(files)) / 2) //nolint:gosec // bounded
}

// waitingRoom returns how many connections may wait for their request beside open
// tunnels. A few always may: a client must get the answer that the limit is reached.
func waitingRoom(files uint64, open int) int {
	const most, fewest = 1 << 30, 16
	if files == 0 {
		return most
	}
	left := int(min(files, most)) - int(ownFiles(files)) - 2*open //nolint:gosec // bounded
	return max(left, min(fewest, int(min(files, most))/8))        //nolint:gosec // bounded
}

// adminConns returns how many connections the admin address may have; 0 leaves it to
// package admin.
func adminConns(files uint64) int {
	if files == 0 {
		return 0
	}
	return int(min(max(files/16, 8), 100)) //nolint:gosec // bounded
}

// tunnelLimit returns the limit of tunnels in force.
func (s *descriptors) tunnelLimit(r *router.Router) int {
	set, room := r.Config().MaxTunnels, maxTunnels(s.limit)
	if set == 0 || room > 0 && room < set {
		return room
	}
	return set
}

// descriptors shares out the limit of open files, and remembers when it was
// reached. Safe for concurrent use.
type descriptors struct {
	limit uint64      // 0: unknown
	free  func() bool // closes a connection that can be spared; false: there is none

	failed lastMinute // what needed one and found none
	gave   lastMinute // connections that were closed to make room

	mu      sync.Mutex
	used    int // when it was counted
	counted time.Time
	cheap   bool // counting is
}

func (s *descriptors) evicted() { s.gave.add(time.Now()) }

// relieve frees a descriptor for something that found none; false: it cannot.
func (s *descriptors) relieve() bool {
	s.failed.add(time.Now())
	return s.free()
}

// retry runs what opens files, and for a while runs it again when it has
// failed and no descriptor is free.
func (s *descriptors) retry(run func() error) error {
	const tries, pause = 30, 100 * time.Millisecond
	for range tries {
		if err := run(); err == nil || !outOfDescriptors() {
			return err
		}
		if !s.relieve() {
			time.Sleep(pause)
		}
	}
	return run()
}

// outOfDescriptors reports whether no descriptor can be had now.
func outOfDescriptors() bool {
	f, err := os.Open(os.DevNull)
	if err == nil {
		_ = f.Close()
	}
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// lastMinute counts what happened in the last minute. Safe for concurrent use.
type lastMinute struct {
	mu      sync.Mutex
	seconds [60]struct {
		second int64 // Unix time
		times  int
	}
	last time.Time
}

func (l *lastMinute) add(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.seconds[now.Unix()%60]
	if s.second != now.Unix() {
		s.second, s.times = now.Unix(), 0
	}
	s.times++
	l.last = now
}

// count returns how often it happened in the minute before now, and when last.
func (l *lastMinute) count(now time.Time) (times int, last time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.seconds {
		if now.Unix()-s.second < 60 {
			times += s.times
		}
	}
	return times, l.last
}

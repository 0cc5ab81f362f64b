package daemon

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"proxyd/internal/router"
)

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

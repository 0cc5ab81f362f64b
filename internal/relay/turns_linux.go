package relay

import (
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// turns lets a direction that has had its turn wait until everything that is
// ready has run. runtime.Gosched is not enough: while any goroutine can run, the
// scheduler asks the kernel which conns are ready every 10 ms at most, and bulk
// can always run. So the direction waits for an event that it raises itself:
// its goroutine is parked, and is ready again after the kernel has been asked.
type turns struct {
	once  sync.Once
	event *os.File                 // an eventfd in the runtime's poller; nil if none is to be had
	wait  syscall.RawConn          // its
	raise func(event uintptr) bool // the method ask, bound once: binding allocates
	asked bool                     // guarded by the lock that wait.Read holds
}

func (t *turns) open() {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return
	}
	t.event = os.NewFile(uintptr(fd), "eventfd")
	if wait, err := t.event.SyscallConn(); err == nil {
		t.wait, t.raise = wait, t.ask
	}
}

// yield lets everything run that is ready now, for 3 µs if nothing is. It is
// safe for concurrent use; callers take turns.
func (t *turns) yield() {
	t.once.Do(t.open)
	if t.wait == nil || t.wait.Read(t.raise) != nil {
		runtime.Gosched()
	}
}

// ask raises the event, and the next time ends the wait for it. The count is
// never read: the poller is edge-triggered, so that each write is an event.
func (t *turns) ask(event uintptr) (over bool) {
	if t.asked {
		t.asked = false
		return true
	}
	one := [8]byte{1}
	_, errno := write(event, one[:])
	t.asked = errno == 0
	return errno != 0
}

// close gives the descriptor back.
func (t *turns) close() {
	t.once.Do(func() {})
	if t.event != nil {
		_ = t.event.Close()
	}
}

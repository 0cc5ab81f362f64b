package daemon

import (
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenConfig sets keepalive on the listening socket, from which Linux hands
// it on to every accepted one: five system calls less for each connection. Clients of
// multipath TCP fall back to plain TCP, since the kernel knows the destination from
// before a redirection of no other connection.
func listenConfig() *net.ListenConfig {
	l := &net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			for _, o := range []struct{ level, name, value int }{
				{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
				{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, int(keepAlive.Idle.Seconds())},
				{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, int(keepAlive.Interval.Seconds())},
				{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, keepAlive.Count},
			} {
				if failed == nil {
					failed = syscall.SetsockoptInt(int(fd), o.level, o.name, o.value)
				}
			}
		})
		if err != nil {
			return err
		}
		return failed
	}}
	l.SetMultipathTCP(false)
	return l
}

// reloadingNow is what systemd's Type=notify-reload wants to hear (sd_notify(3)).
func reloadingNow() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail: the clock exists
	return "RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10)
}

// openFiles returns the number of descriptors in use; 0 if it is unknown. Since
// Linux 6.2 it is the size of the directory; before, the entries are counted, which
// takes milliseconds with thousands of tunnels.
func openFiles() (n int, cheap bool) {
	const dir = "/proc/self/fd"
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err == nil && st.Size > 0 {
		return int(st.Size), true
	}
	f, err := os.Open(dir)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(512)
		n += len(names)
		if err != nil {
			return n - 1, false // without the directory's own
		}
	}
}

package daemon

import (
	"net"
	"syscall"
)

// listenConfig sets keepalive on the listening socket, from which Linux hands
// it on to every accepted one: five system calls less for each connection.
func listenConfig() *net.ListenConfig {
	return &net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
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
}

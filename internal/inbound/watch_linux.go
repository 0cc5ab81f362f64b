package inbound

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// left waits until the peer has ended its side, unless it may, or reset the connection. It
// returns false when the read deadline came first. It asks poll for POLLRDHUP,
// so bytes that wait to be read do not hide the end behind them. The runtime's
// poller is edge-triggered: it wakes up for new bytes and for the end, not for
// what is there.
func left(c *net.TCPConn, mayEnd bool) bool {
	rc, err := c.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	signs := int16(unix.POLLRDHUP | unix.POLLHUP | unix.POLLERR)
	if mayEnd {
		signs = unix.POLLHUP | unix.POLLERR
	}
	_ = rc.Read(func(fd uintptr) bool {
		p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		for {
			n, err := unix.Poll(p[:], 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			gone = err == nil && n > 0 && p[0].Revents&signs != 0
			return gone
		}
	})
	return gone
}

//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package inbound

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// left waits until the peer has ended its side or reset the connection. It
// returns false when the read deadline came first, or bytes wait to be read,
// behind which the end cannot be seen here.
func left(c *net.TCPConn, _ bool) bool {
	rc, err := c.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	_ = rc.Read(func(fd uintptr) bool {
		var b [1]byte
		for {
			n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if errors.Is(err, unix.EAGAIN) {
				return false
			}
			gone = err != nil || n == 0
			return true
		}
	})
	return gone
}

package admin

import (
	"net"
	"syscall"
	"time"
)

// private sets the mode of a socket before its file exists, so that no other
// process can connect between bind and chmod (unix(7); Linux takes the file's
// mode from the descriptor's).
func private(_, _ string, c syscall.RawConn) error {
	var err error
	if controlErr := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); controlErr != nil {
		return controlErr
	}
	return err
}

const tcpUserTimeout = 18 // linux/tcp.h, on every architecture

// giveUpAfter ends a TCP connection whose other end has taken nothing of what was
// sent for so long: it has gone, or does not read (tcp(7), TCP_USER_TIMEOUT).
func giveUpAfter(conn net.Conn, d time.Duration) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil { // without it the kernel waits for longer
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds()))
		})
	}
}

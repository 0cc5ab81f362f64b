package relay

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// unanswered asks the kernel how far a conn's peer has answered. One that lives
// but does not read still acknowledges (TCP_USER_TIMEOUT would kill it: measured).
func unanswered(c net.Conn) (p path) {
	ask(c, func(_ int, info *unix.TCPInfo) {
		p.inFlight = info.Unacked > 0 || info.Probes > 0
		p.owed = p.inFlight || info.Notsent_bytes > 0
		p.lastAck = time.Duration(info.Last_ack_recv) * time.Millisecond
	})
	return p
}

// cutOff reports whether the end that a read of c has found is that of a reset.
// The kernel hands the error of a reset out once: if a write got it, a read
// finds a mere end. It holds only while no FIN has been sent over c.
func cutOff(c net.Conn) (cut bool) {
	const closed = 7 // TCP_CLOSE; after a FIN it is TCP_CLOSE_WAIT
	ask(c, func(fd int, info *unix.TCPInfo) {
		if info.State == closed {
			// A reset behind a FIN leaves EPIPE here.
			left, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			cut = err == nil && left == 0
		}
	})
	return cut
}

// over reports whether the kernel has an end from the peer of c, which may not have
// been read.
func over(c net.Conn) (over bool) {
	const closed, closeWait, lastAck, closing = 7, 8, 9, 11 // TCP_CLOSE and so on
	ask(c, func(_ int, info *unix.TCPInfo) {
		switch info.State {
		case closed, closeWait, lastAck, closing:
			over = true
		}
	})
	return over
}

func ask(c net.Conn, look func(fd int, info *unix.TCPInfo)) {
	control(c, func(fd int) {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			look(fd, info)
		}
	})
}

// control runs f with the descriptor of the socket below c, unless c is closed
// or has none.
func control(c net.Conn, f func(fd int)) {
	tcp := socket(c)
	if tcp == nil {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}

// writable reports whether c has room for bytes; also if that cannot be asked.
func writable(c net.Conn) bool {
	room := true
	control(c, func(fd int) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}} //nolint:gosec // a descriptor is small
		n, err := unix.Poll(poll, 0)
		room = err != nil || n > 0
	})
	return room
}

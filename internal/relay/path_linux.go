package relay

import (
	"net"

	"golang.org/x/sys/unix"
)

// pathDead asks the kernel whether what was sent over a conn has gone
// unanswered for longer than ms milliseconds.
func pathDead(c net.Conn, ms uint32) (dead bool) {
	ask(c, func(_ int, info *unix.TCPInfo) {
		dead = unanswered(info.Unacked, info.Retransmits, info.Probes, info.Last_ack_recv, ms)
	})
	return dead
}

// cutOff tells whether the end that a read of c has found is that of a reset.
// The kernel hands the error of a reset out once: if a write got it, a read
// finds a mere end. It holds only while nobody has sent a FIN over c.
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

func ask(c net.Conn, look func(fd int, info *unix.TCPInfo)) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = t.NetConn()
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // fails only when the conn is closed, which is not our business
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			look(int(fd), info)
		}
	})
}

// unanswered is the decision: data or a probe has been sent again, and the last
// acknowledgement of anything is older than the limit. What was sent once may
// just be on its way: after a silence, every first byte and every first
// keepalive probe is in flight while the last acknowledgement is old. A peer
// that lives but does not read still acknowledges (TCP_USER_TIMEOUT would kill
// it: measured).
func unanswered(unacked uint32, retransmits, probes uint8, lastAckMS, limitMS uint32) bool {
	again := unacked > 0 && retransmits > 0 || probes > 1
	return again && lastAckMS > limitMS
}

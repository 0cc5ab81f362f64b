package relay

import (
	"net"

	"golang.org/x/sys/unix"
)

// pathDead asks the kernel whether what was sent over a conn has gone
// unanswered for longer than ms milliseconds.
func pathDead(c net.Conn, ms uint32) bool {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = t.NetConn()
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	dead := false
	_ = raw.Control(func(fd uintptr) { // fails only when the conn is closed, which is not our business
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			dead = unanswered(info.Unacked, info.Probes, info.Last_ack_recv, ms)
		}
	})
	return dead
}

// unanswered is the decision: data or probes are in flight, and the last
// acknowledgement of anything is older than the limit. A peer that lives but
// does not read still acknowledges (TCP_USER_TIMEOUT would kill it: measured).
func unanswered(unacked uint32, probes uint8, lastAckMS, limitMS uint32) bool {
	return (unacked > 0 || probes > 0) && lastAckMS > limitMS
}

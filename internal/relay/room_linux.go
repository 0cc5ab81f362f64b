package relay

import "golang.org/x/sys/unix"

// A reader that has stalled fills, by itself, the send buffer towards it and the
// receive buffer of the side that feeds it: 5 MB of the kernel's memory for a
// tunnel (Linux 6.18), of which all connections of the host share one limit
// (net.ipv4.tcp_mem). So a direction may leave narrowRoom unsent, which is no
// limit on what is under way; and with so little taken from the far side, the
// kernel does not let that buffer grow either. Bulk is a half dearer so, for it
// is moved in smaller pieces: after provenBy without a pause it has all the room
// until something comes that is no bulk.
const (
	narrowRoom = 128 << 10
	provenBy   = 1 << 20
)

// give changes the room of the sink.
func (d *direction) give(r room) {
	if d.room == r {
		return
	}
	d.room = r
	most := narrowRoom
	if r == wide {
		most = int(d.flow.buffer) // 0 stands for the kernel's own limit
	}
	control(d.dst(), func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, most) // only a closed socket refuses it
	})
}

// bound holds the receive buffer of a source that has much to Options.Buffer. A
// window clamp would not: it bounds what is under way, and not what has come.
func (d *direction) bound() {
	if d.flow.buffer == 0 {
		return
	}
	control(d.src(), func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, int(d.flow.buffer)/2) // which the kernel doubles
	})
}

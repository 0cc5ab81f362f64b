//go:build !linux

package relay

import "net"

const canFreeze = false

// pipes are of use on Linux alone.
type pipes struct{}

func (*pipes) close() {}

// turns are of use on Linux alone: on other systems all I/O goes through the
// scheduler.
type turns struct{}

func (*turns) yield() {}
func (*turns) close() {}

// give and bound are of use on Linux alone.
func (*direction) give(room) {}
func (*direction) bound()    {}

// mover is the buffer that bytes pass through.
type mover struct{ buf buffer }

func newMover() *mover { return new(mover) }

// moveTCP is the portable loop.
func (d *direction) moveTCP(_, _ *net.TCPConn) *sideError { return d.moveAny() }

// moveFromTCP is the same.
func (d *direction) moveFromTCP(_ *net.TCPConn) *sideError { return d.moveAny() }

// unanswered reports false: this system does not say; the kernel's keepalive
// finds idle dead peers.
func unanswered(net.Conn) path { return path{} }

// cutOff reports false: this system does not say.
func cutOff(net.Conn) bool { return false }

// writable reports false: this system is not asked, and a write in progress
// is taken for one that waits.
func writable(net.Conn) bool { return false }

// over reports false: this system does not say.
func over(net.Conn) bool { return false }

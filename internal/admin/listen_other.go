//go:build !linux

package admin

import (
	"net"
	"syscall"
	"time"
)

// private does nothing here: until Listen's chmod, the directory is the guard.
func private(_, _ string, _ syscall.RawConn) error { return nil }

// giveUpAfter does nothing here: the system ends a dead connection in its own time.
func giveUpAfter(net.Conn, time.Duration) {}

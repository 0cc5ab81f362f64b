//go:build unix

package daemon

import "syscall"

// raiseFileLimit raises the soft limit of open files to the hard one and gives
// the limit in force; 0 if it cannot be told.
func raiseFileLimit() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	if l.Cur < l.Max {
		raised := l
		raised.Cur = raised.Max
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err == nil {
			l = raised
		}
	}
	return uint64(l.Cur) //nolint:unconvert // signed on some systems
}

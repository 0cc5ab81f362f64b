//go:build unix

package e2e

import "syscall"

// openFiles returns the limit of open files.
func openFiles() int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(l.Cur, 1<<20)) //nolint:gosec // bounded
}

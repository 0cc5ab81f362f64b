//go:build unix

package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

var upgradeSignals = []os.Signal{syscall.SIGUSR2}

// terminalSize returns the columns and lines of a terminal; 0 if they are not known.
func terminalSize(f *os.File) (width, height int) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ) //nolint:gosec // a descriptor is small
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}

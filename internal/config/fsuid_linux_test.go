package config_test

import (
	"syscall"
	"testing"
)

// obeysModes makes the mode of a file count for this thread, root's too.
func obeysModes(t *testing.T) bool {
	t.Helper()
	if syscall.Geteuid() == 0 {
		if err := syscall.Setfsuid(65534); err != nil {
			t.Error(err)
		}
	}
	return true
}

//go:build unix

package config_test

import (
	"syscall"
	"testing"
	"time"
)

// patience is what the race detector needs; what is not linear takes longer.
const patience = 15 * time.Second

// spent is the processor time of this process so far, which other processes do
// not lengthen.
func spent(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

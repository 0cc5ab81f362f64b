//go:build unix

package testkit

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// ExhaustFiles takes every descriptor of this process; release gives them back,
// and so does the end of the test. No other test may run meanwhile.
func ExhaustFiles(t testing.TB) (release func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	low := before
	low.Cur = min(low.Cur, 256)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var all []*os.File
	release = func() {
		for _, f := range all {
			_ = f.Close()
		}
		all = nil
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
	}
	t.Cleanup(release)
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			return release
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
}

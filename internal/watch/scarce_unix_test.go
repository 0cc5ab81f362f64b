//go:build unix

package watch

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// exhaust takes every descriptor; release gives them back. No other test may
// run meanwhile.
func exhaust(t *testing.T) (release func()) {
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

func TestFileThatCannotBeComparedForWantOfADescriptorHasNotChanged(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/proxyd.yaml"
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("one"); err != nil {
		t.Fatal(err)
	}
	var scarce atomic.Int64
	r := reads(t, dir, Options{Scarce: func() { scarce.Add(1) }, Settle: 10 * time.Millisecond, Poll: 50 * time.Millisecond})
	release := exhaust(t)
	if _, err := f.WriteString(" two"); err != nil { // the descriptor is open
		t.Fatal(err)
	}
	until(t, "the watcher to miss a descriptor twice", func() bool { return scarce.Load() > 1 })
	release()
	r.want(t, "one two") // once, and not before
}

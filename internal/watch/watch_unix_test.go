//go:build unix

package watch

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

func TestFileWithoutFreeDescriptorHasNotChanged(t *testing.T) {
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
	release := testkit.ExhaustFiles(t)
	if _, err := f.WriteString(" two"); err != nil { // the descriptor is open
		t.Fatal(err)
	}
	until(t, "the watcher to miss a descriptor twice", func() bool { return scarce.Load() > 1 })
	release()
	r.want(t, "one two") // once, and not before
}

package watch

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	maxHashed    = 16 << 20              // how much of a file is compared; of what is longer, the start and the size
	tick         = 10 * time.Millisecond // how much older than the change a file's time may be: kernels stamp with their last tick
	noDescriptor = "no descriptor"       // the state of a file of which nothing is known for now
)

// fingerprint is what a path holds, or why it cannot be read.
type fingerprint struct {
	state string // "" for a file that was read
	size  int64
	sum   [sha256.Size]byte
}

func unread(err error) fingerprint {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fingerprint{state: "missing"}
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fingerprint{state: noDescriptor}
	}
	return fingerprint{state: "unreadable"}
}

// reading is what a file held when it was read, and what Stat said just before.
type reading struct {
	at    time.Time
	info  fs.FileInfo
	holds fingerprint
}

// content returns what a file holds. It reads it only if what Stat says differs
// from the last reading, or if the file changed in the same tick as that. What is
// no regular file is not opened: a pipe would block, a device may do things.
func (w *Watcher) content(path string) fingerprint {
	at := time.Now()
	info, err := os.Stat(path)
	if err != nil {
		return unread(err)
	}
	if !info.Mode().IsRegular() {
		return fingerprint{state: info.Mode().Type().String()}
	}
	last, known := w.last[path]
	if known && os.SameFile(last.info, info) && last.info.Size() == info.Size() && last.info.Mode() == info.Mode() &&
		last.info.ModTime().Equal(info.ModTime()) && last.at.Sub(info.ModTime()).Abs() > tick {
		return last.holds
	}
	holds := fingerprintOf(path, w.buf)
	if holds.state == "" {
		w.last[path] = reading{at, info, holds}
	}
	return holds
}

// fingerprintOf reads a file, in pieces as large as buf.
func fingerprintOf(path string, buf []byte) fingerprint {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may have become a pipe since
	if err != nil {
		return unread(err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return fingerprint{state: "unreadable"}
	}
	hash := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{hash}, io.LimitReader(f, maxHashed), buf)
	if err != nil {
		return unread(err)
	}
	return fingerprint{size: max(n, info.Size()), sum: [sha256.Size]byte(hash.Sum(nil))}
}

// changedSince reports whether a file, or the directory that names it, was written
// at or after a moment.
func changedSince(path string, moment time.Time) bool {
	return slices.ContainsFunc([]string{path, filepath.Dir(path)}, func(at string) bool {
		info, err := os.Stat(at)
		return err == nil && !info.ModTime().Before(moment.Add(-tick))
	})
}

// Package watch notices when files have changed: saved in place, replaced by
// rename, swapped behind a symlink, deleted and made again. It reports a burst of
// changes once, and a change is one of content.
//
// It polls: three times a second it asks for each file's size and time, and reads a
// file only when these have changed; every ten seconds it reads all of them, for file
// systems whose times are coarse. Events of the file system would wake it for each
// line that another program writes into the same directory, and need a poll as well.
//
// It does not know what is in the files, and keeps only hashes of them.
package watch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// Options say what to watch and what to call. The functions are required.
type Options struct {
	// Files returns the files to watch; "" is left out, and none at all is fine. It is
	// called by New, and by Run after Changed, after Refresh and at each Poll.
	Files func() []string
	// Changed is called by Run, one call at a time, after a burst has settled, if
	// since the last call a file's content changed, or whether it is there, or whether
	// it can be read. What changes while it runs is reported by a call after it.
	Changed func()
	// Scarce is called by Run when a file cannot be compared because no descriptor
	// is free. That is no change: the next look tries again.
	Scarce func()

	Settle time.Duration // how long content must stay the same, 0: 100 ms; a burst that goes on is reported after ten times that
	Poll   time.Duration // how often all content is read, 0: 10 s
}

// A Watcher watches files while Run runs.
type Watcher struct {
	o     Options
	again chan struct{}             // Refresh was called
	read  atomic.Pointer[time.Time] // when the files began to be read, the last time that is known

	// What follows is New's and then Run's alone.
	files    []string
	reported map[string]fingerprint // as of the last call of Changed
	last     map[string]reading
	polled   time.Time              // when all content was last read
	first    time.Time              // when the burst under way began; zero: calm
	due      time.Time              // when that will have settled
	seen     map[string]fingerprint // as last compared in it
	buf      []byte
}

// New remembers what the files hold now: call it before they are read, so that
// no change between reading and Run is missed. It starts nothing.
func New(o Options) *Watcher {
	o.Settle, o.Poll = cmp.Or(o.Settle, 100*time.Millisecond), cmp.Or(o.Poll, 10*time.Second)
	w := &Watcher{
		o: o, again: make(chan struct{}, 1), reported: map[string]fingerprint{}, last: map[string]reading{}, buf: make([]byte, 32<<10),
	}
	w.read.Store(new(time.Now()))
	w.listFiles()
	for _, f := range w.files {
		w.reported[f] = w.content(f)
	}
	return w
}

// Refresh reports that the files were read for another reason than Changed (a
// signal, a request), and when that began: Files may now name others. A file that
// is named for the first time is taken as known, unless it changed since then.
// Safe for concurrent use.
func (w *Watcher) Refresh(began time.Time) {
	w.read.Store(&began)
	select {
	case w.again <- struct{}{}:
	default: // it will look anyway
	}
}

// Run watches until ctx ends, and returns its error. It does not end while
// Changed runs.
func (w *Watcher) Run(ctx context.Context) error {
	for pause := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.again:
			w.listFiles()
		case <-time.After(pause):
			if time.Since(w.polled) >= w.o.Poll {
				w.polled = time.Now()
				w.listFiles()
				clear(w.last)
			}
		}
		w.check()
		pause = min(lookEvery, w.o.Poll)
		if len(w.files) == 0 {
			pause = w.o.Poll
		} else if !w.first.IsZero() {
			pause = min(pause, time.Until(w.due))
		}
	}
}

// listFiles asks for the files, as absolute paths, each once.
func (w *Watcher) listFiles() {
	w.files = nil
	for _, f := range w.o.Files() {
		if abs, err := filepath.Abs(f); err == nil && f != "" && !slices.Contains(w.files, abs) {
			w.files = append(w.files, abs)
		}
	}
}

// check compares the files with what was reported, and reports a change once it
// has settled.
func (w *Watcher) check() {
	now, differs := w.look()
	if !differs {
		w.first, w.reported = time.Time{}, now
		return
	}
	switch at := time.Now(); {
	case w.first.IsZero():
		w.first, w.due, w.seen = at, at.Add(w.o.Settle), now
	case at.Before(w.due):
	case !maps.Equal(w.seen, now) && at.Sub(w.first) < 10*w.o.Settle: // it is being written
		w.due, w.seen = at.Add(w.o.Settle), now
	default:
		w.first, w.reported = time.Time{}, now
		w.read.Store(&at)
		w.o.Changed()
		w.listFiles()
		w.check() // what has changed while Changed ran begins the next burst
	}
}

// look returns what the files hold, and whether that differs from what was reported.
func (w *Watcher) look() (now map[string]fingerprint, differs bool) {
	now = make(map[string]fingerprint, len(w.files))
	for _, f := range w.files {
		before, known := w.reported[f]
		holds := w.content(f)
		if holds.state == noDescriptor {
			w.o.Scarce()
			if holds = before; !known {
				continue
			}
		}
		now[f] = holds
		differs = differs || known && before != holds || !known && changedSince(f, *w.read.Load())
	}
	return now, differs
}

const (
	lookEvery    = 300 * time.Millisecond // a changed file is then in force within half a second
	maxHashed    = 16 << 20               // how much of a file is compared; of what is longer, the start and the size
	tick         = 10 * time.Millisecond  // how much older than the change a file's time may be: kernels stamp with their last tick
	noDescriptor = "no descriptor"        // the state of a file of which nothing is known for now
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

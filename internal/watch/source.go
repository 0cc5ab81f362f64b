package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// A source turns events of the file system into wake-ups. cover and close belong
// to one goroutine; another receives the events and never blocks, for fsnotify
// may hold its lock while it tells of an error.
type source struct {
	fs      *fsnotify.Watcher
	watched map[string]fs.FileInfo // what has a watch, as it was then
	names   atomic.Pointer[map[string]bool]
	failed  atomic.Pointer[error]
	stirred chan<- struct{}
	done    chan struct{}
}

// openSource starts a source that sends on stirred, which has one place.
func openSource(stirred chan<- struct{}) (*source, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("file events: %w%s", err, hint(err))
	}
	s := &source{fs: w, watched: map[string]fs.FileInfo{}, stirred: stirred, done: make(chan struct{})}
	s.names.Store(&map[string]bool{})
	go s.receive() // ends with close, which waits for it
	return s, nil
}

func (s *source) close() {
	_ = s.fs.Close() // there is nothing to lose
	<-s.done
}

// failure is why there will be no more events, nil if all is well.
func (s *source) failure() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// receive wakes for the events that may concern a file, until the source is closed.
func (s *source) receive() {
	defer close(s.done)
	for {
		select {
		case e, ok := <-s.fs.Events:
			if !ok {
				s.fail(fsnotify.ErrClosed)
				return
			}
			if (*s.names.Load())[key(filepath.Base(e.Name))] {
				s.wake()
			}
		case err, ok := <-s.fs.Errors:
			switch {
			case !ok:
				s.fail(fsnotify.ErrClosed)
				return
			case errors.Is(err, fsnotify.ErrEventOverflow), lostWatch(err):
				s.wake() // something was not told
			default:
				s.fail(err)
			}
		}
	}
}

// lostWatch reports whether an error is only that of a watch that was to be
// removed and had gone with what it watched: a bare number, unlike those of reading.
func lostWatch(err error) bool {
	_, bare := err.(syscall.Errno) //nolint:errorlint // see above
	return bare
}

func (s *source) fail(err error) {
	err = fmt.Errorf("file events: %w", err)
	s.failed.Store(&err)
	s.wake()
}

func (s *source) wake() {
	select {
	case s.stirred <- struct{}{}:
	default: // it is awake
	}
}

// arm puts watches on what the files' paths lead through, and takes the others
// off. Its error is that of a directory that cannot be watched.
func (s *source) arm(files []string) error {
	for range 4 { // while a watch was being put on, more may have come to be
		names, places := survey(files)
		s.names.Store(&names)
		fresh, err := s.adopt(places)
		if !fresh || err != nil {
			return err
		}
	}
	return nil // the next event or poll goes on with it
}

// survey gives the names to listen for and the places to put watches on (true
// for a directory, false for a file).
func survey(files []string) (names, places map[string]bool) {
	names, places = map[string]bool{}, map[string]bool{}
	for _, f := range files {
		walk(f, func(dir, name string, info fs.FileInfo) {
			names[key(name)] = true
			names[key(filepath.Base(dir))] = true // what befalls the directory itself
			places[dir] = true
			if watchFiles && info != nil && info.Mode().IsRegular() {
				places[filepath.Join(dir, name)] = false
			}
		})
	}
	return names, places
}

// adopt puts a watch on every place, and on it anew: the kernel drops it without
// a word when a file system is unmounted. It reports whether there are fresh ones.
func (s *source) adopt(places map[string]bool) (fresh bool, fault error) {
	for at := range s.watched {
		if _, wanted := places[at]; !wanted {
			s.drop(at)
		}
	}
	for at, isDir := range places {
		info, err := os.Lstat(at)
		if err != nil {
			fresh = true // just gone: survey again
			continue
		}
		before, known := s.watched[at]
		if known && !os.SameFile(before, info) {
			s.drop(at) // else the old one's watch would stay for ever
			known = false
		}
		if err := s.fs.Add(at); err != nil { // a watch from before stays: it may be good yet
			if isDir && !errors.Is(err, fs.ErrNotExist) {
				fault = fmt.Errorf("%s cannot be watched: %w%s", at, err, hint(err))
			}
			continue // a file is told of by its directory too
		}
		s.watched[at] = info
		fresh = fresh || !known
	}
	return fresh, fault
}

func (s *source) drop(at string) {
	delete(s.watched, at)
	_ = s.fs.Remove(at) // the watch may have gone with the place
}

// hint says which limit an error of inotify means.
func hint(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return " (no inotify watch is left: fs.inotify.max_user_watches)"
	case errors.Is(err, syscall.EMFILE):
		return " (no inotify instance is left: fs.inotify.max_user_instances; or no file descriptor)"
	}
	return ""
}

// key is a name as names are compared: some file systems ignore case.
func key(name string) string { return strings.ToLower(name) }

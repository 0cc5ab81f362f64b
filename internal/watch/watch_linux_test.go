package watch

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// asNobody runs f without root's right to read everything, on a thread that ends with it.
func asNobody(f func()) {
	done := make(chan struct{})
	go func() { // ends with f
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		if os.Getuid() == 0 {
			_ = syscall.Setfsuid(65534) // if it failed, nothing would be unreadable
		}
		f()
	}()
	<-done
}

// open makes a directory and a file outside root's own directories, which other users may read.
func open(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "watch") // t.TempDir is below a directory of root's
	must(t, err)
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700); _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	in("proxyd.yaml", "old")(t, dir)
	must(t, os.Chmod(filepath.Join(dir, "proxyd.yaml"), 0o644))
	return dir
}

func TestPermissionTakenAndGivenBack(t *testing.T) {
	t.Parallel()
	file := func(mode os.FileMode) func(*testing.T, string) {
		return func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, "proxyd.yaml"), mode)) }
	}
	directory := func(mode os.FileMode) func(*testing.T, string) {
		return func(t *testing.T, dir string) { must(t, os.Chmod(dir, mode)) }
	}
	for _, c := range []struct {
		name       string
		take, give func(*testing.T, string)
	}{
		{"of the file", file(0), file(0o644)},
		{"of the directory", directory(0o600), directory(0o755)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &reader{dir: open(t), changed: make(chan struct{}, 9), guise: asNobody}
			r.file = filepath.Join(r.dir, "proxyd.yaml")
			r.start(t, Options{})
			c.take(t, r.dir)
			r.want(t, "unreadable")
			c.give(t, r.dir)
			r.want(t, "unreadable", "old")
			write(t, r.file, "new")
			r.want(t, "unreadable", "old", "new")
		})
	}
}

// A directory that may be passed but not read is no obstacle.
func TestSavedInUnreadableDirectory(t *testing.T) {
	t.Parallel()
	r := &reader{dir: open(t), changed: make(chan struct{}, 9), guise: asNobody}
	r.file = filepath.Join(r.dir, "proxyd.yaml")
	must(t, os.Chmod(r.dir, 0o711))
	r.start(t, Options{})
	in("tmp", "new")(t, r.dir)
	must(t, os.Chmod(filepath.Join(r.dir, "tmp"), 0o644))
	must(t, os.Rename(filepath.Join(r.dir, "tmp"), r.file))
	r.want(t, "new")
}

// Pipes and devices are not opened: it would block, or do things.
func TestSpecialFiles(t *testing.T) {
	t.Parallel()
	testSaved(t, []saved{
		{name: "replaced by a pipe without a writer", steps: []step{{func(t *testing.T, dir string) {
			must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
			must(t, os.Rename(filepath.Join(dir, "pipe"), filepath.Join(dir, "proxyd.yaml")))
		}, "no file"}, {renamedOver("new"), "new"}}},
		{name: "replaced by a link to a device", steps: []step{{func(t *testing.T, dir string) {
			swapLink(t, "/dev/zero", filepath.Join(dir, "proxyd.yaml"))
		}, "no file"}, {renamedOver("new"), "new"}}},
	})
}

// A file of a terabyte is compared by its start and size, in a small buffer.
func TestHugeFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "huge")
	write(t, file, "start")
	must(t, os.Truncate(file, 1<<40)) // a hole
	buf := make([]byte, 32<<10)
	before := fingerprintOf(file, buf)
	if before.size != 1<<40 || before.state != "" {
		t.Fatalf("got %v", before)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	for _, at := range []int64{0, maxHashed - 1} {
		_, err = f.WriteAt([]byte("x"), at)
		must(t, err)
		after := fingerprintOf(file, buf)
		if after == before {
			t.Errorf("a change at %d is not seen", at)
		}
		before = after
	}
	must(t, os.Truncate(file, 1<<40+1))
	if fingerprintOf(file, buf) == before {
		t.Error("a change of the size is not seen")
	}
	if n := testing.AllocsPerRun(1, func() { fingerprintOf(file, buf) }); n > 20 {
		t.Errorf("%v allocations", n)
	}
}

// A change that leaves size and times alone is found by the poll of all content.
func TestChangeInSameTickIsRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join(old(t), "proxyd.yaml")
	w := New(Options{Files: func() []string { return []string{file} }})
	info, err := os.Stat(file)
	must(t, err)
	w.last[file] = reading{at: time.Now().Add(time.Hour), info: info, holds: fingerprint{size: 3}}
	if got := w.content(file); got != (fingerprint{size: 3}) {
		t.Errorf("got %v: it was read again", got)
	}
	w.last[file] = reading{at: info.ModTime(), info: info, holds: fingerprint{size: 3}}
	if got := w.content(file); got != fingerprintOf(file, w.buf) {
		t.Errorf("got %v: it was not read again though it may have changed in the same tick", got)
	}
}

// A watcher that has nothing to do costs less than 0.1 ms a second: BenchmarkIdle
// shows how much one look costs, and there are five a second.
func BenchmarkIdle(b *testing.B) {
	file := filepath.Join(b.TempDir(), "proxyd.yaml")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:8877"), 0o600); err != nil {
		b.Fatal(err)
	}
	w := New(Options{Files: func() []string { return []string{file} }})
	time.Sleep(2 * tick)
	w.check()
	b.ReportAllocs()
	for b.Loop() {
		w.check()
	}
}

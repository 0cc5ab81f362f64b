package watch

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
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

// open makes a directory that nobody may enter, with a file that nobody may read.
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

// A directory that may be passed but not read makes no events: it is said once,
// and polls carry on.
func TestDirectoryThatCannotBeWatched(t *testing.T) {
	t.Parallel()
	r := &reader{dir: open(t), changed: make(chan struct{}, 9), guise: asNobody}
	r.file = filepath.Join(r.dir, "proxyd.yaml")
	must(t, os.Chmod(r.dir, 0o711))
	r.start(t, Options{})
	in("tmp", "new")(t, r.dir)
	must(t, os.Chmod(filepath.Join(r.dir, "tmp"), 0o644))
	must(t, os.Rename(filepath.Join(r.dir, "tmp"), r.file))
	r.want(t, "new")
	if got := r.faults(); len(got) != 1 || !strings.Contains(got[0].Error(), r.dir+" cannot be watched: permission denied") {
		t.Errorf("broken: %q", got)
	}
	must(t, os.Chmod(r.dir, 0o755))
	until(t, "events again", func() bool { r.Refresh(time.Now()); return !r.alone.Load() })
}

// Pipes and devices are not opened: it would block, or do things.
func TestSpecialFiles(t *testing.T) {
	t.Parallel()
	testSaved(t, []saved{
		{name: "replaced by a pipe that nobody writes to", steps: []step{{func(t *testing.T, dir string) {
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

// TestNoInotify watches in a process that may have no inotify instance, and may
// have one later: the kernel counts them for each user namespace.
func TestNoInotify(t *testing.T) {
	const limit = "/proc/sys/user/max_inotify_instances"
	dir := os.Getenv("WATCH_WITHOUT_INOTIFY")
	if dir == "" {
		t.Parallel()
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNoInotify$", "-test.v") //nolint:gosec // this test
		cmd.Env = append(os.Environ(), "WATCH_WITHOUT_INOTIFY="+old(t))
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		switch {
		case cmd.Process == nil, strings.Contains(string(out), "--- SKIP"):
			t.Skipf("this machine gives no user namespace with limits of its own: %v\n%s", err, out)
		case err != nil:
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := os.WriteFile(limit, []byte("0"), 0); err != nil {
		t.Skip(err)
	}
	r := reads(t, dir, Options{Settle: 500 * time.Millisecond})
	write(t, r.file, "new")
	r.want(t, "new")
	r.look(t)
	if got := r.faults(); len(got) != 1 || !strings.Contains(got[0].Error(), "fs.inotify.max_user_instances") {
		t.Errorf("broken: %q, want it once, with what to raise", got)
	}
	must(t, os.WriteFile(limit, []byte("128"), 0))
	until(t, "events again", func() bool { r.Refresh(time.Now()); return !r.alone.Load() })
	write(t, r.file, "newer")
	r.want(t, "new", "newer")
}

// Run leaves no descriptor behind (its goroutines are TestMain's to find).
func TestNothingIsLeft(t *testing.T) {
	r := reads(t, old(t), Options{})
	if inotify() != 1 {
		t.Errorf("%d inotify instances, want 1", inotify())
	}
	r.off.Store(true)
	r.Refresh(time.Now())
	until(t, "no inotify instance while there is nothing to watch", func() bool { return inotify() == 0 })
}

// inotify counts this process's instances.
func inotify() (n int) {
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); to == "anon_inode:inotify" {
			n++
		}
	}
	return n
}

package watch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func old(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "proxyd.yaml"), "old")
	return dir
}

// Without options a save is reported after 100 ms.
func TestSettleDefault(t *testing.T) {
	t.Parallel()
	r := reads(t, old(t), Options{})
	began := time.Now()
	renamedOver("new")(t, r.dir)
	took := r.want(t, "new").Sub(began)
	t.Logf("reported after %v", took)
	if took < 100*time.Millisecond || took > 2*time.Second { // the rest is for busy machines
		t.Errorf("reported after %v", took)
	}
}

// What changes no content is not reported.
func TestSameContentIsNotReported(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(t *testing.T, dir string)
	}{
		{"the same bytes in place", in("proxyd.yaml", "old")},
		{"the same bytes renamed over", renamedOver("old")},
		{"the same bytes by vim", vim("old")},
		{"deleted and made again immediately", func(t *testing.T, dir string) { removed(t, dir); in("proxyd.yaml", "old")(t, dir) }},
		{"touched", func(t *testing.T, dir string) {
			must(t, os.Chtimes(filepath.Join(dir, "proxyd.yaml"), time.Now(), time.Now()))
		}},
		{"another mode", func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, "proxyd.yaml"), 0o644)) }},
		{"changed and changed back", func(t *testing.T, dir string) { in("proxyd.yaml", "new")(t, dir); in("proxyd.yaml", "old")(t, dir) }},
		{"a link with the same behind", func(t *testing.T, dir string) {
			in("copy", "old")(t, dir)
			removed(t, dir)
			must(t, os.Symlink("copy", filepath.Join(dir, "proxyd.yaml")))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := reads(t, old(t), Options{Settle: 30 * time.Millisecond})
			c.do(t, r.dir)
			r.settles(t)
			r.want(t)
		})
	}
}

func TestChangeWhileChangedRuns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		poll time.Duration
	}{{"by its times", time.Hour}, {"by its content", 30 * time.Millisecond}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &reader{dir: old(t), changed: make(chan struct{}, 100)}
			r.file = filepath.Join(r.dir, "proxyd.yaml")
			calls := 0
			r.during = func() {
				if calls++; calls == 1 {
					in("proxyd.yaml", "newer")(t, r.dir)
				}
			}
			r.start(t, Options{Settle: 50 * time.Millisecond, Poll: c.poll})
			in("proxyd.yaml", "new")(t, r.dir)
			r.want(t, "new", "newer")
			r.look(t)
			r.want(t, "new", "newer")
		})
	}
}

// A change after the file was read, before Run, is reported; the file as
// it was when it was read is not.
func TestChangeBeforeRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, then, want string }{{"changed", "new", "new"}, {"the same", "old", ""}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(old(t), "proxyd.yaml")
			ctx, stop := context.WithCancel(t.Context())
			got, looked := make(chan string, 9), make(chan struct{}, 99)
			w := New(Options{
				Files:   func() []string { looked <- struct{}{}; return []string{file} },
				Changed: func() { got <- content(file) },
				Settle:  20 * time.Millisecond, Poll: 20 * time.Millisecond,
			})
			write(t, file, c.then)
			ended := make(chan error)
			go func() { ended <- w.Run(ctx) }() // ends with stop, below
			for range 6 {
				<-looked
			}
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("Run: got %v", err)
			}
			select {
			case read := <-got:
				if read != c.want {
					t.Errorf("reported %q, want %q", read, c.want)
				}
			default:
				if c.want != "" {
					t.Error("not reported")
				}
			}
		})
	}
}

// settles looks for three times as long as a burst takes to settle, with a Settle
// of 30 ms: what was to be reported has been.
func (r *reader) settles(t *testing.T) {
	t.Helper()
	for range 10 {
		time.Sleep(10 * time.Millisecond)
		r.look(t)
	}
}

// The list of files follows the configuration, which names other secrets.
func TestFilesAddedAndRemoved(t *testing.T) {
	t.Parallel()
	secrets := t.TempDir()
	one, two := filepath.Join(secrets, "one"), filepath.Join(secrets, "two")
	write(t, one, "1")
	write(t, two, "2")
	r := reads(t, old(t), Options{Settle: 30 * time.Millisecond})
	r.look(t)

	r.also.Store(&[]string{one, two}) // by a request, say
	r.settles(t)
	r.want(t) // they were read with it
	write(t, one, "1.1")
	r.want(t, "old")
	must(t, os.Remove(two))
	r.want(t, "old", "old")

	r.also.Store(&[]string{two})
	r.look(t)
	write(t, one, "1.2") // it is not read any more
	r.settles(t)
	r.want(t, "old", "old")
	write(t, two, "2.1")
	r.want(t, "old", "old", "old")

	r.onChanged(func() { r.also.Store(&[]string{one}) }) // the new configuration names another
	in("proxyd.yaml", "new")(t, r.dir)
	r.want(t, "old", "old", "old", "new")
	write(t, one, "1.3")
	r.want(t, "old", "old", "old", "new", "new")
}

// A file that is named anew and has changed since it was read is reported.
func TestNewlyNamedFileChangedSinceRead(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "1")
	r := reads(t, old(t), Options{Settle: 30 * time.Millisecond})
	time.Sleep(2 * tick)
	began := time.Now()
	r.also.Store(&[]string{secret})
	r.Refresh(began)
	r.settles(t)
	r.want(t)

	r.also.Store(nil)
	r.look(t)
	began = time.Now()
	write(t, secret, "2")
	r.also.Store(&[]string{secret})
	r.Refresh(began)
	r.want(t, "old")
}

// A writer that never rests is reported all the same.
func TestSteadyWritesAreReported(t *testing.T) {
	t.Parallel()
	r := reads(t, old(t), Options{Settle: 300 * time.Millisecond})
	end := time.After(5 * time.Second)
	for i := range 1_000_000 {
		in("proxyd.yaml", string(rune('a'+i%26)))(t, r.dir)
		select {
		case <-r.changed:
			return
		case <-end:
			t.Fatal("not reported for 5 s of writing")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestParentDirectoryReplaced(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir := filepath.Join(top, "app", "conf")
	must(t, os.MkdirAll(dir, 0o700))
	in("proxyd.yaml", "old")(t, dir)
	r := reads(t, dir, Options{Settle: 20 * time.Millisecond, Poll: 50 * time.Millisecond})
	must(t, os.MkdirAll(filepath.Join(top, "next", "conf"), 0o700))
	in("next/conf/proxyd.yaml", "new")(t, top)
	must(t, os.Rename(filepath.Join(top, "app"), filepath.Join(top, "before")))
	must(t, os.Rename(filepath.Join(top, "next"), filepath.Join(top, "app")))
	until(t, "the new content", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.read) > 0 && r.read[len(r.read)-1] == "new"
	})
	in("proxyd.yaml", "newer")(t, dir)
	until(t, "the next change", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.read[len(r.read)-1] == "newer" })
}

func TestFileMovedAndDeletedRepeatedly(t *testing.T) {
	t.Parallel()
	r := reads(t, old(t), Options{Settle: time.Millisecond, Poll: 2 * time.Millisecond})
	away := filepath.Join(t.TempDir(), "away")
	for range 300 {
		must(t, os.Rename(r.file, away))
		must(t, os.Remove(away))
		in("proxyd.yaml", "between")(t, r.dir)
	}
	in("proxyd.yaml", "last")(t, r.dir)
	until(t, "the last content", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.read) > 0 && r.read[len(r.read)-1] == "last"
	})
}

func TestNoFiles(t *testing.T) {
	t.Parallel()
	r := &reader{changed: make(chan struct{}, 9)}
	r.start(t, Options{})
	r.look(t)
	r.want(t)
}

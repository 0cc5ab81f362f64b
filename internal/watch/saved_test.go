package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A step is something that happens to the file, and what is then read from it.
type step struct {
	do   func(t *testing.T, dir string)
	want string
}

// saved is what is promised: however a file is saved, one call, soon, that
// sees all of it.
type saved struct {
	name   string
	setup  func(t *testing.T, dir string) // default: dir/proxyd.yaml holds "old"
	steps  []step
	settle time.Duration // longer than the pauses that a busy machine makes in it; default 250 ms
}

func in(name, text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { write(t, filepath.Join(dir, name), text) }
}

func testSaved(t *testing.T, cases []saved) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "conf")
			must(t, os.Mkdir(dir, 0o700))
			if c.settle == 0 {
				c.settle = 250 * time.Millisecond
			}
			if c.setup == nil {
				c.setup = in("proxyd.yaml", "old")
			}
			c.setup(t, dir)
			sentinel := filepath.Join(t.TempDir(), "secret")
			write(t, sentinel, "")
			r := &reader{dir: dir, file: filepath.Join(dir, "proxyd.yaml"), changed: make(chan struct{}, 1000)}
			r.also.Store(&[]string{sentinel})
			r.start(t, Options{Settle: c.settle})
			var want []string
			for i, s := range c.steps {
				s.do(t, dir)
				want = append(want, s.want)
				r.want(t, want...)
				// The next call is for the sentinel: there was no second one for the step.
				write(t, sentinel, fmt.Sprint(i))
				want = append(want, s.want)
				r.want(t, want...)
			}
		})
	}
}

func TestSaved(t *testing.T) {
	t.Parallel()
	testSaved(t, []saved{
		{name: "in place", steps: []step{{in("proxyd.yaml", "new"), "new"}, {in("proxyd.yaml", "newer"), "newer"}}},
		{name: "truncated, then written slowly", steps: []step{{writtenSlowly, "first second third"}}, settle: time.Second},
		{name: "renamed over", steps: []step{{renamedOver("one"), "one"}, {renamedOver("two"), "two"}}},
		{name: "vim", steps: []step{{vim("one"), "one"}, {vim("two"), "two"}}, settle: time.Second},
		{name: "emacs", steps: []step{{emacs("one"), "one"}, {emacs("two"), "two"}}, settle: time.Second},
		{name: "emptied", steps: []step{{in("proxyd.yaml", ""), ""}}},
		{name: "a hundred writes in 200 ms", steps: []step{{hundredWrites, "write 99"}}, settle: time.Second},
		{name: "deleted, then made again", steps: []step{{removed, "missing"}, {in("proxyd.yaml", "new"), "new"}, {in("proxyd.yaml", "newer"), "newer"}}},
		{name: "deleted and made again immediately", steps: []step{{func(t *testing.T, dir string) {
			removed(t, dir)
			in("proxyd.yaml", "new")(t, dir)
		}, "new"}}, settle: time.Second},
		{name: "made after the start", setup: func(*testing.T, string) {}, steps: []step{{in("proxyd.yaml", "new"), "new"}}},
		{name: "replaced by a directory", steps: []step{{func(t *testing.T, dir string) {
			removed(t, dir)
			must(t, os.Mkdir(filepath.Join(dir, "proxyd.yaml"), 0o700))
		}, "no file"}}, settle: time.Second},
		{name: "its directory removed, then made again", steps: []step{{directoryRemoved, "missing"}, {directoryMade("new"), "new"}, {in("proxyd.yaml", "newer"), "newer"}}},
		{name: "its directory replaced by another", steps: []step{{directoryReplaced("new"), "new"}, {in("proxyd.yaml", "newer"), "newer"}}, settle: time.Second},
		{name: "its directory and the one above made later", setup: func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Dir(dir))) }, steps: []step{{directoryMade("new"), "new"}, {renamedOver("newer"), "newer"}}},
	})
}

func writtenSlowly(t *testing.T, dir string) {
	f, err := os.OpenFile(filepath.Join(dir, "proxyd.yaml"), os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	for _, part := range []string{"first ", "second ", "third"} {
		time.Sleep(20 * time.Millisecond)
		_, err = f.WriteString(part)
		must(t, err)
	}
	must(t, f.Close())
}

func renamedOver(text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		write(t, filepath.Join(dir, ".proxyd.yaml.tmp123"), text)
		must(t, os.Rename(filepath.Join(dir, ".proxyd.yaml.tmp123"), filepath.Join(dir, "proxyd.yaml")))
	}
}

// vim tries whether it may make files, moves the old one aside, writes a new one
// and deletes the old one.
func vim(text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		file := filepath.Join(dir, "proxyd.yaml")
		write(t, filepath.Join(dir, ".proxyd.yaml.swp"), "swap")
		write(t, filepath.Join(dir, "4913"), "")
		must(t, os.Remove(filepath.Join(dir, "4913")))
		must(t, os.Rename(file, file+"~"))
		write(t, file, text)
		must(t, os.Remove(file+"~"))
		must(t, os.Remove(filepath.Join(dir, ".proxyd.yaml.swp")))
	}
}

// emacs keeps a lock and an auto-save file, copies the old one and writes in place.
func emacs(text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		must(t, os.Symlink("me@host.1", filepath.Join(dir, ".#proxyd.yaml")))
		write(t, filepath.Join(dir, "#proxyd.yaml#"), text)
		write(t, filepath.Join(dir, "proxyd.yaml~"), "old")
		write(t, filepath.Join(dir, "proxyd.yaml"), text)
		must(t, os.Remove(filepath.Join(dir, "#proxyd.yaml#")))
		must(t, os.Remove(filepath.Join(dir, ".#proxyd.yaml")))
	}
}

func hundredWrites(t *testing.T, dir string) {
	f, err := os.OpenFile(filepath.Join(dir, "proxyd.yaml"), os.O_WRONLY, 0)
	must(t, err)
	for i := range 100 {
		_, err = f.WriteAt(fmt.Appendf(nil, "write %02d", i), 0)
		must(t, err)
		time.Sleep(2 * time.Millisecond)
	}
	must(t, f.Close())
}

func removed(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "proxyd.yaml"))) }

func directoryRemoved(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) }

func directoryMade(text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		must(t, os.MkdirAll(dir, 0o700))
		in("proxyd.yaml", text)(t, dir)
	}
}

func directoryReplaced(text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		directoryMade(text)(t, dir+".new")
		must(t, os.Rename(dir, dir+".old"))
		must(t, os.Rename(dir+".new", dir))
	}
}

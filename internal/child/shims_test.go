//go:build unix

package child

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The directory of shims is the same for all processes of a user, and whole for each.
func TestShimsAreThereForEveryProcess(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	first, err := writeShims(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(first, NodeFile), []byte("cut of"), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			dir, err := writeShims(base)
			text, _ := os.ReadFile(filepath.Join(dir, NodeFile)) // nothing is not the text
			if err != nil || dir != first || string(text) != string(preloaded) {
				t.Errorf("%s beside %s: %v, %d bytes", dir, first, err, len(text))
			}
		})
	}
	wg.Wait()
	if entries, err := os.ReadDir(first); err != nil || len(entries) != 2 {
		t.Errorf("%v: %v", entries, err)
	}
}

// A command may change its user, as gosu does.
func TestShimsAreReadableByOtherUsers(t *testing.T) {
	t.Parallel()
	dir, err := writeShims(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{dir: "drwxr-xr-x", filepath.Join(dir, PythonFile): "-rw-r--r--", filepath.Join(dir, NodeFile): "-rw-r--r--"} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().String(); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

// Promise (security): files that others may write, or that Python would not find, are not what proxyd exec relies on.
func TestShimsRefuseDirectories(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(dir string) error{
		"others may write":  func(dir string) error { return os.Chmod(dir, 0o777) }, //nolint:gosec // what is under test
		"a link":            func(dir string) error { return os.Rename(dir, dir+"x") },
		"a file in its way": os.RemoveAll,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			dir, err := writeShims(base)
			if err == nil {
				err = spoil(dir)
			}
			switch {
			case err != nil:
				t.Fatal(err)
			case name == "a link":
				err = os.Symlink(dir+"x", dir)
			case name == "a file in its way":
				err = os.WriteFile(dir, nil, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := writeShims(base); err == nil || !strings.Contains(err.Error(), "this user alone may write") {
				t.Errorf("no error, but %v", err)
			}
		})
	}
	colon := filepath.Join(t.TempDir(), "a:b")
	if err := os.Mkdir(colon, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := writeShims(colon); err == nil || !strings.Contains(err.Error(), "PYTHONPATH cannot name it") {
		t.Errorf("a colon: %v", err)
	}
}

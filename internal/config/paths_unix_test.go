//go:build unix

package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/config"
)

// The folder is that of the path that was given, also where it is a link.
func TestRelativePathBesideLinkToFile(t *testing.T) {
	t.Parallel()
	dir, elsewhere := withPaths(t), filepath.Join(t.TempDir(), "real.yaml")
	save(t, elsewhere, everyPath)
	c, err := config.Load(link(t, dir, "link.yaml", elsewhere), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantPaths(dir), paths(c)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What a shell gives for <(command) or /dev/stdin is in no folder of the operator's.
func TestRelativePathInPipe(t *testing.T) {
	t.Chdir(withPaths(t))
	for name, open := range map[string]func() (*os.File, error){
		"a pipe": func() (*os.File, error) {
			r, w, err := os.Pipe()
			if err == nil {
				_, err = w.WriteString(everyPath)
				_ = w.Close()
			}
			return r, err
		},
		"a file under a descriptor": func() (*os.File, error) { return os.Open("proxyd.yaml") },
	} {
		t.Run(name, func(t *testing.T) {
			f, err := open()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			c, err := config.Load(fmt.Sprintf("/dev/fd/%d", f.Fd()), nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, path := range paths(c) {
				if want := wantPaths("")[i]; filepath.Clean(path) != want {
					t.Errorf("got %s, want %s", path, want)
				}
			}
		})
	}
}

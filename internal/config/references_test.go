package config_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/config"
)

// What a file names is found in any state of it, and of the secret.
func TestNamedFiles(t *testing.T) {
	path := write(t, "pools: [\nx: http://u:${file:/run/secrets/of asia}@h.example:1 ${NAME} # ${file:b}${file:../c}\n${file:\n${file:}")
	dir := filepath.Dir(path)
	if diff := cmp.Diff([]string{"/run/secrets/of asia", filepath.Join(dir, "b"), filepath.Join(dir, "../c")}, config.NamedFiles(path)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := config.NamedFiles(path + ".none"); len(got) > 0 {
		t.Errorf("a file that is not there names %q", got)
	}
}

// The watcher asks for the files that an invalid configuration names at each
// look: a large one must not hold it up.
func TestNamedFilesOfALargeFile(t *testing.T) {
	path := write(t, "catalog: rows.csv # more\nx: ${file:/run/a} ${file:/run/b}\n#${file:\n"+strings.Repeat("#"+strings.Repeat("x", 1<<20)+"\n", 7)+"y: ${file:/run/c}\n")
	begin := time.Now()
	names := config.NamedFiles(path)
	t.Logf("it took %v", time.Since(begin))
	if diff := cmp.Diff([]string{"/run/a", "/run/b", "/run/c", filepath.Join(filepath.Dir(path), "rows.csv")}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

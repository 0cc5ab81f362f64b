package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/config"
)

// What a file names is found in any state of it, and of the secret.
func TestNamedFiles(t *testing.T) {
	path := write(t, "pools: [\nx: http://u:${file:/run/secrets/of asia}@h.example:1 ${NAME} # ${file:b}${file:../c}\n${file:\n${file:}")
	if diff := cmp.Diff([]string{"/run/secrets/of asia", "b", "../c"}, config.NamedFiles(path)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := config.NamedFiles(path + ".none"); len(got) > 0 {
		t.Errorf("a file that is not there names %q", got)
	}
}

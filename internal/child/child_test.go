//go:build unix

package child

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStartErrorNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "feed.py")
	if err := os.WriteFile(script, []byte("#!/no/such/venv/bin/python\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	if err := Find(script); err != nil {
		t.Fatal(err)
	}
	if _, err := Run([]string{script}, nil); err == nil || !strings.Contains(err.Error(), "not the interpreter that its first line names") {
		t.Errorf("no interpreter: %v", err)
	}
	if _, err := Run([]string{script + ".not"}, nil); err == nil || !strings.Contains(err.Error(), "no such command") {
		t.Errorf("no command: %v", err)
	}
}

//go:build interop

package interop

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"proxyd/internal/testkit"
)

const size = 300 << 10 // more than any buffer in between

// answer is what became of one run of curl.
type answer struct {
	code  int    // exit code
	body  []byte // stdout
	words string // stderr
}

// curl runs it against this network's exchange; what is not given is curl's
// own default.
func (w *world) curl(t *testing.T, args ...string) answer {
	t.Helper()
	return w.curlAs(t, 0, args...)
}

// curlAs is curl as another user of the system.
func (w *world) curlAs(t *testing.T, user uint32, args ...string) answer {
	t.Helper()
	cmd := exec.Command("curl", append([]string{"-q", "-sS", "--max-time", "20", "--cacert", w.exchange.CA.File}, args...)...)
	for _, e := range os.Environ() {
		if !strings.Contains(strings.ToLower(e), "_proxy=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	if user != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	}
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return answer{code: cmd.ProcessState.ExitCode(), body: out.Bytes(), words: strings.TrimSpace(words.String())}
}

// pattern is a file to upload.
func pattern(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(path, testkit.Pattern(size), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// arrived fails unless curl is content and the bytes are right.
func (a answer) arrived(t *testing.T, want []byte) {
	t.Helper()
	if a.code != 0 || !bytes.Equal(a.body, want) {
		t.Errorf("curl ended with %d and %d bytes (%.60q), want 0 and %d bytes\n%s", a.code, len(a.body), a.body, len(want), a.words)
	}
}

// says fails unless curl ended with this code, and said all of this.
func (a answer) says(t *testing.T, code int, words ...string) {
	t.Helper()
	all := a.words + "\n" + string(a.body)
	var lacks []string
	for _, word := range words {
		if !strings.Contains(all, word) {
			lacks = append(lacks, word)
		}
	}
	if a.code != code || len(lacks) > 0 {
		t.Errorf("curl ended with %d, want %d, and does not say %q:\n%s", a.code, code, lacks, all)
	}
}

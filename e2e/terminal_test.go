//go:build unix

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// terminal is a shell that takes one command after another, as a user types them, and
// keeps what they print.
type terminal struct {
	testkit.Output
	cmd   *exec.Cmd
	lines io.WriteCloser
	begin int // of the output of the last command
	shown int // lines at the end of the output that a test that has failed prints
}

// The commands come through a file of their own, so that none of them reads the next
// one. The shell itself survives Ctrl-C.
const shell = `trap : INT
while IFS= read -r README_LINE <&3; do
	eval "$README_LINE" 3<&-
	echo "[exit $?]"
done`

var exitLine = regexp.MustCompile(`(?m)^(?s:(.*))\[exit (\d+)\]\n\z`)

// newTerminal starts a shell in dir, which ends with the test, and with all that runs in it.
func newTerminal(t testing.TB, dir string, environ []string, user *syscall.Credential) *terminal {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &terminal{cmd: exec.Command("sh", "-c", shell), lines: w, shown: 60}
	s.cmd.Dir, s.cmd.Env = dir, environ
	s.cmd.Stdout, s.cmd.Stderr = s, s
	s.cmd.ExtraFiles = []*os.File{r}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: user}
	// A shell that starts with SIGINT ignored, as jobs in the background do, has no Ctrl-C.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	err = s.cmd.Start()
	signal.Stop(interrupts)
	_ = r.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.Close()
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		_ = s.cmd.Wait()
		if t.Failed() {
			lines := strings.SplitAfter(s.String(), "\n")
			t.Logf("the end of the terminal:\n%s", strings.Join(lines[max(0, len(lines)-s.shown):], ""))
		}
	})
	return s
}

// enter types a command.
func (s *terminal) enter(t testing.TB, line string) {
	t.Helper()
	s.begin = len(s.String())
	if _, err := fmt.Fprintln(s.lines, line); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
}

// printed returns what the last command has printed so far.
func (s *terminal) printed() string { return s.String()[s.begin:] }

// ended reports whether the last command has ended, with its exit code and its output.
func (s *terminal) ended() (out string, code int, ok bool) {
	m := exitLine.FindStringSubmatch(s.printed())
	if m == nil {
		return "", 0, false
	}
	code, err := strconv.Atoi(m[2])
	return m[1], code, err == nil
}

// run runs a command to its end, and fails the test unless its exit code is 0.
func (s *terminal) run(t testing.TB, line string, within time.Duration) (out string) {
	t.Helper()
	s.enter(t, line)
	out, code := s.wait(t, line, within)
	if code != 0 {
		t.Fatalf("%s: exit code %d", line, code)
	}
	return out
}

// wait waits for the end of the last command.
func (s *terminal) wait(t testing.TB, line string, within time.Duration) (out string, code int) {
	t.Helper()
	testkit.Eventually(t, within, "the end of "+line, func() (ok bool) {
		out, code, ok = s.ended()
		return ok
	})
	return out, code
}

// serve starts a command that runs until Ctrl-C, and returns when it has printed ready.
func (s *terminal) serve(t testing.TB, line, ready string, within time.Duration) {
	t.Helper()
	s.enter(t, line)
	testkit.Eventually(t, within, fmt.Sprintf("%s prints %q", line, ready), func() bool {
		if _, code, ok := s.ended(); ok {
			t.Fatalf("%s: it has ended, with exit code %d", line, code)
		}
		return strings.Contains(s.printed(), ready)
	})
}

// interrupt is Ctrl-C. It returns when the command has ended.
func (s *terminal) interrupt(t testing.TB) {
	t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	s.wait(t, "the command, after Ctrl-C", testkit.Patience)
}

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

var built struct {
	once sync.Once
	dir  string
	err  error
}

// binary builds the program, once for all tests.
func binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "proxyd-e2e"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", filepath.Join(built.dir, "proxyd"), "proxyd/cmd/proxyd").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "proxyd")
}

func removeBinary() {
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
}

// run runs one command of the binary to its end.
func run(t testing.TB, environ []string, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(binary(t), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, environ...)
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// process is the real binary as a daemon.
type process struct {
	Addr string
	File string
	Log  *output
	Cmd  *exec.Cmd
	Done chan struct{} // closed when it has ended; Cmd.ProcessState tells how
}

var listening = regexp.MustCompile(`"msg":"listening".*"address":"([^"]+)"`)

// launch starts the binary, through a shell when before is a line to run first,
// and waits until it is ready. It is killed when the test ends.
func launch(t testing.TB, before, yaml string, environ ...string) *process {
	t.Helper()
	return launchAs(t, binary(t), before, yaml, environ...)
}

// launchAs is launch for a binary of the caller's.
func launchAs(t testing.TB, path, before, yaml string, environ ...string) *process {
	t.Helper()
	p := &process{File: writeConfig(t, yaml), Log: newLog(t), Done: make(chan struct{})}
	if before != "" {
		before += "; "
	}
	p.Cmd = exec.Command("sh", "-c", before+`exec "$0" run -c "$1"`, path, p.File)
	p.Cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environ...)
	r, err := p.Cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process
		defer close(p.Done)
		for s := bufio.NewScanner(r); s.Scan(); {
			fmt.Fprintln(p.Log, s.Text())
		}
		_ = p.Cmd.Wait()
	}()
	t.Cleanup(func() { _ = p.Cmd.Process.Kill(); <-p.Done })
	testkit.Eventually(t, testkit.Patience, "the daemon is ready", func() bool {
		if m := listening.FindStringSubmatch(p.Log.String()); m != nil {
			p.Addr = m[1]
		}
		return p.Addr != "" && strings.Contains(p.Log.String(), `"msg":"ready"`)
	})
	return p
}

// ended waits for the end and gives the exit code.
func (p *process) ended(t testing.TB, within time.Duration) int {
	t.Helper()
	select {
	case <-p.Done:
		return p.Cmd.ProcessState.ExitCode()
	case <-time.After(within):
		t.Fatalf("still running after %v\n%s", within, p.Log)
		return -1
	}
}

package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// onTerminal runs a command in a session of its own with a terminal, and returns what
// types on it and what it has shown so far.
func onTerminal(t *testing.T, name string, args ...string) (keys func(string), shown func() string, cmd *exec.Cmd) {
	t.Helper()
	terminal, far := testkit.Terminal(t, 80, 24)
	cmd = exec.Command(name, args...)
	cmd.Env = append(os.Environ(), asProxyd+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		testkit.Lacks(t, "a terminal: "+err.Error())
	}
	_ = terminal.Close()
	stuck := time.AfterFunc(testkit.Patience, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	t.Cleanup(func() { stuck.Stop(); _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	var text testkit.Output
	go func() { _, _ = io.Copy(&text, far) }() // ends when the last process has closed the terminal
	return func(s string) { _, _ = far.WriteString(s) }, text.String, cmd
}

// Ctrl-C on a terminal reaches the command once: by the terminal.
func TestExecOnTerminalPassesOnCtrlCOnce(t *testing.T) {
	t.Parallel()
	keys, shown, cmd := onTerminal(t, os.Args[0], "exec", "-c", file(t, "default: direct\n"), "--quiet", "--", "sh", "-c",
		`n=0; trap 'n=$((n+1)); echo int-$n' INT; trap 'echo done-$n; exit 5' USR1; echo up; while :; do sleep 0.02; done`)
	testkit.Eventually(t, testkit.Patience, "the command runs", func() bool { return strings.Contains(shown(), "up") })
	keys("\x03")
	testkit.Eventually(t, testkit.Patience, "Ctrl-C has come", func() bool { return strings.Contains(shown(), "int-1") })
	_ = cmd.Process.Signal(syscall.SIGUSR1) // after whatever was sent before
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit code %d: %q", code, shown())
	}
	testkit.Eventually(t, testkit.Patience, "it came once", func() bool { return strings.Contains(shown(), "done-1") })
}

// Ctrl-Z stops command and proxyd, and the shell's fg continues both.
func TestExecOnTerminalHasJobControl(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		testkit.Lacks(t, "bash")
	}
	keys, shown, cmd := onTerminal(t, bash, "-c", `set -m; "$@"; echo stopped-$?; fg >/dev/null; echo ended-$?`, "bash",
		os.Args[0], "exec", "-c", file(t, "default: direct\n"), "--quiet", "--", "sh", "-c", `echo up; read word; echo got-$word; exit 6`)
	testkit.Eventually(t, testkit.Patience, "the command runs", func() bool { return strings.Contains(shown(), "up") })
	keys("\x1a")
	testkit.Eventually(t, testkit.Patience, "the job is stopped", func() bool { return strings.Contains(shown(), "stopped-148") })
	keys("word\n")
	_ = cmd.Wait()
	testkit.Eventually(t, testkit.Patience, "the job has gone on and ended", func() bool {
		return strings.Contains(shown(), "got-word") && strings.Contains(shown(), "ended-6")
	})
}

// As process 1, as in a container, exec takes in the orphans of its command.
func TestExecAsFirstProcessReaps(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "exec", "-c", file(t, "default: direct\n"), "--", "sh", "-c", //nolint:gosec // this test's own binary
		`orphan=$(sh -c 'sleep 0.05 >/dev/null & echo $!'); i=0; while kill -0 $orphan 2>/dev/null; do i=$((i+1)); test $i -lt 200 || exit 1; sleep 0.05; done; exit 8`)
	cmd.Env = append(os.Environ(), asProxyd+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	out, _ := cmd.CombinedOutput()
	if cmd.Process == nil {
		testkit.Lacks(t, "a PID namespace of its own")
	}
	if code := cmd.ProcessState.ExitCode(); code != 8 || !strings.Contains(string(out), "nothing came") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

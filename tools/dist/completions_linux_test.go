package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// terminal is a command on a terminal of its own.
type terminal struct {
	testkit.Output // what it shows
	keys           io.Writer
}

// newTerminal starts a command, which is killed when the test ends.
func newTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	near, far := testkit.Terminal(t, 80, 24)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = near, near, near
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	s := &terminal{keys: far}
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(s, far) }) // ends when the shell has
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		reading.Wait()
		if t.Failed() {
			t.Logf("the terminal: %q", s.String())
		}
	})
	return s
}

// waitFor waits until text is shown after the first from bytes, and returns how
// many bytes are shown then.
func (s *terminal) waitFor(t *testing.T, text string, from int) (n int) {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, fmt.Sprintf("the terminal shows %q", text), func() bool {
		all := s.String()
		n = len(all)
		return strings.Contains(all[from:], text)
	})
	return n
}

// completes types a command and a tabulator, and waits for the rest of the word.
func (s *terminal) completes(t *testing.T) {
	t.Helper()
	from := s.waitFor(t, "ready> ", 0)
	if _, err := io.WriteString(s.keys, "proxyd probe binance_f\t"); err != nil {
		t.Fatal(err)
	}
	s.waitFor(t, "binance_futures", from)
}

// put copies a completion of the release to where a package installs it.
func put(t *testing.T, name, to string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(built(t), "build", "completions", name))
	if err == nil {
		err = write(to, text)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// withProgram returns the environment of a shell that finds the program.
func withProgram(t *testing.T, home string) []string {
	t.Helper()
	dir := filepath.Join(built(t), "build", runtime.GOOS+"_"+runtime.GOARCH)
	return []string{
		"PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + home, "ZDOTDIR=" + home, "XDG_DATA_HOME=" + home, "XDG_CONFIG_HOME=" + home,
		"PS1=ready> ", "TERM=dumb", "PROXYD_CONFIG=",
	}
}

// bash-completion loads the file when the command is first completed.
func TestBashCompletesAnExchange(t *testing.T) {
	needs(t, "bash")
	const library = "/usr/share/bash-completion/bash_completion"
	if _, err := os.Stat(library); err != nil && !*all {
		t.Skip("no bash-completion here")
	}
	t.Parallel()
	home := t.TempDir()
	put(t, "proxyd.bash", filepath.Join(home, "bash-completion", "completions", "proxyd"))
	if err := write(filepath.Join(home, "rc"), []byte(". "+library+"\nPS1='ready> '\n")); err != nil {
		t.Fatal(err)
	}
	newTerminal(t, withProgram(t, home), "bash", "--noprofile", "--rcfile", filepath.Join(home, "rc"), "-i").completes(t)
}

func TestZshCompletesAnExchange(t *testing.T) {
	needs(t, "zsh")
	t.Parallel()
	home := t.TempDir()
	put(t, "_proxyd", filepath.Join(home, "functions", "_proxyd"))
	rc := "fpath=($ZDOTDIR/functions $fpath)\nautoload -Uz compinit\ncompinit -u\nPS1='ready> '\n"
	if err := write(filepath.Join(home, ".zshrc"), []byte(rc)); err != nil {
		t.Fatal(err)
	}
	newTerminal(t, withProgram(t, home), "zsh", "-i").completes(t)
}

// fish itself says what it completes.
func TestFishCompletesAnExchange(t *testing.T) {
	needs(t, "fish")
	t.Parallel()
	home := t.TempDir()
	put(t, "proxyd.fish", filepath.Join(home, "fish", "completions", "proxyd.fish"))
	cmd := exec.Command("fish", "--command", "complete --do-complete 'proxyd probe binance_f'")
	cmd.Env = append(os.Environ(), withProgram(t, home)...)
	out, err := output(cmd)
	if err != nil || string(out) != "binance_futures\n" {
		t.Errorf("%q, %v", out, err)
	}
}

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

	"golang.org/x/sys/unix"
)

// screen is what a terminal shows.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// waitFor waits until text is shown after the first from bytes, and returns how
// many bytes are shown then.
func (s *screen) waitFor(t *testing.T, text string, from int) int {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		all := s.text.String()
		s.mu.Unlock()
		if strings.Contains(all[from:], text) {
			return len(all)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the terminal does not show %q:\n%q", text, all)
		}
	}
}

// terminal starts a command on a terminal of its own. It is killed when the test ends.
func terminal(t *testing.T, env []string, args ...string) (keys *os.File, shown *screen) {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	if err := unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(far.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	near, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = near, near, near
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	shown = &screen{}
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(shown, far) }) // ends when the shell has
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		reading.Wait()
		_ = far.Close()
	})
	return far, shown
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

// completes types a command and a tabulator, and waits for the rest of the word.
func completes(t *testing.T, keys *os.File, shown *screen) {
	t.Helper()
	from := shown.waitFor(t, "ready> ", 0)
	if _, err := keys.WriteString("proxyd probe binance_f\t"); err != nil {
		t.Fatal(err)
	}
	shown.waitFor(t, "binance_futures", from)
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
	keys, shown := terminal(t, withProgram(t, home), "bash", "--noprofile", "--rcfile", filepath.Join(home, "rc"), "-i")
	completes(t, keys, shown)
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
	keys, shown := terminal(t, withProgram(t, home), "zsh", "-i")
	completes(t, keys, shown)
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

package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"proxyd/internal/admin"
	"proxyd/internal/testkit"
)

// On a terminal --watch draws in place, in colour and in the size of the terminal;
// when it is interrupted, the terminal is as it was before.
func TestStatusWatchOnATerminal(t *testing.T) {
	_, path := running(t, "127.0.0.1:0", func(o *admin.Options) {})
	screen, far := testkit.Terminal(t, 80, 8)
	cmd := exec.Command(os.Args[0], "status", "--watch", "-c", path) //nolint:gosec // this test's own binary
	cmd.Env = append(os.Environ(), asProxyd+"=1", "NO_COLOR=")
	cmd.Stdout = screen
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = screen.Close()
	var shown testkit.Output
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(&shown, far) }) // ends when the command has
	text := shown.String
	testkit.Eventually(t, testkit.Patience, "two frames", func() bool { return strings.Count(text(), "\x1b[H") >= 2 })
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	reading.Wait()
	got := text()
	if !strings.HasPrefix(got, "\x1b[?1049h\x1b[?25l\x1b[H\x1b[32mok\x1b[0m\x1b[K") || !strings.HasSuffix(got, "\x1b[?25h\x1b[?1049l") {
		t.Errorf("%q", got)
	}
	if first, _, _ := strings.Cut(got, "\x1b[J"); strings.Count(first, "\n") != 7 || strings.Contains(got, "\x1b[2J") {
		t.Errorf("the first frame: %q", first)
	}
}

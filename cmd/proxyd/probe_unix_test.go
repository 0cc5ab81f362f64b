//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// Ctrl-C ends a probe also while its list is still being written.
func TestProbeInterruptedWhileReadingList(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list")
	if err := syscall.Mkfifo(list, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "probe", "-c", file(t, "default: direct\n"), "--list", list, "binance")
	cmd.Env = append(os.Environ(), asProxyd+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	w, err := os.OpenFile(list, os.O_WRONLY, 0) // waits until it is read
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the process, which is killed at the latest
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended as if all were ok")
		}
	case <-time.After(testkit.Patience):
		t.Error("it reads on")
	}
}

// A variable that is not set must not switch the check of a list off.
func TestProbeEmptySHA256(t *testing.T) {
	var out, errOut bytes.Buffer
	code := execute([]string{"probe", "-c", file(t, "default: direct\n"), "--list", file(t, "http://127.0.0.1:1\n"), "--sha256", "", "binance"}, &out, &errOut)
	if code != 2 || !strings.Contains(errOut.String(), "--sha256") {
		t.Errorf("%d, %s%s", code, &out, &errOut)
	}
}

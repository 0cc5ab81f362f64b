package daemon

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// A process that has ended is not alive, even when nobody has waited for it yet.
func TestAliveKnowsTheDead(t *testing.T) {
	t.Parallel()
	if !alive(os.Getpid()) {
		t.Error("this process is not alive")
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)); bytes.Contains(b, []byte(") Z ")) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("it does not end: %s", b)
		}
	}
	if alive(cmd.Process.Pid) {
		t.Error("a process that has ended is alive")
	}
}

package handover

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"proxyd/internal/testkit"
)

var _ = add("upgrades", func() error {
	_, err := new(Upgrader).Start(StartOptions{Path: os.Args[0], Env: []string{part + "=answers"}})
	return err
})

// In a PID namespace of its own a process is what it is in a container.
func TestContainerFirstProcessIsNotReplaced(t *testing.T) {
	t.Parallel()
	first := exec.CommandContext(soon(t), os.Args[0])
	first.Env = append(os.Environ(), part+"=upgrades")
	first.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if os.Getuid() != 0 {
		first.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	out, err := first.CombinedOutput()
	if first.Process == nil {
		testkit.Lacks(t, "a PID namespace of its own: "+err.Error())
	}
	if err == nil || !strings.Contains(string(out), "this process is PID 1 of its container; replacing it would end the container") {
		t.Errorf("got %q, %v", out, err)
	}
}

package e2e

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"proxyd/internal/testkit"
)

// Nothing that proxyd does puts a password into the list of processes.
//
// Promise (security): passwords appear in no process list.
func TestPasswordsShowInNoProcess(t *testing.T) {
	m := newMarked(t)
	p := launch(t, "", m.yaml, m.environ...)
	c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: "lit0.example:80", User: "lit", Password: secret(1)})
	if !reply.OK {
		t.Fatal(reply)
	}
	for _, what := range []string{"cmdline", "comm", "status", "maps"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.Cmd.Process.Pid, what))
		if err != nil {
			t.Fatal(err)
		}
		noMark(t, what, string(b))
	}
	_ = c.Close()
	_ = p.Cmd.Process.Signal(syscall.SIGTERM)
	p.ended(t, testkit.Patience)
	noMark(t, "the log", p.Log.String())
}

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// Promise (data path): a log that cannot be written, as on a full disk, stops nothing, and status says so.
func TestStatusSaysThatTheLogCannotBeWritten(t *testing.T) {
	t.Parallel()
	const full = "/dev/full"
	socket := filepath.Join(t.TempDir(), "admin")
	p := &process{File: writeConfig(t, "default: direct\nadmin: unix:"+socket+"\n"), Log: newLog(t)}
	p.Cmd = exec.Command("sh", "-c", `exec "$0" run -c "$1" 2>`+full, binary(t), p.File)
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Cmd.Process.Kill()
		_ = p.Cmd.Wait()
	})
	var out string
	testkit.Eventually(t, testkit.Patience, "status to say so", func() bool {
		out, _ = p.command(t, "status")
		return strings.Contains(out, "DEGRADED: the log loses lines: ") && strings.Contains(out, "no space left on device")
	})
	if metrics := p.admin(t, socket, "/metrics"); strings.Contains(metrics, "proxyd_log_write_errors_total 0") || strings.Contains(metrics, "proxyd_log_dropped_total 0") {
		t.Errorf("the metrics count nothing; status says %s", out)
	}
}

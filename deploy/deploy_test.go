// Package deploy holds what proxyd is installed with to the program.
package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/config"
)

// A unit is a unit file of systemd: section and key to values.
type unit map[string][]string

func readUnit(t *testing.T, file string) unit {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	u, section := unit{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch key, value, isSetting := strings.Cut(line, "="); {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = line
		case isSetting:
			u[section+key] = append(u[section+key], value)
		default:
			t.Errorf("%s: %s", file, line)
		}
	}
	return u
}

func (u unit) seconds(t *testing.T, key string) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(strings.Join(u[key], " "))
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return time.Duration(n) * time.Second
}

func TestService(t *testing.T) {
	u := readUnit(t, "proxyd.service")
	for key, want := range map[string]string{
		"[Service]Type":         "notify",
		"[Service]NotifyAccess": "main", // of two generations the old one's words do not count
		"[Service]ExecStart":    "/usr/local/bin/proxyd run -c /etc/proxyd/proxyd.yaml",
		"[Service]ExecReload":   "/usr/local/bin/proxyd reload -c /etc/proxyd/proxyd.yaml",
	} {
		if got := strings.Join(u[key], " "); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	c, err := config.Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, need := u.seconds(t, "[Service]TimeoutStopSec"), c.StopGrace+c.Drain; got < need+5*time.Second {
		t.Errorf("TimeoutStopSec is %v, a stop takes %v", got, need)
	}
	if got := u.seconds(t, "[Service]WatchdogSec"); got < 10*time.Second {
		t.Errorf("WatchdogSec is %v: a busy machine is not a hanging daemon", got)
	}
}

// The sockets are those that proxyd would open without a configuration.
func TestSocket(t *testing.T) {
	c, err := config.Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, l := range c.Listen {
		want = append(want, l.Address)
	}
	if diff := cmp.Diff(want, readUnit(t, "proxyd.socket")["[Socket]ListenStream"]); diff != "" {
		t.Errorf("(-default +socket)\n%s", diff)
	}
}

// systemd itself finds nothing wrong, where there is one.
func TestUnitsVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd-analyze here")
		return
	}
	dir := t.TempDir()
	for _, name := range []string{"proxyd.service", "proxyd.socket"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("/usr/local/bin/proxyd"), []byte("/bin/sh")) // it must be there
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(analyze, "verify", filepath.Join(dir, "proxyd.service"), filepath.Join(dir, "proxyd.socket")).CombinedOutput() //nolint:gosec // found above
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "proxyd.") { // there may be faults in the machine's own units
			t.Error(line)
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Package deploy holds what proxyd is installed with to the program.
package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/config"
	"proxyd/internal/testkit"
)

// A unit is a unit file of systemd: section and key to values.
type unit map[string][]string

func readUnit(t *testing.T, file string) unit {
	t.Helper()
	u, section := unit{}, ""
	for line := range strings.Lines(read(t, file)) {
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
	u := readUnit(t, "systemd/proxyd.service")
	for key, want := range map[string]string{
		"[Service]Type":         "notify",
		"[Service]NotifyAccess": "main", // of two generations the old one's words do not count
		"[Service]ExecStart":    "/usr/bin/proxyd run -c /etc/proxyd/proxyd.yaml",
		"[Service]ExecReload":   "/usr/bin/proxyd reload -c /etc/proxyd/proxyd.yaml",
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
	if diff := cmp.Diff(want, readUnit(t, "systemd/proxyd.socket")["[Socket]ListenStream"]); diff != "" {
		t.Errorf("(-default +socket)\n%s", diff)
	}
}

// analyze runs systemd-analyze and returns what it prints; the test ends where there
// is none.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		testkit.Lacks(t, "systemd-analyze")
	}
	out, err := exec.Command(program, args...).CombinedOutput() //nolint:gosec // found above
	return string(out), err
}

// systemd finds nothing wrong with the units, nor with a feed's service that has
// the drop-ins.
func TestUnitsVerify(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	args := []string{"verify", "--man=no"}
	for _, name := range []string{"proxyd.service", "proxyd.socket"} {
		text := strings.ReplaceAll(read(t, "systemd/"+name), "/usr/bin/proxyd", "/bin/sh") // it must be there
		args = append(args, write(name, text))
	}
	write("feed.service.d/proxyd.conf", read(t, "systemd/feed.conf"))
	write("feed.service.d/redirect.conf", read(t, "systemd/redirect.conf"))
	args = append(args, write("feed.service", "[Service]\nExecStart=/bin/sh\n"))
	out, err := analyze(t, args...)
	for line := range strings.Lines(out) {
		if strings.Contains(line, "proxyd.") || strings.Contains(line, "feed.") { // the machine's own units may have errors
			t.Error(line)
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The unit's exposure is at most 2.0, as systemd sums it up: 0 is least, 10 most.
func TestUnitExposure(t *testing.T) {
	if out, err := analyze(t, "--version"); err != nil || systemdVersion(t, out) < 250 {
		testkit.Lacks(t, "systemd-analyze with --offline, which version 250 has")
	}
	out, err := analyze(t, "security", "--no-pager", "--offline=yes", "--threshold=20", "systemd/proxyd.service")
	if err != nil || !strings.Contains(out, "Overall exposure level") {
		t.Errorf("%v\n%s", err, out)
	}
}

// systemdVersion returns 252 of "systemd 252 (252.38-1)".
func systemdVersion(t *testing.T, text string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscanf(text, "systemd %d", &n); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return n
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

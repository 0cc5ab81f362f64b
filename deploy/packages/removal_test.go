//go:build packages && linux

package packages

import (
	"fmt"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// removed holds what is left: what the user wrote.
func (m *machine) removed(t *testing.T, p manager) {
	t.Helper()
	m.run(t, p.remove)
	m.stopped(t)
	if got := m.read(p.kept); got != edited {
		t.Errorf("after the removal %s has %q", p.kept, got)
	}
}

// stopped holds that no process of the package runs, and systemd has forgotten it.
func (m *machine) stopped(t *testing.T) {
	t.Helper()
	if out, _ := m.try("pidof proxyd; systemctl list-units --all --plain --no-legend 'proxyd*'"); strings.TrimSpace(out) != "" {
		t.Errorf("after the removal there is still: %s", out)
	}
	if out, _ := m.try("systemctl is-system-running"); out != "running\n" {
		failed, _ := m.try("systemctl --failed --plain --no-legend")
		t.Errorf("after the removal the system is %s%s", out, failed)
	}
}

// comesBack installs it again after a removal: the user's configuration is in force,
// once its errors are corrected. A service that the administrator has stopped stays so.
func (m *machine) comesBack(t *testing.T, p manager) {
	t.Helper()
	if p.kind == "rpm" {
		for _, file := range []string{configFile, envFile} {
			m.run(t, "mv "+file+".rpmsave "+file)
		}
	}
	m.write(t, configFile, edited+"no_such_key: 1\n")
	out := p.put(t, m, "v0.9.2")
	if p.enable == "" {
		says(t, "the installation with errors in the file", out, "could not start", "systemctl status proxyd")
	} else {
		m.try(p.enable)
	}
	m.write(t, configFile, edited) // what Restart= waits for
	testkit.Eventually(t, testkit.Patience, "the service is active", func() bool {
		_, code := m.try("systemctl is-active proxyd")
		return code == 0
	})
	says(t, "proxyd status", m.run(t, "proxyd status"), "v0.9.2, ready")
	if got := m.read(configFile); got != edited {
		t.Errorf("after the second installation the configuration is:\n%s", got)
	}
	f := newFeeds(t)
	f.close()

	m.run(t, "systemctl stop proxyd")
	m.run(t, fmt.Sprintf(p.again, packagesDir+"/v0.9.2."+p.kind))
	if out, _ := m.try("systemctl is-active proxyd"); out != "inactive\n" {
		t.Errorf("stopped by the administrator, and after an installation %q", out)
	}
	m.run(t, "systemctl start proxyd")
}

// purged removes all but what no package brought.
func (m *machine) purged(t *testing.T, p manager, before tree) {
	t.Helper()
	names := []string{"/etc/proxyd", "/etc/proxyd/tokyo.list", "/var/lib/proxyd", "/var/lib/proxyd/osaka.list"} // the user's
	line := p.purge
	if line == "" { // a file that the user has changed is theirs
		line = p.remove
		names = append(names, configFile+".rpmsave", envFile+".rpmsave",
			configFile+".rpmnew", envFile+".rpmnew") // of comesBack; rpm leaves them
	}
	m.run(t, line)
	m.stopped(t)
	m.run(t, "rm "+packagesDir+"/v0.9.3."+p.kind)
	m.run(t, "userdel proxyd") // stays: with the deb because osaka.list is there, with the rpm always
	left(t, line, m.tree(t), before, names...)
}

// A user that was there before the package is not its to delete.
func TestPurgeKeepsTheUserThatWasThere(t *testing.T) {
	m := withoutSystemd(t)
	m.run(t, "useradd --system --user-group --no-create-home proxyd")
	before := m.tree(t)
	apt.put(t, m, "v0.9.1")
	apt.put(t, m, "v0.9.2")
	m.run(t, apt.remove)
	apt.put(t, m, "v0.9.2")
	m.run(t, apt.purge)
	left(t, apt.purge, m.tree(t), before)
}

//go:build packages && linux

package packages

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// upgrades puts the second version in place while feeds carry.
func (m *machine) upgrades(t *testing.T, p manager, f *feeds) {
	t.Helper()
	old := m.mainPID(t)
	stop := f.newcomers(t)
	out := p.put(t, m, "v0.9.2")
	stop()
	f.live(t, "the upgrade")
	if now := m.mainPID(t); now == old {
		t.Fatalf("after the upgrade the process of the service is still %d\n%s\n%s", old, out, m.log())
	}
	says(t, "proxyd version", m.run(t, "proxyd version"), "v0.9.2")
	says(t, "proxyd status", m.run(t, "proxyd status"), "v0.9.2, ready", "generation 2", fmt.Sprint("pid ", m.mainPID(t)))
	says(t, "the service", m.run(t, "systemctl is-active proxyd"), "active")
	says(t, "the upgrade", out, "the tunnels stay")
	if strings.Contains(out, "OLD VERSION") {
		t.Error(out)
	}
	if got := m.read(configFile); got != edited {
		t.Errorf("the upgrade has changed the user's configuration to:\n%s", got)
	}
	says(t, "the mode", m.run(t, "stat -c '%a %U' /etc/proxyd/env"), "600 root")
}

// staysOnTheOldVersion upgrades while the file has errors. The package is installed; the
// process and its feeds go on until the user has done what the message says.
func (m *machine) staysOnTheOldVersion(t *testing.T, p manager, f *feeds) {
	t.Helper()
	old := m.mainPID(t)
	broken := edited + "no_such_key: 1\n"
	m.write(t, configFile, broken)
	version := "v0.9.3"
	m.repack(t, p, version)
	stop := f.newcomers(t)
	out := p.put(t, m, version)
	stop()
	f.live(t, "an upgrade with errors in the file")
	says(t, "the upgrade with errors in the file", out, "THE OLD VERSION STILL RUNS", "proxyd upgrade", "no_such_key")
	if now := m.mainPID(t); now != old {
		t.Errorf("the process of the service was %d, and is %d", old, now)
	}
	if got := m.read(configFile); got != broken {
		t.Errorf("the upgrade has changed the user's configuration to:\n%s", got)
	}

	m.write(t, configFile, edited)
	m.run(t, "proxyd reload && proxyd upgrade")
	f.live(t, "proxyd upgrade")
	if now := m.mainPID(t); now == old {
		t.Errorf("after proxyd upgrade the process of the service is still %d", old)
	}
}

// repack makes a version with another default configuration, which the user has changed
// too: dpkg and rpm then put the new one beside it. An rpm cannot be made from another
// one: it is the second version again.
func (m *machine) repack(t *testing.T, p manager, version string) {
	t.Helper()
	to := filepath.Join(m.root, packagesDir, version+"."+p.kind)
	from := filepath.Join(m.root, packagesDir, "v0.9.2."+p.kind)
	if p.kind == "rpm" {
		command(t, "cp", from, to)
		return
	}
	content := t.TempDir()
	command(t, "dpkg-deb", "-R", from, content)
	for file, edit := range map[string][2]string{"DEBIAN/control": {"Version: 0.9.2", "Version: 0.9.3"}, "etc/proxyd/proxyd.yaml": {"default: direct", "default: direct # by default"}} {
		file = filepath.Join(content, file)
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), edit[0]) {
			t.Fatalf("%s: no %q (%v)", file, edit[0], err)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), edit[0], edit[1], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command(t, "dpkg-deb", "-Znone", "-b", content, to)
}

// goesBack installs the first version over the later one, and once more over itself. An
// administrator's choices stay.
func (m *machine) goesBack(t *testing.T, p manager, f *feeds) {
	t.Helper()
	m.run(t, "systemctl disable proxyd")
	m.run(t, fmt.Sprintf(p.downgrade, packagesDir+"/v0.9.1."+p.kind))
	f.live(t, "the downgrade")
	says(t, "proxyd status", m.run(t, "proxyd status"), "v0.9.1, ready")
	pid := m.mainPID(t)
	m.run(t, fmt.Sprintf(p.again, packagesDir+"/v0.9.1."+p.kind))
	f.live(t, "the same version again")
	says(t, "proxyd status", m.run(t, "proxyd status"), "v0.9.1, ready")
	t.Logf("the same version again: process %d, then %d", pid, m.mainPID(t))
	if out, _ := m.try("systemctl is-enabled proxyd"); out != "disabled\n" {
		t.Errorf("disabled by the administrator, and now %q", out)
	}
	m.run(t, "systemctl enable proxyd")
}

// upgradesBySignal upgrades a daemon without an admin address.
func (m *machine) upgradesBySignal(t *testing.T, p manager, f *feeds) {
	t.Helper()
	m.write(t, configFile, edited+"admin: \"\"\n")
	testkit.Eventually(t, testkit.Patience, "the admin address is off", func() bool {
		_, code := m.try("proxyd status -c " + configFile)
		return code != 0
	})
	old := m.mainPID(t)
	stop := f.newcomers(t)
	out := p.put(t, m, "v0.9.2")
	stop()
	f.live(t, "an upgrade without an admin address")
	now := m.mainPID(t)
	says(t, "the upgrade without an admin address", out, fmt.Sprint("process ", now))
	says(t, "the program", m.run(t, fmt.Sprintf("/proc/%d/exe version", now)), "v0.9.2")
	if now == old {
		t.Errorf("after the upgrade without an admin address the process is still %d", old)
	}
	m.write(t, configFile, edited)
	testkit.Eventually(t, testkit.Patience, "the admin address is back", func() bool {
		_, code := m.try("proxyd status -c " + configFile)
		return code == 0
	})
}

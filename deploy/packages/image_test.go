//go:build packages && linux

package packages

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// In the build of an image nothing may start, and nothing complains. That systemd's
// programs are there, or are not, does not matter.
func TestDebInTheBuildOfAnImage(t *testing.T) {
	m := withoutSystemd(t)
	m.write(t, "/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
	m.run(t, "chmod 755 /usr/sbin/policy-rc.d")
	for _, systemd := range []bool{true, false} {
		if !systemd {
			m.run(t, "dpkg --purge --force-remove-essential --force-depends systemd-sysv systemd")
		}
		before := m.tree(t)
		out := apt.put(t, m, "v0.9.1")
		_, said, _ := strings.Cut(out, "Setting up proxyd (0.9.1) ...\n")
		if said = regexp.MustCompile(`(?m)^(Creating (user|group) 'proxyd'|Created symlink \S+/proxyd\.service ).*\n`).ReplaceAllString(said, ""); said != "" {
			t.Errorf("with systemd's programs: %v; the installation said:\n%s", systemd, said)
		}
		if out, _ := m.try("pidof proxyd"); out != "" {
			t.Errorf("the installation has started process %s", out)
		}
		says(t, "getent", m.run(t, "getent passwd proxyd"), ":/var/lib/proxyd:", "nologin")
		says(t, "proxyd check", m.run(t, "proxyd check -c "+configFile), ": ok, 0 warnings")
		m.run(t, apt.purge)
		left(t, apt.purge, m.tree(t), before)
	}
}

// Promise (data path): without systemd too, the upgrade of a package cuts no tunnel.
func TestDebLivesWithoutSystemd(t *testing.T) {
	m := withoutSystemd(t)
	m.run(t, "dpkg --purge --force-remove-essential --force-depends systemd-sysv systemd")
	before := m.tree(t)
	apt.put(t, m, "v0.9.1")
	m.write(t, envFile, "TOKYO_PASSWORD=example\n")
	m.write(t, configFile, edited)
	foreign := m.startElsewhere(t)
	m.startAsUnit(t)
	f := newFeeds(t)

	pid := m.generation(t, 1, "v0.9.1")
	stop := f.newcomers(t)
	out := apt.put(t, m, "v0.9.2")
	stop()
	f.live(t, "the upgrade")
	says(t, "the upgrade", out, "the tunnels stay", "done")
	if now := m.generation(t, 2, "v0.9.2"); now == pid {
		t.Errorf("the upgrade has left process %s in service", now)
	}

	pid = m.generation(t, 2, "v0.9.2")
	m.write(t, configFile, edited+"no_such_key: 1\n")
	says(t, "the upgrade with errors in the file", m.run(t, "dpkg -i "+packagesDir+"/v0.9.1.deb"), "THE OLD VERSION STILL RUNS", "no_such_key")
	f.live(t, "an upgrade with errors in the file")
	if now := m.generation(t, 2, "v0.9.2"); now != pid {
		t.Errorf("process %s was in service, and is %s", pid, now)
	}
	m.write(t, configFile, edited)
	t.Logf("%d feeds, %d bytes compared", feedCount, f.close())

	m.run(t, apt.remove)
	if out, _ := m.try("pidof proxyd"); strings.TrimSpace(out) != foreign {
		t.Errorf("after the removal these processes run: %s; want that of another system alone: %s", out, foreign)
	}
	m.run(t, apt.purge)
	left(t, apt.purge, m.tree(t), before)
}

// generation waits until that generation is in service, and returns its process.
func (m *machine) generation(t *testing.T, n int, version string) (pid string) {
	t.Helper()
	want := regexp.MustCompile(fmt.Sprintf(`proxyd +%s, ready, .*generation %d, pid (\d+)`, regexp.QuoteMeta(version), n))
	testkit.Eventually(t, testkit.Patience, fmt.Sprintf("%s is generation %d", version, n), func() bool {
		out, _ := m.try("proxyd status")
		if m := want.FindStringSubmatch(out); m != nil {
			pid = m[1]
		}
		return pid != ""
	})
	return pid
}

// startElsewhere starts a daemon with the same command line and another root directory,
// as a container has it, and returns its process.
func (m *machine) startElsewhere(t *testing.T) string {
	t.Helper()
	m.run(t, `mkdir -p /run/other/usr/bin /run/other/etc/proxyd && cp /usr/bin/proxyd /run/other/usr/bin/ && mkdir /run/other/proc &&
		printf 'listen: 127.0.0.1:8866\nadmin: ""\n' >/run/other/etc/proxyd/proxyd.yaml`)
	m.background(t, nil, "chroot /run/other /usr/bin/proxyd run -c "+configFile)
	var pid string
	testkit.Eventually(t, testkit.Patience, "the daemon of another root runs", func() bool {
		out, code := m.try("pidof proxyd")
		pid = strings.TrimSpace(out)
		return code == 0
	})
	return pid
}

// startAsUnit starts what the unit starts, with its user, limits, directories and
// environment, in the foreground.
func (m *machine) startAsUnit(t *testing.T) {
	t.Helper()
	unit := readUnit(t, filepath.Join(m.root, "usr/lib/systemd/system/proxyd.service"))
	user, files := unit["User"], m.mayOpen(t)
	if unit["UMask"] != "0077" {
		t.Errorf("the unit's UMask is %q", unit["UMask"])
	}
	for _, d := range []struct{ at, name, mode string }{{"/run", unit["RuntimeDirectory"], "755"}, {"/var/lib", unit["StateDirectory"], unit["StateDirectoryMode"]}} {
		m.run(t, fmt.Sprintf("install -d -o %s -g %s -m %s %s/%s", user, unit["Group"], d.mode, d.at, d.name))
	}
	var environ []string
	lines := bufio.NewScanner(strings.NewReader(m.read(strings.TrimPrefix(unit["EnvironmentFile"], "-"))))
	for lines.Scan() {
		if line := lines.Text(); line != "" && line[0] != '#' {
			environ = append(environ, line)
		}
	}
	m.background(t, environ, fmt.Sprintf("prlimit --nofile=%d:%d setpriv --reuid=%s --regid=%s --init-groups --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all %s",
		files, files, user, unit["Group"], unit["ExecStart"]))
	m.generation(t, 1, "v0.9.1")
}

// background starts a line of sh whose parent is the machine's first process. It ends
// with the machine.
func (m *machine) background(t *testing.T, environ []string, line string) {
	t.Helper()
	cmd := m.inside(append(environ, "sh", "-c", "umask 0077; setsid "+line+" </dev/null >>/run/log 2>&1 &")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := m.try("tail -n 20 /run/log")
			t.Log(log)
		}
	})
}

// readUnit returns the keys of a unit; the last value of each.
func readUnit(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	unit := map[string]string{}
	for line := range bytes.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(string(line)), "="); ok && key[0] != '#' {
			unit[key] = value
		}
	}
	return unit
}

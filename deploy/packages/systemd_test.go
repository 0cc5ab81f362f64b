//go:build packages && linux

package packages

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

const (
	configFile = "/etc/proxyd/proxyd.yaml"
	envFile    = "/etc/proxyd/env"
)

// edited is the user's configuration. Its exchange has a secret, which the service alone
// has: what an upgrade runs as root does not know it.
const edited = `default: direct
allow_private: [127.0.0.0/8]
exchanges:
  bitget: "socks5://bot:${TOKYO_PASSWORD}@127.0.0.1:1"
`

// Promise (data path): the upgrade of a package under systemd cuts no tunnel and refuses none; a file with errors leaves
// the old version in service.
func TestDebLivesUnderSystemd(t *testing.T) { liveUnderSystemd(t, apt) }

// The .rpm does the same as the .deb, without proxyd.socket.
func TestRPMLivesUnderSystemd(t *testing.T) { liveUnderSystemd(t, rpm) }

func liveUnderSystemd(t *testing.T, p manager) {
	m := withSystemd(t)
	if p.kind == "rpm" { // these belong to other packages where rpm is at home
		m.run(t, "mkdir -p /usr/share/licenses /usr/share/fish/vendor_completions.d /usr/share/zsh/site-functions")
	}
	before := m.tree(t)
	p.put(t, m, "v0.9.1")
	if p.enable != "" {
		m.run(t, p.enable)
	}
	m.installed(t, "v0.9.1")
	m.confined(t)
	m.configure(t)
	if p.kind == "deb" { // both are tested: with and without the socket
		m.activate(t)
	}

	f := newFeeds(t)
	m.upgrades(t, p, f)
	m.staysOnTheOldVersion(t, p, f)
	m.goesBack(t, p, f)
	m.upgradesBySignal(t, p, f)
	t.Logf("%d feeds, %d bytes compared", feedCount, f.close())

	m.removed(t, p)
	m.comesBack(t, p)
	m.purged(t, p, before)
}

// installed holds what an installation has done to it.
func (m *machine) installed(t *testing.T, version string) {
	t.Helper()
	if got := m.run(t, "systemctl is-active proxyd; systemctl is-enabled proxyd"); got != "active\nenabled\n" {
		t.Fatalf("after the installation the service is %q\n%s", got, m.log())
	}
	says(t, "proxyd status", m.run(t, "proxyd status"), version+", ready", proxy, configFile)
	says(t, "the modes", m.run(t, "stat -c '%n %a %U:%G' /etc/proxyd /etc/proxyd/* /usr/bin/proxyd"),
		"/etc/proxyd 755 root:root", configFile+" 644 root:root", envFile+" 600 root:root", "/usr/bin/proxyd 755 root:root")
	says(t, "getent", m.run(t, "getent passwd proxyd"), ":/var/lib/proxyd:", "nologin")
	if out := m.run(t, "systemd-analyze verify --man=no /usr/lib/systemd/system/proxyd.service /usr/lib/systemd/system/proxyd.socket 2>&1"); strings.Contains(out, "proxyd") {
		t.Errorf("systemd-analyze verify: %s", out)
	}
}

// confined holds how the process runs to the unit.
func (m *machine) confined(t *testing.T) {
	t.Helper()
	status := m.run(t, fmt.Sprintf("cat /proc/%d/status /proc/%d/limits", m.mainPID(t), m.mainPID(t)))
	says(t, "/proc", status, "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "Seccomp:\t2", "Umask:\t0077")
	uid := strings.TrimSpace(m.run(t, "id -u proxyd"))
	for _, want := range []string{`(?m)^Uid:(\s+` + uid + `){4}$`, fmt.Sprintf(`(?m)^Max open files +%[1]d +%[1]d `, m.mayOpen(t))} {
		if !regexp.MustCompile(want).MatchString(status) {
			t.Errorf("/proc has no %s:\n%s", want, status)
		}
	}
	says(t, "the directories", m.run(t, "stat -c '%n %a %U:%G' /run/proxyd /var/lib/proxyd"), "/run/proxyd 755 proxyd:proxyd", "/var/lib/proxyd 750 proxyd:proxyd")
	exposure := regexp.MustCompile(`([0-9.]+) OK`).FindStringSubmatch(m.run(t, "systemd-analyze security --no-pager proxyd.service"))
	if exposure == nil {
		t.Error("systemd-analyze security does not say OK")
	} else if n, _ := strconv.ParseFloat(exposure[1], 64); n > 2 {
		t.Errorf("systemd-analyze security: %v, want at most 2.0", n)
	}
}

// mayOpen returns LimitNOFILE of the unit, or less where the root of this machine may not
// have so many files.
func (m *machine) mayOpen(t *testing.T) int {
	t.Helper()
	const limit = 65536
	if _, code := m.try(fmt.Sprintf("prlimit --nofile=%d:%d true", limit, limit)); code == 0 {
		return limit
	}
	n, err := strconv.Atoi(strings.TrimSpace(m.run(t, "ulimit -Hn")))
	if err != nil {
		t.Fatal(err)
	}
	return min(n, limit)
}

// configure does what a user does first: a secret, a configuration, a list of their
// own.
func (m *machine) configure(t *testing.T) {
	t.Helper()
	m.write(t, envFile, "TOKYO_PASSWORD=example\n")
	m.write(t, "/etc/proxyd/tokyo.list", "socks5://127.0.0.1:2\n")
	m.write(t, "/var/lib/proxyd/osaka.list", "socks5://127.0.0.1:3\n")
	m.write(t, configFile, edited)
	m.run(t, "systemctl restart proxyd")
	says(t, "proxyd status", m.run(t, "proxyd status"), "ready")
}

// activate has systemd hold the addresses: the first client starts the service.
func (m *machine) activate(t *testing.T) {
	t.Helper()
	m.run(t, "systemctl stop proxyd && systemctl enable --now proxyd.socket")
	if out, _ := m.try("pidof proxyd"); out != "" {
		t.Errorf("process %s runs before a client has come", out)
	}
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	m.mainPID(t)
	says(t, "the log", m.log(), "TriggeredBy", "proxyd.socket")
}

func (m *machine) mainPID(t *testing.T) int {
	t.Helper()
	var pid int
	testkit.Eventually(t, testkit.Patience, "the service has a process", func() bool {
		out, _ := m.try("systemctl show --property MainPID --value proxyd")
		pid, _ = strconv.Atoi(strings.TrimSpace(out))
		return pid > 0
	})
	return pid
}

// log returns what the service has logged.
func (m *machine) log() string {
	out, _ := m.try("systemctl status --no-pager --full proxyd; journalctl --no-pager -n 40 -u proxyd -o cat")
	return out
}

//go:build packages && linux

package packages

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// redirectedFeed connects as soon as it runs, and knows of no proxy.
const redirectedFeed = `[Service]
ExecStart=/bin/bash -c 'exec 3<>/dev/tcp/192.0.2.7/80; printf "GET / HTTP/1.1\\r\\nHost: unlisted.example\\r\\n\\r\\n" >&3; head -n 1 <&3 >/run/%N.answer; exec sleep infinity'
`

// Promise (security): A service of systemd with the drop-in redirect.conf reaches nothing but proxyd from its first process on, after each restart too; without rules it does not start.
func TestDropInRedirectsUnderSystemd(t *testing.T) {
	command(t, "ip", "address", "replace", "198.51.100.1/32", "dev", "lo")
	command(t, "ip", "route", "replace", "192.0.2.0/24", "dev", "lo", "src", "198.51.100.1")
	m := withSystemd(t)
	apt.put(t, m, "v0.9.1")
	m.write(t, configFile, "default: reject\nlisten: [127.0.0.1:8877, {address: \"127.0.0.1:8879\", transparent: true}, {address: \"[::1]:8879\", transparent: true}]\n")
	m.run(t, "systemctl restart proxyd")
	for _, name := range []string{"feed", "bot"} {
		if err := os.WriteFile(filepath.Join(m.root, "etc/systemd/system", name+".service"), []byte(redirectedFeed), 0o644); err != nil {
			t.Fatal(err)
		}
		m.run(t, "install -D -m 644 /usr/share/proxyd/systemd/redirect.conf /etc/systemd/system/"+name+".service.d/redirect.conf")
	}
	m.run(t, "systemctl daemon-reload")
	for _, line := range []string{"systemctl start feed", "systemctl restart feed", "systemctl start bot", "systemctl stop bot feed; systemctl start feed"} {
		m.run(t, "rm -f /run/*.answer; "+line)
		started := line[strings.LastIndexByte(line, ' ')+1:]
		testkit.Eventually(t, testkit.Patience, "the answer to "+started+" after "+line, func() bool {
			answer, _ := m.try("cat /run/" + started + ".answer")
			return strings.HasPrefix(answer, "HTTP/1.1 403 proxyd: denied")
		})
	}
	says(t, "systemd", m.run(t, "systemctl show --property=ControlGroup feed; cat /proc/$(systemctl show --property MainPID --value feed)/status"),
		"/feeds.slice/feed.service", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1")
	m.write(t, configFile, "default: nowhere\n")
	if out, code := m.try("systemctl restart feed"); code == 0 {
		t.Errorf("it starts without rules: %s", out)
	}
	says(t, "the state", m.run(t, "systemctl is-active feed || true; nft list table inet proxyd"), "failed", `"feeds.slice"`)
}

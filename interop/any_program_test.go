//go:build interop

package interop

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// ruleMachine is a machine with cgroups of version 2 and the users of the document, whose
// network is its own. It runs its arguments one after the other, and prints after each
// what nft then has.
const ruleMachine = `
mount --make-rprivate /
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/system.slice/feed.service /sys/fs/cgroup/feeds.slice
trap 'for d in system.slice/feed.service system.slice feeds.slice; do rmdir /sys/fs/cgroup/$d 2>/dev/null || true; done' EXIT
mount --bind passwd /etc/passwd
ip link set lo up
for line in "$@"; do
	rc=0
	sh -c "$line" 2>&1 || rc=$?
	echo "-- exit code $rc"
	nft list table inet proxyd 2>/dev/null || echo "no table"
	echo "== end"
done`

// rulesOn runs lines on such a machine, in a directory, and returns what is printed for each.
func rulesOn(t *testing.T, where string, lines ...string) []string {
	t.Helper()
	passwd := readFile(t, "/etc/passwd") + "feed:x:12345:12345::/:/bin/sh\nbot:x:12346:12346::/:/bin/sh\n"
	if err := os.WriteFile(filepath.Join(where, "passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", append([]string{"--mount", "--net", "sh", "-euc", ruleMachine, "sh"}, lines...)...)
	cmd.Dir = where
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(os.Getenv("INTEROP_PROXYD"))+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	parts := strings.SplitAfter(string(out), "== end\n")
	if err != nil || len(parts) != len(lines)+1 {
		t.Fatalf("%v: %s", err, out)
	}
	return parts[:len(lines)]
}

// documentedCommands are the commands of docs/any-program.md about rules, with what is
// printed or loaded then, and what is not.
var documentedCommands = map[string]struct{ has, lacks []string }{
	"proxyd nft --uid feed":                                                       {[]string{`meta skuid "feed" jump to_proxyd`, "redirect to :8879", "no table"}, nil},
	"proxyd nft --uid feed | nft -f -":                                            {[]string{"meta skuid 12345 jump to_proxyd", "redirect to :8879"}, []string{"no table", "12346"}},
	"nft delete table inet proxyd":                                                {[]string{"no table"}, nil},
	"proxyd nft --pod --except-uid 8877 | nft -f -":                               {[]string{"meta skuid 8877 accept", "redirect to :8879"}, []string{"12345"}},
	"proxyd nft --cgroup system.slice/feed.service | nft -f -":                    {[]string{`socket cgroupv2 level 2 "system.slice/feed.service" jump`, "redirect to :8879"}, []string{"12345"}},
	"proxyd nft --uid feed --uid bot --except 10.0.0.0/8 | nft -f -":              {[]string{"skuid 12345 jump", "skuid 12346 jump", "ip daddr 10.0.0.0/8 accept"}, nil},
	"proxyd exec --isolate -- ./bot":                                              {[]string{"bot: ok", "1 connection through"}, nil},
	"proxyd exec --isolate --host-port 6379 --allow 10.0.0.0/8 -- python feed.py": {[]string{"redis: hello", "database: hello", "feed: ok", "1 connection through", "--host-port 6379: 1 connection", "--allow 10.0.0.0/8: 1 connection"}, nil},
}

// TestCommandsOfAnyProgram runs every command of docs/any-program.md as it stands there.
func TestCommandsOfAnyProgram(t *testing.T) {
	if os.Getenv("CLIENTS_DIR") != "" {
		t.Skip("run by interop/run.sh")
	}
	where := machineForAnyProgram(t)
	text := readFile(t, "docs/any-program.md")
	ran := map[string]bool{}
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		lines := strings.Split(strings.TrimSpace(block[1]), "\n")
		var printed []string
		if strings.HasPrefix(lines[0], "proxyd exec") {
			printed = execs(t, where, lines...)
		} else {
			printed = rulesOn(t, where, lines...)
		}
		for i, line := range lines {
			run(t, line, func(t *testing.T) {
				want, known := documentedCommands[line]
				if !known {
					t.Fatal("the test does not know what this command does")
				}
				ran[line] = true
				if !strings.Contains(printed[i], "-- exit code 0\n") {
					t.Error("it has failed")
				}
				for _, s := range want.has {
					if !strings.Contains(printed[i], s) {
						t.Errorf("no %q", s)
					}
				}
				for _, s := range want.lacks {
					if strings.Contains(printed[i], s) {
						t.Errorf("there is %q", s)
					}
				}
				if t.Failed() {
					t.Log(printed[i])
				}
			})
		}
	}
	for line := range documentedCommands {
		if !ran[line] {
			t.Errorf("docs/any-program.md does not have %s", line)
		}
	}
}

// execs runs lines where the upstreams are.
func execs(t *testing.T, where string, lines ...string) (printed []string) {
	t.Helper()
	for _, line := range lines {
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir = where
		cmd.Env = append(os.Environ(), "PATH="+where+":"+filepath.Dir(os.Getenv("INTEROP_PROXYD"))+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		printed = append(printed, fmt.Sprintf("%s\n-- exit code %d\n", out, cmd.ProcessState.ExitCode()))
	}
	return printed
}

// machineForAnyProgram returns a directory with what the document takes as given: a
// configuration, ./bot and feed.py, which know of no proxy, a Redis and a database.
func machineForAnyProgram(t *testing.T) string {
	t.Helper()
	x := testkit.NewExchange(t)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": x.TLS}})
	where := t.TempDir()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(python, filepath.Join(where, "python")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"proxyd.yaml": fmt.Sprintf("listen: [127.0.0.1:8877, {address: \"127.0.0.1:8879\", transparent: true}, {address: \"[::1]:8879\", transparent: true}]\ndefault: reject\nexchanges: {binance: %q}\n", up.URL()),
		"bot":         "#!/bin/sh\nprintf 'bot: '\nexec curl -sS --noproxy '*' --cacert " + x.CA.File + " https://api.binance.com/\n",
		"feed.py": `
import socket, ssl
for name, at in ("redis", ("127.0.0.1", 6379)), ("database", ("10.0.0.7", 5432)):
    print(name + ":", socket.create_connection(at, 20).makefile().readline().strip(), flush=True)
tls = ssl.create_default_context(cafile="` + x.CA.File + `")
s = tls.wrap_socket(socket.create_connection(("api.binance.com", 443), 20), server_hostname="api.binance.com")
s.sendall(b"GET / HTTP/1.1\r\nHost: api.binance.com\r\nConnection: close\r\n\r\n")
print("feed:", s.makefile().read().split("\n\n")[1])
`,
	} {
		if err := os.WriteFile(filepath.Join(where, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	system(t, "", "ip", "addr", "replace", "10.0.0.7/32", "dev", "lo")
	t.Cleanup(func() { system(t, "", "ip", "addr", "del", "10.0.0.7/32", "dev", "lo") })
	for _, at := range []string{"127.0.0.1:6379", "10.0.0.7:5432"} {
		greets(t, at)
	}
	return where
}

// greets serves an address: a line, and the end.
func greets(t *testing.T, at string) {
	t.Helper()
	var l net.Listener
	testkit.Eventually(t, testkit.Patience, at+" is free", func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", at)
		return err == nil
	})
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello\n")
			_ = c.Close()
		}
	}()
}

// TestDropInLoadsRules runs the command of deploy/systemd/redirect.conf as systemd would,
// with a configuration and with one that has errors: then the service must not start.
func TestDropInLoadsRules(t *testing.T) {
	if os.Getenv("CLIENTS_DIR") != "" {
		t.Skip("run by interop/run.sh")
	}
	m := regexp.MustCompile(`(?m)^ExecStartPre=\+/bin/sh -euc '(.*)'$`).FindStringSubmatch(readFile(t, "deploy/systemd/redirect.conf"))
	if m == nil {
		t.Fatal("it has no such line")
	}
	where := t.TempDir()
	command := strings.NewReplacer("$$", "$", "%%", "%", `\\`, `\`, "/usr/bin/proxyd", "proxyd", "/etc/proxyd/", "./").Replace(m[1])
	if err := os.WriteFile(filepath.Join(where, "line"), []byte(command), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "the drop-in loads rules, or fails", func(t *testing.T) {
		const line = `sh -eu ./line`
		printed := rulesOn(t, where, "echo 'default: nowhere' >proxyd.yaml; "+line, "echo 'default: direct' >proxyd.yaml; "+line, line,
			"echo 'default: nowhere' >proxyd.yaml; "+line)
		for i, want := range []string{"-- exit code 1\nno table", "-- exit code 0\ntable inet proxyd", "-- exit code 0\ntable inet proxyd", "-- exit code 1\ntable inet proxyd"} {
			if !strings.Contains(printed[i], want) || strings.Contains(want, "table inet") && strings.Count(printed[i], `socket cgroupv2 level 1 "feeds.slice" jump`) != 2 {
				t.Errorf("%d: no %q in\n%s", i, want, printed[i])
			}
		}
	})
}

package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"proxyd/internal/testkit"
)

// nftWorld is a script for a network namespace whose addresses all lead to itself. It
// applies the rules, twice, and connects as users. A listener on the redirect's port
// says so; one at another address stands for the world.
const nftWorld = `
import os, socket, subprocess, sys, threading
for line in ["ip link set lo up", "ip addr add 198.51.100.1/32 dev lo", "ip route add 203.0.113.0/24 dev lo src 198.51.100.1", "ip -6 addr add 2001:db8:1::1/128 dev lo nodad", "ip -6 route add 2001:db8:7::/48 dev lo"]:
    subprocess.run(line.split(), check=True)
rules = open(sys.argv[1]).read()
for _ in range(2):
    subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)
def serve(family, at, word):
    l = socket.create_server(at, family=family)
    def accept():
        while True:
            c, _ = l.accept(); c.sendall(word); c.close()
    threading.Thread(target=accept, daemon=True).start()
serve(socket.AF_INET, ("127.0.0.1", 8879), b"proxyd")
serve(socket.AF_INET6, ("::1", 8879), b"proxyd")
serve(socket.AF_INET, ("127.0.0.1", 80), b"local")
def tcp(host):
    s = socket.create_connection((host, 80), 5); s.settimeout(5); return s.recv(9).decode()
def udp(host, port=443):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.2); s.connect((host, port)); s.send(b"x")
    return s.recv(9)
def tried(what, *args):
    try: return what(*args)
    except TimeoutError: return "sent"
    except OSError as e: return type(e).__name__
for uid in 12345, 12346:
    r, w = os.pipe()
    if os.fork() == 0:
        os.setuid(uid)
        got = [tried(tcp, h) for h in ("203.0.113.7", "2001:db8:7::7", "127.0.0.1")] + [tried(udp, "203.0.113.7"), tried(udp, "203.0.113.53", 53)]
        os.write(w, " ".join(got).encode()); os._exit(0)
    os.close(w); print(uid, os.read(r, 999).decode()); os.wait()
subprocess.run("nft delete table inet proxyd".split(), check=True)
`

// Promise (security): The rules of proxyd nft redirect all TCP of the service, over IPv4 and IPv6, reject the rest of it, and leave others and loopback alone.
func TestNftRulesRedirectTheService(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		testkit.Lacks(t, "root, to be another user in a network namespace")
	}
	for _, name := range []string{"nft", "ip", "/usr/bin/python3"} {
		if _, err := exec.LookPath(name); err != nil {
			testkit.Lacks(t, name)
		}
	}
	const redirected = "proxyd proxyd local PermissionError PermissionError"
	for name, tt := range map[string]struct {
		args    []string
		service string
	}{
		"user":         {[]string{"--uid", "12345"}, "12345"},
		"pod":          {[]string{"--pod", "--except-uid", "12346"}, "12345"},
		"no name":      {[]string{"--uid", "12345", "--dns", "reject"}, "12345"},
		"another port": {[]string{"--uid", "12345", "--port", "8879"}, "12345"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, errOut, code := call(append([]string{"nft", "-c", file(t, "default: direct\n")}, tt.args...)...)
			if code != 0 {
				t.Fatal(errOut)
			}
			rules := t.TempDir() + "/rules"
			if err := os.WriteFile(rules, []byte(out), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", nftWorld, rules)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
			got, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s\n%s", err, got, out)
			}
			service, other, _ := strings.Cut(strings.TrimSpace(string(got)), "\n")
			if service != "12345 "+redirected {
				t.Errorf("the service: %s\n%s", service, out)
			}
			if strings.Contains(other, "proxyd") || !strings.Contains(other, "local") || strings.Contains(other, "PermissionError") {
				t.Errorf("the other user: %s\n%s", other, out)
			}
		})
	}
}

func TestNftUsageAndRemarks(t *testing.T) {
	t.Parallel()
	plain := file(t, "default: direct\n")
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{nil, 2, "say whose connections"},
		{[]string{"--uid", "a", "--pod"}, 2, "say whose connections"},
		{[]string{"--pod"}, 2, "--except-uid UID"},
		{[]string{"--uid", "feed", "--except-uid", "feed"}, 2, "leaves all of --uid out"},
		{[]string{"--uid", `x" accept`}, 2, "is not the name of a user"},
		{[]string{"--cgroup", "a\nb"}, 2, "is not the path of a cgroup"},
		{[]string{"--uid", "feed", "--except", "x"}, 2, "is not a CIDR"},
		{[]string{"--uid", "feed", "--dns", "x"}, 2, "must be one of"},
		{[]string{"--uid", "feed"}, 0, "has no transparent listener"},
		{[]string{"--uid", "feed"}, 0, `meta skuid "feed" jump to_proxyd`},
		{[]string{"--uid", "feed"}, 0, "redirect to :8879"},
		{[]string{"--uid", "feed", "--port", "99"}, 0, "redirect to :99"},
		{[]string{"--uid", "feed", "--except", "10.0.0.0/8", "--except", "fd00::/8"}, 0, "ip6 daddr { fd00::/8 } accept"},
		{[]string{"--cgroup", "/system.slice/feed.service"}, 0, `socket cgroupv2 level 2 "system.slice/feed.service" jump`},
		{[]string{"--pod", "--except-uid", "65532"}, 0, "Istio and Cilium"},
		{[]string{"--uid", "feed", "--dns", "reject"}, 0, "udp dport 53 counter reject"},
	} {
		out, errOut, code := call(append([]string{"nft", "-c", plain}, tt.args...)...)
		if code != tt.code || !strings.Contains(out+errOut, tt.says) {
			t.Errorf("%v: exit code %d: no %q in\n%s%s", tt.args, code, tt.says, out, errOut)
		}
	}
	with := file(t, "default: direct\nlisten: [127.0.0.1:8877, {address: \"127.0.0.1:9900\", transparent: true}]\n")
	if out, errOut, code := call("nft", "-c", with, "--uid", "feed"); code != 0 || !strings.Contains(out, "redirect to :9900") || !strings.Contains(out, "add [::1]:9900") {
		t.Errorf("the configuration's port: exit code %d\n%s%s", code, out, errOut)
	}
}

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/testkit"
)

// What testdata/nft_world.py prints of a program whose connections are redirected, and
// of one whose connections are not.
const (
	nftRedirected = "before=reset before=reset tcp4=proxyd tcp6=proxyd local=local own=local except=world udp4=rejected udp6=rejected dns=world dnstcp=world otherdns=rejected"
	nftDirect     = "before=world before=world tcp4=world tcp6=world local=local own=local except=world udp4=world udp6=world dns=world dnstcp=world otherdns=world"
)

// Promise (security): The rules of proxyd nft redirect all TCP of the service, over IPv4 and IPv6, reject the rest of it, and leave others and loopback alone.
// Promise (data path): Rules of proxyd nft that are applied again leave the tunnels that they have redirected.
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
	cgroup := func(name string) string { return fmt.Sprintf("proxydtest%d%s.slice", os.Getpid(), name) }
	withoutNames := strings.NewReplacer("dns=world", "dns=rejected", "dnstcp=world", "dnstcp=rejected").Replace(nftRedirected)
	for name, tt := range map[string]struct {
		args    []string
		cgroup  string
		service string
	}{
		"user":         {[]string{"--uid", "12345"}, "", nftRedirected},
		"two users":    {[]string{"--uid", "1", "--uid", "12345"}, "", nftRedirected},
		"pod":          {[]string{"--pod", "--except-uid", "12346"}, "", nftRedirected},
		"cgroup":       {[]string{"--cgroup", cgroup("") + "/feed.service"}, cgroup("") + "/feed.service", nftRedirected},
		"slice":        {[]string{"--cgroup", cgroup("slice")}, cgroup("slice") + `/feed@a\x2db.service`, nftRedirected},
		"other cgroup": {[]string{"--uid", "12345", "--except-cgroup", cgroup("other") + "/other.service"}, cgroup("other") + "/other.service", nftDirect},
		"no names":     {[]string{"--uid", "12345", "--dns", "reject"}, "", withoutNames},
		"another port": {[]string{"--uid", "12345", "--port", "8879"}, "", nftRedirected},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resolv := filepath.Join(t.TempDir(), "resolv.conf")
			if err := os.WriteFile(resolv, []byte("search example\nnameserver 203.0.113.53\nnameserver 127.0.0.53\noptions ndots:5\n"), 0o644); err != nil { //nolint:gosec // for other users
				t.Fatal(err)
			}
			if tt.cgroup != "" {
				tt.cgroup = "/sys/fs/cgroup/" + tt.cgroup
			}
			args := append([]string{"testdata/nft_world.py", os.Args[0], resolv, "12345", "12346", tt.cgroup}, tt.args...)
			args = append(args, "-c", file(t, "default: direct\n"), "--except", "203.0.113.99", "--except", "203.0.113.96/28")
			ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "/usr/bin/python3", args...) //nolint:gosec // this test's own binary
			cmd.Env = append(os.Environ(), asProxyd+"=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
			got, err := cmd.CombinedOutput()
			want := "12345 " + tt.service + "\n12346 " + nftDirect + "\n"
			if tt.service == nftDirect {
				want += "loaded again: world world world world\ntaken back: tcp4=world tcp4=world\n"
			} else {
				want += "loaded again: proxyd proxyd world world\ntaken back: tcp4=world tcp4=world\n"
			}
			if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
				t.Errorf("%v (-want +got)\n%s", err, diff)
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
		{[]string{"--uid", "feed", "--except", "0.0.0.0/0"}, 2, "would let everything out"},
		{[]string{"--cgroup", "/a.slice/", "--except-cgroup", "a.slice"}, 2, "leaves all of --cgroup out"},
		{[]string{"--uid", ""}, 2, "is not the name of a user"},
		{[]string{"--uid", "feed", "--dns", "x"}, 2, "must be one of"},
		{[]string{"--uid", "feed", "--dsn", "reject"}, 2, "unknown flag"},
		{[]string{"feed"}, 2, "takes no argument"},
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
		if (out == noRules) != (code != 0) { // nft must not take it for rules
			t.Errorf("%v: exit code %d: %s", tt.args, code, out)
		}
	}
	for listen, says := range map[string]string{
		`{address: "127.0.0.1:9900", transparent: true}`:                                                 "add [::1]:9900",
		`{address: "[::1]:9900", transparent: true}`:                                                     "add 127.0.0.1:9900",
		`{address: "[::]:9900", transparent: true, allow: [10.0.0.0/8]}`:                                 "redirect to :9900",
		`{address: "127.0.0.2:99", transparent: true}, {address: "127.0.0.1:9900", transparent: true}`:   "redirect to :9900",
		`{address: "127.0.0.1:9900", transparent: true}, {address: "127.0.0.1:9901", transparent: true}`: "redirect to :9900",
	} {
		with := file(t, "default: direct\nlisten: [127.0.0.1:8877, "+listen+"]\n")
		if out, errOut, code := call("nft", "-c", with, "--uid", "feed"); code != 0 || !strings.Contains(out, "redirect to :9900") || !strings.Contains(out, says) {
			t.Errorf("%s: exit code %d: no %q in\n%s%s", listen, code, says, out, errOut)
		}
	}
	away := file(t, "default: direct\nlisten: [127.0.0.1:8877, {address: \"127.0.0.2:9900\", transparent: true}]\n")
	if out, errOut, code := call("nft", "-c", away, "--uid", "feed"); code != 1 || out != noRules || !strings.Contains(errOut, "comes to loopback") {
		t.Errorf("a listener that no redirect leads to: exit code %d\n%s%s", code, out, errOut)
	}
	if out, errOut, code := call("nft", "-c", file(t, "default: nowhere\n"), "--uid", "feed"); code != 1 || out != noRules {
		t.Errorf("a file with errors: exit code %d\n%s%s", code, out, errOut)
	}
}

// A failure does not end as rules that are empty: nft would load them without an error.
func TestNftFailsWithProxydNft(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("nft"); err != nil || os.Getuid() != 0 {
		testkit.Lacks(t, "nft, and root")
	}
	cmd := exec.CommandContext(t.Context(), "nft", "-f", "-")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	cmd.Stdin = strings.NewReader(noRules)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "proxyd nft has failed") {
		t.Errorf("%v: %s", err, out)
	}
}

package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyd/internal/admin"
)

// --watch goes on, through a time without a daemon too, until it is ended.
func TestStatusWatch(t *testing.T) {
	_, path := running(t, "127.0.0.1:0", func(*admin.Options) {})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(os.Args[0], "status", "--watch", "--format", "json", "-c", path) //nolint:gosec // this test's own binary
	cmd.Env = append(os.Environ(), asProxyd+"=1")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(r)
	for i := range 2 {
		var s admin.Status
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &s) != nil || s.PID != 42 {
			t.Fatalf("line %d: %s", i, lines.Text())
		}
	}
}

func TestStatus(t *testing.T) {
	ill := func() admin.Status {
		s := well()
		s.Config.InForce, s.Config.Faults = false, []string{"proxyd.yaml:41:5: routs: unknown key; did you mean routes?"}
		s.Reasons = []string{"pool asia: one of 2 members is usable"}
		s.Older = []admin.Process{{Generation: 1, PID: 41, Tunnels: 9, Since: time.Now()}}
		return s
	}
	for name, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": "unix:" + filepath.Join(t.TempDir(), "a.sock")} {
		t.Run(name, func(t *testing.T) {
			bound, path := running(t, address, func(*admin.Options) {})
			for _, args := range [][]string{{"status", "-c", path}, {"status", "--admin", bound}, {"status", "-c", "/nonexistent/proxyd.yaml", "--admin", bound}} {
				out, errOut, code := call(args...)
				if code != 0 || !strings.HasPrefix(out, "ok\n") || strings.Contains(out, "\x1b") {
					t.Errorf("%v: exit code %d\n%s%s", args, code, out, errOut)
				}
				at := 0
				for _, want := range []string{"1.2.3, ready, up 1 h 30 min, generation 2, pid 42", "/etc/proxyd/proxyd.yaml", "127.0.0.1:8877, this machine only", "binance", "bad-1", "ejected (for 3 s, at least 12 s left)", "good-1", "okx http: ok (for 1 min "} {
					i := strings.Index(out[at:], want)
					if i < 0 {
						t.Fatalf("no %q after byte %d in\n%s", want, at, out)
					}
					at += i
				}
			}
			out, _, code := call("status", "-c", path, "--format", "json")
			var got admin.Status
			if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || got.PID != 42 || len(got.Upstreams) != 2 {
				t.Errorf("%v, exit code %d\n%s", err, code, out)
			}
		})
	}
	_, path := running(t, "127.0.0.1:0", func(o *admin.Options) { o.Status = ill })
	out, _, code := call("status", "-c", path)
	if code != 0 || !strings.HasPrefix(out, "FILE NOT IN FORCE: proxyd.yaml:41:5: routs: unknown key; did you mean routes?\nDEGRADED: pool asia") || !strings.Contains(out, "still serves 9 tunnels") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

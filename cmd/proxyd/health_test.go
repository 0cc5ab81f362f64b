package main

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"proxyd/internal/admin"
)

// The admin server is asked where there is one, and not the listener: nothing
// listens at that of the configuration.
func TestHealthAsksTheAdminServer(t *testing.T) {
	var state atomic.Value
	state.Store(admin.StateReady)
	bound, path := running(t, "127.0.0.1:0", func(o *admin.Options) {
		o.Status = func() admin.Status {
			s := well()
			s.State = state.Load().(admin.State)
			return s
		}
	})
	for _, c := range []struct {
		name  string
		state admin.State
		args  []string
		code  int
		says  string
	}{
		{"alive", admin.StateReady, []string{"-c", path}, 0, "ok\n"},
		{"ready", admin.StateReady, []string{"--ready", "-c", path}, 0, "ok\n"},
		{"draining, alive", admin.StateDraining, []string{"-c", path}, 0, "ok\n"},
		{"draining, not ready", admin.StateDraining, []string{"--ready", "-c", path}, 1, "DRAINING"},
		{"starting, not ready", admin.StateStarting, []string{"--ready", "-c", path}, 1, "STARTING"},
		{"by its address", admin.StateReady, []string{"--ready", "--admin", bound, "-c", "/nonexistent/proxyd.yaml"}, 0, "ok\n"},
		{"by a wrong address", admin.StateReady, []string{"--admin", freeAddress(t), "-c", path}, 1, "is proxyd running?"},
	} {
		state.Store(c.state)
		if out, errOut, code := call(append([]string{"health"}, c.args...)...); code != c.code || !strings.Contains(out+errOut, c.says) {
			t.Errorf("%s: exit code %d: %s%s", c.name, code, out, errOut)
		}
	}
}

// Two proxyds left the same admin address: what the one says does not make the
// other well.
func TestHealthOfAnotherProxyd(t *testing.T) {
	bound, _ := running(t, "127.0.0.1:0", func(*admin.Options) {})
	mine := freeAddress(t)
	path := file(t, "listen: "+mine+"\nadmin: "+bound+"\n")
	if _, errOut, code := call("health", "-c", path); code != 1 || !strings.Contains(errOut, "nothing answers at "+mine) {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

// An admin server that accepts and is silent is a daemon that hangs.
func TestHealthOfAnAdminServerThatHangs(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	path := file(t, "admin: "+ln.Addr().String()+"\n")
	if _, errOut, code := call("health", "-c", path, "--timeout-seconds", "0.2"); code != 1 || !strings.Contains(errOut, "no answer from a proxyd") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

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

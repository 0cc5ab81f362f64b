package main

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"proxyd/internal/admin"
	"proxyd/internal/testkit"
)

// The admin server is asked where there is one, and not the listener: nothing
// listens at that of the configuration.
func TestHealthByAdminServer(t *testing.T) {
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
func TestHealthOfHangingAdminServer(t *testing.T) {
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

// A daemon that does not answer is as unhealthy as one that is gone.
func TestHealthOfSilentListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	path := file(t, "listen: "+address+"\n")
	if _, errOut, code := call("health", "-c", path, "--timeout-seconds", "0.2"); code != 1 || !strings.Contains(errOut, "does not answer") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
	l.Close()
	closed := testkit.ClosedPort(t)
	if _, errOut, code := call("health", "-c", file(t, "listen: "+closed+"\n")); code != 1 || !strings.Contains(errOut, "nothing answers at "+closed) {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

// A file that was broken while the daemon ran must not have it killed.
func TestHealthWithBrokenFile(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte{5, 0})
			_ = c.Close()
		}
	}()
	t.Setenv("PROXYD_LISTEN", l.Addr().String())
	t.Setenv("PROXYD_ADMIN", testkit.ClosedPort(t)) // not the usual one, where another proxyd of this machine may answer
	// Its address can still be read in the one, and not in the other.
	closed := testkit.ClosedPort(t)
	broken := map[string]string{"default: [\n": "nothing answers at " + closed, "listen: [\n": "fix the YAML syntax"}
	for text := range broken {
		if out, errOut, code := call("health", "-c", file(t, text)); code != 0 || out != "ok\n" {
			t.Errorf("%q: exit code %d: %s%s", text, code, out, errOut)
		}
	}
	t.Setenv("PROXYD_LISTEN", closed)
	for text, says := range broken {
		if _, errOut, code := call("health", "-c", file(t, text)); code != 1 || !strings.Contains(errOut, says) {
			t.Errorf("%q: exit code %d: %s", text, code, errOut)
		}
	}
}

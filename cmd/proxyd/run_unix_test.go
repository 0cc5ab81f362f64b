//go:build unix

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestRunStopsOnSignal(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"run", "-c"}, {"-c"}, nil} {
		address := freeAddress(t)
		path := file(t, "listen: "+address+"\ndefault: direct\n")
		var environ []string
		if args == nil {
			environ = []string{"PROXYD_CONFIG=" + path}
		} else {
			args = append(args, path)
		}
		p := start(t, environ, args...)
		log := p.until(t, `"ready"`)
		for _, want := range []string{path, address, "this machine only", ` env -c ` + path + `)`} {
			if !strings.Contains(log, want) {
				t.Errorf("%v: the first lines lack %s:\n%s", args, want, log)
			}
		}
		if out, errOut, code := call("health", "-c", path); code != 0 || out != "ok\n" {
			t.Errorf("health: exit code %d: %s", code, errOut)
		}
		// What is written into the file later does not make it unhealthy.
		if err := os.WriteFile(path, []byte("listen: "+address+"\nlog: {level: loud}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, errOut, code := call("health", "--ready", "-c", path); code != 0 {
			t.Errorf("health with an invalid file: exit code %d: %s", code, errOut)
		}
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if log, code := p.exit(t); code != 0 || !strings.Contains(log, `"stopped"`) {
			t.Errorf("%v: exit code %d\n%s", args, code, log)
		}
		if _, _, code := call("health", "-c", path); code != 1 {
			t.Errorf("health of a daemon that is gone: exit code %d", code)
		}
	}
}

// The line that a daemon's log shows for other shells leads to it, wherever its
// file is, whatever port it has and whether or not proxyd is on PATH.
func TestNextLinePointsAtThisProcess(t *testing.T) {
	t.Parallel()
	odd := filepath.Join(t.TempDir(), "it's mine")
	if err := os.Mkdir(odd, 0o700); err != nil {
		t.Fatal(err)
	}
	fixed := freeAddress(t)
	for name, listen := range map[string]string{"fixed.yaml": fixed, "chosen port.yaml": "127.0.0.1:0"} {
		if err := os.WriteFile(filepath.Join(odd, name), []byte("listen: "+listen+"\nadmin: \"\"\ndefault: direct\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		p := startIn(t, odd, nil, "run", "-c", name)
		log := p.until(t, `"ready"`)
		at := regexp.MustCompile(`"listening","address":"([^"]+)"`).FindStringSubmatch(log)
		lines := strings.Split(strings.TrimSpace(log), "\n")
		var ready struct{ Next string }
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &ready); err != nil || at == nil {
			t.Fatalf("%v in\n%s", err, log)
		}
		cmd := exec.Command("sh", "-c", ready.Next+` && echo "$HTTPS_PROXY"`) //nolint:gosec // what is under test
		cmd.Env = []string{asProxyd + "=1", "PATH=" + os.Getenv("PATH")}
		cmd.Dir = "/"
		if got, err := cmd.Output(); err != nil || strings.TrimSpace(string(got)) != "http://"+at[1] {
			t.Errorf("%s: %s: got %s, %v, want %s", name, ready.Next, got, err, at[1])
		}
	}
}

// A daemon whose log has no reader any more continues, and stops as usual.
func TestRunOutlivesLogReader(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "-c", file(t, "listen: 127.0.0.1:0\ndefault: direct\nadmin: \"\"\n"))
	p.until(t, `"ready"`)
	if err := p.log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil { // of which it would write a line
		t.Fatal(err)
	}
	_ = p.Wait()
	if code := p.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d: %v", code, p.ProcessState)
	}
}

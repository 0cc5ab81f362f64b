//go:build unix

package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestRunLivesStopsAndSaysSo(t *testing.T) {
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
		for _, want := range []string{path, address, "this machine only", `eval \"$(proxyd env)\"`} {
			if !strings.Contains(log, want) {
				t.Errorf("%v: the first lines lack %s:\n%s", args, want, log)
			}
		}
		if out, errOut, code := call("health", "-c", path); code != 0 || out != "ok\n" {
			t.Errorf("health: exit code %d: %s", code, errOut)
		}
		// What somebody has since written into the file does not make it ill.
		if err := os.WriteFile(path, []byte("listen: "+address+"\nlog: {level: loud}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, errOut, code := call("health", "--ready", "-c", path); code != 0 {
			t.Errorf("health with a faulty file: exit code %d: %s", code, errOut)
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

// A daemon whose log nobody reads any more goes on, and ends as it should.
func TestRunOutlivesItsLog(t *testing.T) {
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

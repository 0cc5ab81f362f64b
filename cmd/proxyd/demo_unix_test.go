//go:build unix

package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// patience is the most that a step of the demo may take.
const patience = time.Minute

// demoProcess is a running demo, with what it has printed.
type demoProcess struct {
	*exec.Cmd
	environ []string
	text    testkit.Output
}

// startDemo runs proxyd demo until the test ends. Its files are below temp.
func startDemo(t *testing.T, temp string) *demoProcess {
	t.Helper()
	d := &demoProcess{Cmd: exec.Command(os.Args[0], "demo"), environ: []string{asProxyd + "=1", "TMPDIR=" + temp, "PATH=" + os.Getenv("PATH"), "HOME=" + temp}} //nolint:gosec // this test's own binary
	d.Env = d.environ
	d.Stderr = os.Stderr
	d.Stdout = &d.text
	d.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an upgrade would start another process
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(2*time.Minute, func() { _ = syscall.Kill(-d.Process.Pid, syscall.SIGKILL) })
	t.Cleanup(func() {
		stuck.Stop()
		_ = syscall.Kill(-d.Process.Pid, syscall.SIGKILL)
		_ = d.Wait()
	})
	return d
}

// try runs the line to try that has text in it, and returns what it prints.
func (d *demoProcess) try(t *testing.T, text string) string {
	t.Helper()
	line := regexp.MustCompile(`(?m)^    (.*` + regexp.QuoteMeta(text) + `.*)$`).FindStringSubmatch(d.text.String())
	if line == nil {
		t.Fatalf("no line to try has %q in it:\n%s", text, d.text.String())
	}
	sh := exec.Command("sh", "-c", line[1]) //nolint:gosec // the line that the demo printed
	sh.Env = d.environ
	out, err := sh.CombinedOutput()
	if err != nil && text != " route " { // a host that is refused gives exit code 1
		t.Fatalf("%s: %v\n%s", line[1], err, out)
	}
	return string(out)
}

// line1 waits until the first line of the status is as wanted.
func (d *demoProcess) line1(t *testing.T, what string, wanted func(line string) bool) {
	t.Helper()
	var last string
	defer func() {
		if t.Failed() {
			t.Logf("line 1 of the status: %s", last)
		}
	}()
	testkit.Eventually(t, patience, what, func() bool {
		last, _, _ = strings.Cut(d.try(t, " status "), "\n")
		return wanted(last)
	})
}

// The lines that the demo prints do what it says.
func TestDemoLinesShowFailoverLossAndSilence(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		testkit.Lacks(t, "curl")
	}
	t.Parallel()
	temp := t.TempDir()
	d := startDemo(t, temp)
	testkit.Eventually(t, patience, "the demo prints its lines", func() bool { return strings.Contains(d.text.String(), "Ctrl-C ends all of it") })
	has := func(words ...string) func(string) bool {
		return func(line string) bool {
			for _, w := range words {
				if !strings.Contains(line, w) {
					return false
				}
			}
			return true
		}
	}
	fine := func(line string) bool { return line == "ok" }
	d.line1(t, "at the start", fine)
	testkit.Eventually(t, patience, "the feeds go through tokyo-1", func() bool {
		return regexp.MustCompile(`ok +bitget +websocket tokyo-1 +2`).MatchString(d.try(t, " status "))
	})
	if out := d.try(t, " route "); !strings.Contains(out, "tokyo-1") || !strings.Contains(out, "tracker.example is refused") {
		t.Errorf("route: %s", out)
	}
	if out := d.try(t, " --cacert "); !strings.Contains(out, `{"exchange":"bitstamp","demo":true`) {
		t.Errorf("curl: %s", out)
	}
	d.try(t, "/upstreams/tokyo-1/down")
	d.line1(t, "tokyo-1 is down", has("DEGRADED: tokyo-1 ejected"))
	testkit.Eventually(t, patience, "the feeds go on through osaka-1", func() bool {
		return regexp.MustCompile(`ok +bitget +websocket osaka-1 +2`).MatchString(d.try(t, " status "))
	})
	d.try(t, "/upstreams/osaka-1/down")
	d.line1(t, "osaka-1 too", has("BAD: ", "bitget websocket", "deribit websocket"))
	d.try(t, "/upstreams/osaka-1/up")
	d.line1(t, "osaka-1 works again", func(line string) bool { return !strings.HasPrefix(line, "BAD: ") })
	d.try(t, "/upstreams/tokyo-1/up")
	d.line1(t, "tokyo-1 works again", fine)
	d.try(t, "/exchanges/bitget/freeze")
	d.line1(t, "bitget sends nothing", has("BAD: bitget websocket: silent since"))
	d.try(t, "/exchanges/bitget/thaw")
	d.line1(t, "bitget sends again", fine)
	for _, want := range []string{"  ok\n", "  DEGRADED: tokyo-1 ejected", "  BAD: bitget websocket: silent"} {
		if !strings.Contains(d.text.String(), want) {
			t.Errorf("the demo itself did not print %q:\n%s", want, d.text.String())
		}
	}
	d.end(t, temp)
}

// The next process would be another demo, with addresses of its own.
func TestDemoCannotBeUpgraded(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	d := startDemo(t, temp)
	testkit.Eventually(t, patience, "the demo is ready", func() bool { return strings.Contains(d.text.String(), "  ok\n") })
	address := regexp.MustCompile(`the page +http://([^/]+)/`).FindStringSubmatch(d.text.String())[1]
	upgrade := exec.Command(os.Args[0], "upgrade", "--admin", address) //nolint:gosec // this test's own binary
	upgrade.Env = d.environ
	out, err := upgrade.CombinedOutput()
	if upgrade.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "is part of proxyd demo") {
		t.Errorf("%v: %s", err, out)
	}
	if out := d.try(t, " status "); !strings.HasPrefix(out, "ok\n") {
		t.Errorf("after that: %s", out)
	}
	d.end(t, temp)
}

// end interrupts the demo: it ends with exit code 0, without its files.
func (d *demoProcess) end(t *testing.T, temp string) {
	t.Helper()
	if err := d.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	state, err := d.Process.Wait()
	if err != nil || state.ExitCode() != 0 {
		t.Errorf("it ends with %v, %v", state, err)
	}
	err = filepath.WalkDir(temp, func(path string, _ fs.DirEntry, err error) error {
		if path != temp {
			t.Errorf("it leaves %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

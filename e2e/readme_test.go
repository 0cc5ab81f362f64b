//go:build unix

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// skippedLines of README.md are run elsewhere, or not at all: by their beginning, with the reason.
var skippedLines = map[string]string{
	"make build":            "builds the binary that this test has built",
	"make run":              "the same as bin/proxyd run, which runs here",
	"bin/proxyd demo":       "runs until Ctrl-C; the tests of internal/demo run it",
	"curl https://":         "needs the internet",
	"bin/proxyd exec -- py": "needs Python; make clients runs it",
}

// The commands of README.md work, in the order in which they stand there.
func TestCommandsOfReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := readmeDirectory(t, text)
	skipped, ran := map[string]bool{}, 0
	shell := func(script string) *exec.Cmd {
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "ASIA_PASSWORD=x", "PROXYD_ADMIN=unix:" + filepath.Join(dir, "admin")}
		return cmd
	}
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		var script []string
		daemon := ""
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSpace(line)
			skip := false
			for begin := range skippedLines {
				if strings.HasPrefix(line, begin) {
					skip, skipped[begin] = true, true
				}
			}
			switch {
			case skip:
			case line == "bin/proxyd run":
				daemon = "exec " + line
			default:
				script = append(script, line)
				ran++
			}
		}
		if out, err := shell(strings.Join(script, "\n")).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s\n%s", err, block[1], out)
		}
		if daemon != "" {
			startReadmeDaemon(t, shell(daemon))
			ran++
		}
	}
	for begin := range skippedLines {
		if !skipped[begin] {
			t.Errorf("README.md has no line %q", begin)
		}
	}
	if ran < 10 {
		t.Errorf("only %d lines were run", ran)
	}
}

// readmeDirectory returns a directory that holds what the commands of README.md need.
func readmeDirectory(t *testing.T, text []byte) string {
	t.Helper()
	dir := t.TempDir()
	yaml := regexp.MustCompile("(?ms)^```yaml config\n(# proxyd.yaml\n.*?)^```$").FindSubmatch(text)
	if yaml == nil {
		t.Fatal("README.md has no configuration that begins with # proxyd.yaml")
	}
	for name, content := range map[string]string{"proxyd.yaml": string(yaml[1]), "proxies.txt": "203.0.113.7:3128:user:secret\n203.0.113.8:3128:user:secret\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary(t), filepath.Join(dir, "bin", "proxyd")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startReadmeDaemon waits until it serves; it ends with the test.
func startReadmeDaemon(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	log := newLog(t)
	cmd.Stderr = log
	cmd.Env = append(cmd.Env, "PROXYD_LISTEN=127.0.0.1:0") // a free one
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	testkit.Eventually(t, testkit.Patience, "the daemon is ready", func() bool { return strings.Contains(log.String(), "ready") })
}

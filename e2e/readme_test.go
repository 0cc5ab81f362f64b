//go:build unix

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The commands of README.md work, in the order in which they stand there. `make fresh`
// runs more of them, on a fresh machine.
func TestCommandsOfReadme(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary(t), filepath.Join(dir, "bin", "proxyd")); err != nil {
		t.Fatal(err)
	}
	environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "PROXYD_ADMIN=unix:" + filepath.Join(dir, "admin")}
	r := readme{
		file: "../README.md", dir: dir,
		skipped: map[string]string{
			"make build":            "builds the binary that this test has built",
			"make run":              "the same as bin/proxyd run, which runs here",
			"curl https://":         "needs the internet",
			"bin/proxyd exec -- py": "needs Python; make clients runs it",
		},
		first:  newTerminal(t, dir, append([]string{"PROXYD_LISTEN=127.0.0.1:0"}, environ...), nil), // a free port
		second: newTerminal(t, dir, environ, nil),
	}
	r.run(t)
}

// readme runs the commands of README.md in terminals, as it says.
type readme struct {
	file    string
	dir     string              // where a user would be
	user    *syscall.Credential // who owns the files; nil for the user of this process
	skipped map[string]string   // lines that are not run, by their beginning, with the reason
	first   *terminal           // what runs until Ctrl-C
	second  *terminal
	during  func(t *testing.T, line string)      // is called while a line runs until Ctrl-C; may be nil
	after   func(t *testing.T, line, out string) // is called after every other line; may be nil
	ran     int
}

// The lines that run until Ctrl-C, with what they print when they work.
var servingLines = map[string]string{"bin/proxyd run": "ready", "make run": "ready", "bin/proxyd demo": "  ok\n"}

func (r *readme) run(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "proxies.txt", "203.0.113.7:3128:user:secret\n203.0.113.8:3128:user:secret\n")
	skipped, saved, serving := map[string]bool{}, false, false
	for _, block := range regexp.MustCompile("(?ms)^```(sh|yaml config)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		if block[1] != "sh" {
			if strings.HasPrefix(block[2], "# proxyd.yaml\n") {
				r.write(t, "proxyd.yaml", block[2])
				saved = true
			}
			continue
		}
		var lines []string
		serves := false
		for line := range strings.Lines(block[2]) {
			line = strings.TrimSpace(line)
			if begin := r.skips(line); begin != "" {
				skipped[begin] = true
				continue
			}
			lines = append(lines, line)
			serves = serves || ready(line) != ""
		}
		in := r.second
		if serves {
			if in = r.first; serving {
				in.interrupt(t)
			}
			serving = true
		}
		for _, line := range lines {
			r.command(t, in, line)
		}
	}
	for begin := range r.skipped {
		if !skipped[begin] {
			t.Errorf("README.md has no line %q", begin)
		}
	}
	if r.ran < 11 || !saved {
		t.Errorf("only %d lines were run; a configuration that begins with # proxyd.yaml: %v", r.ran, saved)
	}
}

// command runs a line, to its end or until it serves.
func (r *readme) command(t *testing.T, in *terminal, line string) {
	t.Helper()
	const patience = 5 * time.Minute // it may build
	r.ran++
	if text := ready(line); text != "" {
		in.serve(t, line, text, patience)
		if r.during != nil {
			r.during(t, line)
		}
		return
	}
	out := in.run(t, line, patience)
	if r.after != nil {
		r.after(t, line, out)
	}
}

// skips returns the beginning by which a line is skipped, or "".
func (r *readme) skips(line string) string {
	for begin := range r.skipped {
		if strings.HasPrefix(line, begin) {
			return begin
		}
	}
	return ""
}

// ready returns what a line prints that runs until Ctrl-C, or "".
func ready(line string) string {
	command, _, _ := strings.Cut(line, "#")
	return servingLines[strings.TrimSpace(command)]
}

// write writes a file that README.md tells a user to save, or takes as given.
func (r *readme) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(r.dir, name)
	err := os.WriteFile(path, []byte(content), 0o600)
	if err == nil && r.user != nil {
		err = os.Chown(path, int(r.user.Uid), int(r.user.Gid))
	}
	if err != nil {
		t.Fatal(err)
	}
}

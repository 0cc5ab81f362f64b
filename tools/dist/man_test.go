package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

var all = flag.Bool("all", false, "a program that a test needs must be there; without it the test is skipped")

// needs skips the test if a program is not there.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if *all {
				t.Fatal(err)
			}
			t.Skipf("no %s here; tools/dist/check.sh installs it", p)
		}
	}
}

// pages returns the man pages of the release.
func pages(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(built(t), "build", "man", "*.[15]"))
	if err != nil || len(names) < 20 {
		t.Fatalf("%d pages, %v", len(names), err)
	}
	return names
}

func TestManPagesHaveNoWarnings(t *testing.T) {
	needs(t, "man", "mandoc")
	for _, page := range pages(t) {
		out, err := exec.Command("mandoc", "-T", "lint", "-W", "warning", page).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("mandoc %s: %v\n%s", filepath.Base(page), err, out)
		}
		cmd := exec.Command("man", "--warnings", "-E", "UTF-8", "-l", page)
		var errOut strings.Builder
		cmd.Stderr = &errOut
		if err := cmd.Run(); err != nil || errOut.Len() > 0 {
			t.Errorf("man %s: %v\n%s", filepath.Base(page), err, errOut.String())
		}
	}
}

// shownBy returns a page as man shows it, in one line.
func shownBy(t *testing.T, page string) string {
	t.Helper()
	cmd := exec.Command("man", "-E", "UTF-8", "--no-hyphenation", "--no-justification", "-l", page)
	cmd.Env = append(cmd.Environ(), "MANWIDTH=400")
	text, err := output(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return oneLine(string(text))
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// Every line of a command's help is on its page as man shows it.
func TestManPagesSayAllOfTheHelp(t *testing.T) {
	needs(t, "man")
	program := filepath.Join(built(t), "build", runtime.GOOS+"_"+runtime.GOARCH, "proxyd")
	for _, page := range pages(t) {
		words := strings.TrimSuffix(filepath.Base(page), ".1")
		if words == "proxyd.yaml.5" {
			continue
		}
		args := append([]string{"help"}, strings.Split(words, "-")[1:]...)
		help, err := output(exec.Command(program, args...))
		if err != nil {
			t.Fatal(err)
		}
		shown := shownBy(t, page)
		for line := range strings.SplitSeq(string(help), "\n") {
			if helpHead.MatchString(line+"\n") || strings.HasPrefix(line, `Use "`) {
				continue
			}
			if m := helpCommand.FindStringSubmatch(line); m != nil && strings.Contains(string(help), "Available Commands") {
				line = m[2]
			}
			if want := oneLine(strings.ReplaceAll(line, "`", "")); !strings.Contains(shown, want) {
				t.Errorf("%s: %q is not on the page", words, want)
			}
		}
	}
}

// Every key of the reference is in proxyd.yaml(5), with all that its row says.
func TestManPageOfTheFileHasAllKeys(t *testing.T) {
	needs(t, "man")
	shown := shownBy(t, filepath.Join(built(t), "build", "man", "proxyd.yaml.5"))
	manual, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, reference, _ := strings.Cut(string(manual), "## Key reference")
	keys := 0
	for line := range strings.SplitSeq(reference, "\n") {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		keys++
		cells := strings.Split(strings.ReplaceAll(markdownLink.ReplaceAllString(line, "$1"), "`", ""), "|")
		for i, c := range cells {
			cells[i] = strings.TrimSpace(c)
		}
		want := cells[1] + " " + cells[4] + " Value: " + cells[3] + "."
		if cells[2] != "" {
			want += " Default: " + cells[2] + "."
		}
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if keys < 90 {
		t.Errorf("%d keys", keys)
	}
}

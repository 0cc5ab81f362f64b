package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/config"
)

// update writes what comes out into the files below testdata. Read the
// difference before you keep it: it is what users read.
var update = flag.Bool("update", false, "write the wanted lines into testdata")

// Lines at the end of a file below testdata: a variable to set, and what is
// wanted of the file.
const (
	envLine  = "# env "
	wantLine = "# want"
)

// golden reads one file below testdata.
func golden(t *testing.T, path string) (text string, environ []string, want string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, want, _ = strings.Cut(string(raw), wantLine+"\n")
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, envLine); ok {
			v = strings.TrimSpace(v)
			if plain, err := strconv.Unquote(v); err == nil {
				v = plain
			}
			environ = append(environ, v)
		}
	}
	return text, environ, want
}

// compare holds got against the wanted lines of a file, as comments.
func compare(t *testing.T, path, text, got, want string) {
	t.Helper()
	got = "# " + strings.ReplaceAll(strings.TrimSuffix(got, "\n"), "\n", "\n# ") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(text+wantLine+"\n"+got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// Each file in testdata/invalid breaks one rule, which its name says, and ends
// in the wanted errors: every one, at its position, with a hint.
func TestInvalid(t *testing.T) {
	each(t, "testdata/invalid/*.yaml", 80, func(t *testing.T, path string) {
		text, environ, want := golden(t, path)
		file := withSecret(t, text)
		_, err := config.Load(file, environ)
		if err == nil {
			t.Fatal("it loads")
		}
		compare(t, path, text, strings.ReplaceAll(err.Error(), file, filepath.Base(path)), want)
	})
}

// Each file in testdata/valid uses one thing that the configuration can do,
// and ends in what is then in force, and the warnings.
func TestValid(t *testing.T) {
	each(t, "testdata/valid/*.yaml", 15, func(t *testing.T, path string) {
		text, environ, want := golden(t, path)
		file := withSecret(t, text)
		c, err := config.Load(file, environ)
		if err != nil {
			t.Fatal(err)
		}
		got := config.Print(c)
		if again := config.Print(load(t, got)); again != got {
			t.Errorf("what is printed means something else:\n%s", cmp.Diff(got, again))
		}
		for _, w := range c.Warnings {
			got += "warning: " + w.String() + "\n"
		}
		compare(t, path, text, withoutDefaults(strings.ReplaceAll(got, file, filepath.Base(path))), want)
	})
}

// withSecret writes a configuration, and beside it the secret that some of them name.
func withSecret(t *testing.T, text string) (path string) {
	t.Helper()
	secret, err := os.ReadFile("testdata/secret.txt")
	if err != nil {
		t.Fatal(err)
	}
	path = write(t, text)
	save(t, filepath.Join(filepath.Dir(path), "secret.txt"), string(secret))
	return path
}

// each runs a test for every file of a pattern, which are at least least.
func each(t *testing.T, pattern string, least int, test func(*testing.T, string)) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) < least {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) { test(t, path) })
	}
}

// withoutDefaults drops what every printed configuration begins and ends with.
func withoutDefaults(printed string) string {
	builtIn, err := config.Load("", nil)
	if err != nil {
		panic(err)
	}
	head, rest, _ := strings.Cut(config.Print(builtIn), "enabled: true\n")
	return strings.Replace(strings.Replace(printed, head, "", 1), rest, "", 1)
}

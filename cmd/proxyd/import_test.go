package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// importing runs proxyd import with a text as its standard input.
func importing(t *testing.T, text string, args ...string) (out, errOut string, code int) {
	t.Helper()
	var o, e strings.Builder
	root := rootCommand()
	root.SetIn(strings.NewReader(text))
	code = executeRoot(root, append([]string{"import"}, args...), &o, &e)
	return o.String(), e.String(), code
}

// shell returns what a shell prints.
func shell(script string) (string, error) {
	out, err := exec.Command("sh", "-c", script).Output() //nolint:gosec // what is under test
	return string(out), err
}

// What import prints passes check with the variables of its --env-file, and leads where
// the list leads.
func TestImportThenCheck(t *testing.T) {
	dir := t.TempDir()
	env := filepath.Join(dir, "proxyd.env")
	const list = "192.0.2.1:1080:acme:hunter2'xy\n192.0.2.2:1080:acme:hunter2\"$z\n"
	out, errOut, code := importing(t, list, "--scheme", "socks5", "--env-file", env, "-")
	if code != 0 || strings.Contains(out+errOut, "hunter2") || strings.Contains(out+errOut, "acme") {
		t.Fatalf("exit code %d\n%s%s", code, out, errOut)
	}
	if st, err := os.Stat(env); err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if runtime.GOOS != "windows" {
		for name, want := range map[string]string{"PROXY_USER": "acme", "PROXY_PASSWORD": "hunter2'xy", "PROXY_PASSWORD_2": "hunter2\"$z"} {
			got, err := shell("set -a; . " + env + "; printf %s \"$" + name + "\"")
			if err != nil || got != want {
				t.Errorf("%s is %q, want %q (%v)", name, got, want, err)
			}
			t.Setenv(name, got)
		}
		yaml := file(t, out)
		if said, _, code := call("check", "-c", yaml); code != 0 || !strings.Contains(said, "ok, 0 warnings") {
			t.Errorf("exit code %d\n%s", code, said)
		}
		if said, _, code := call("route", "-c", yaml, "api.binance.com"); code != 0 || !strings.Contains(said, "192.0.2.2:1080") {
			t.Errorf("exit code %d\n%s", code, said)
		}
	}
}

// A shell and systemd read the same from the file for credentials.
func TestEnvFileIsTheSameForShellAndSystemd(t *testing.T) {
	t.Parallel()
	const secret = "a'b\"c$d`e\\f ${HOME}'' #g"
	line := "SECRET=" + envQuote(secret)
	if strings.Contains(line, `'\''`) {
		t.Errorf("systemd reads two quotes in %s", line)
	}
	if got, err := shell(line + "\nprintf %s \"$SECRET\""); runtime.GOOS != "windows" && (err != nil || got != secret) {
		t.Errorf("a shell reads %q from %s (%v)", got, line, err)
	}
	const generator = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator" // it has systemd's own reader
	if _, err := os.Stat(generator); err != nil {
		testkit.Lacks(t, "systemd")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "environment.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	const plain = "a'b\"c`e\\f'' #g" // the generator expands variables, which EnvironmentFile= does not
	if err := os.WriteFile(filepath.Join(dir, "environment.d", "a.conf"), []byte("SECRET="+envQuote(plain)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(generator)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := shell(string(out) + "\nprintf %s \"$SECRET\""); err != nil || got != plain {
		t.Errorf("systemd reads %q (%v)", got, err)
	}
}

// The file for credentials is never overwritten; a second run with the same result
// leaves it as it is.
func TestImportNeverOverwritesEnvFile(t *testing.T) {
	t.Parallel()
	env := filepath.Join(t.TempDir(), "proxyd.env")
	run := func(list string) (string, string, int) { return importing(t, list, "--env-file", env, "-") }
	if _, errOut, code := run("192.0.2.1:80:u:hunter2\n"); code != 0 {
		t.Fatal(errOut)
	}
	before, err := os.ReadFile(env)
	if err != nil {
		t.Fatal(err)
	}
	if _, errOut, code := run("192.0.2.1:80:u:hunter2\n"); code != 0 {
		t.Errorf("the same again: exit code %d\n%s", code, errOut)
	}
	out, errOut, code := run("192.0.2.1:80:u:hunter3\n")
	if code != 1 || out != "" || !strings.Contains(errOut, "exists, and is not overwritten") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	if after, err := os.ReadFile(env); err != nil || string(after) != string(before) {
		t.Errorf("it was changed: %v", err)
	}
}

// What cannot be carried over is on standard error with its line and without its text,
// in the YAML as a comment, and makes the exit code 1 unless --partial is given.
func TestImportLosses(t *testing.T) {
	t.Parallel()
	const list = "192.0.2.1:80:u:hunter2\nu:hunter2@192.0.2.2:80\n"
	for _, c := range []struct {
		args []string
		code int
	}{{nil, 1}, {[]string{"--partial"}, 0}} {
		out, errOut, code := importing(t, list, append(c.args, "-")...)
		if code != c.code || !strings.Contains(errOut, "standard input:2: not carried over: ") || !strings.Contains(out, "      # not carried over: line 2: ") || strings.Contains(out+errOut, "hunter2") {
			t.Errorf("%v: exit code %d\n%s%s", c.args, code, out, errOut)
		}
		if !strings.Contains(errOut, "set these variables before you start proxyd, or run this again with --env-file FILE: PROXY_USER, PROXY_PASSWORD\n") {
			t.Errorf("the names are missing:\n%s", errOut)
		}
	}
}

func TestImportWrongCalls(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text, want string
		args             []string
		code             int
	}{
		{"no file", "", "import takes one FILE", nil, 2},
		{"two files", "", "import takes one FILE", []string{"a", "b"}, 2},
		{"a wrong kind", "", "--from clsh: must be one of auto, list, env, clash, squid, gost; did you mean clash?", []string{"--from", "clsh", "-"}, 2},
		{"a wrong scheme", "", "--scheme ftp: must be one of", []string{"--scheme", "ftp", "-"}, 2},
		{"a missing file", "", "no such file", []string{"/nonexistent/x.txt"}, 1},
		{"nothing to recognise", "hello world\n", "standard input: this looks like none of the files that can be converted", []string{"-"}, 1},
		{"nothing in it", "# nothing\n", "this looks like none", []string{"-"}, 1},
		{"no proxy", "PATH=/bin\n", "there is no proxy in standard input", []string{"--from", "env", "-"}, 1},
		{"no YAML", "proxies: [hunter2\n", "standard input: line 1: the file is no valid YAML", []string{"--from", "clash", "-"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, errOut, code := importing(t, c.text, c.args...)
			if code != c.code || !strings.Contains(errOut, c.want) || out != "" || strings.Contains(errOut, "hunter2") {
				t.Errorf("exit code %d\n%s%s", code, out, errOut)
			}
		})
	}
}

// A file of another program given to -c is named, with the command that converts it.
func TestForeignConfigurationNamesImport(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"clash.yaml": "looks like a Clash file, not like a configuration of proxyd; convert it: proxyd import --from clash ", "squid.conf": "--from squid ", "gost-v3.yaml": "--from gost ",
		"gost-v2.sh": "--from gost ", "dotenv.env": "--from env ", "webshare.txt": "--from list ", "proxies.csv": "--from list ", "mihomo.yaml": "--from clash ",
	} {
		out, _, code := call("check", "-c", filepath.Join("../../internal/convert/testdata", name))
		if code != 1 || !strings.Contains(out, want+filepath.Join("../../internal/convert/testdata", name)+" > proxyd.yaml") || strings.Contains(out, "hunter2") {
			t.Errorf("%s: exit code %d\n%s", name, code, out)
		}
	}
}

// Files of providers are read in the folder of the source and below it, and nowhere else.
func TestImportReadsProvidersInItsFolder(t *testing.T) {
	t.Parallel()
	const provider = "proxies:\n- {name: %s, type: socks5, server: %[1]s.example, port: 1080}\n"
	dir := t.TempDir()
	for name, text := range map[string]string{
		"in/clash.yaml": "proxy-providers:\n  below: {type: file, path: ./sub/below.yaml}\n  above: {type: file, path: ../above.yaml}\n  linked: {type: file, path: linked.yaml}\n" +
			"proxy-groups: [{name: g, type: fallback, use: [below, above, linked]}]\nrules: [\"MATCH,g\"]\n",
		"in/sub/below.yaml": fmt.Sprintf(provider, "below"), "above.yaml": fmt.Sprintf(provider, "above"),
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../above.yaml", filepath.Join(dir, "in/linked.yaml")); err != nil {
		testkit.Lacks(t, "a link: "+err.Error())
	}
	out, errOut, code := call("import", filepath.Join(dir, "in/clash.yaml"))
	if code != 1 || !strings.Contains(out, "socks5://below.example:1080") || strings.Contains(out, "above.example") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	for _, want := range []string{`provider "above": its file, which is not in the folder of the source`, `provider "linked": its file, which cannot be read`} {
		if !strings.Contains(errOut, want) {
			t.Errorf("%s is missing in\n%s", want, errOut)
		}
	}
}

// Promise (security): the two commands of a newcomer, proxyd import and proxyd check,
// work for files as people have them, and neither shows a credential.
func TestImportOfRealShapesPassesCheck(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the file of credentials is read by a shell")
	}
	files, err := filepath.Glob("../../internal/convert/testdata/*.*")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			env := filepath.Join(t.TempDir(), "proxyd.env")
			out, errOut, code := call("import", "--partial", "--env-file", env, path)
			if code != 0 || strings.Contains(out+errOut, "hunter2") || strings.Contains(out, "../") {
				t.Fatalf("exit code %d\n%s%s", code, out, errOut)
			}
			set, err := shell("env -i sh -c 'set -a; . " + env + "; env'")
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(set) {
				if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok && (strings.Contains(name, "_USER") || strings.Contains(name, "_PASSWORD")) {
					t.Setenv(name, value)
				}
			}
			if said, _, code := call("check", "-c", file(t, out)); code != 0 || strings.Contains(said, "hunter2") {
				t.Errorf("exit code %d\n%s%s", code, said, out)
			}
		})
	}
}

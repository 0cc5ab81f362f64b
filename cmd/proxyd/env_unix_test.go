//go:build unix

package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/testkit"
)

// The shell itself takes what env prints for it.
func TestEnvIsEvaluated(t *testing.T) {
	out, _, _ := call("env", "-c", file(t, "listen: {address: \"0.0.0.0:9999\", allow: [10.0.0.0/8]}\n"))
	script := out + `echo "$HTTPS_PROXY $https_proxy $HTTP_PROXY $http_proxy $WS_PROXY $wss_proxy $WSS_PROXY $ALL_PROXY $all_proxy"; echo "$NO_PROXY $no_proxy"`
	got, err := exec.Command("sh", "-c", script).Output() //nolint:gosec // what is under test
	const p, no = "http://127.0.0.1:9999", "localhost,127.0.0.1,::1,169.254.169.254,metadata.google.internal"
	if want := strings.TrimSuffix(strings.Repeat(p+" ", 9), " ") + "\n" + no + " " + no + "\n"; err != nil || string(got) != want {
		t.Errorf("%v: got %s, want %s", err, got, want)
	}
}

// A shell that evaluates env fails when env does, and points clients here when
// something else in the file is invalid: a feed never goes direct in silence.
func TestEnvOfFileWithErrorsIsEvaluated(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string // "" where the shell has to fail
	}{
		"a fault elsewhere":     {[]string{"-c", file(t, "listen: 127.0.0.1:9999\nexchanges: {binence: direct}\n")}, "http://127.0.0.1:9999"},
		"no YAML":               {[]string{"-c", file(t, "listen: 127.0.0.1:9999\ndefault: [\n")}, "http://127.0.0.1:9999"},
		"its address":           {[]string{"-c", file(t, "listen: nowhere\n")}, ""},
		"its port":              {[]string{"-c", file(t, "listen: 127.0.0.1:0\n")}, ""},
		"no such file":          {[]string{"-c", "/nonexistent/proxyd.yaml"}, ""},
		"no such flag":          {[]string{"--shel", "sh"}, ""},
		"an argument":           {[]string{"fish"}, ""},
		"no such shell":         {[]string{"--shell", "tcsh"}, ""},
		"a user without a name": {[]string{"--user", ":x"}, ""},
		"no such listener":      {[]string{"--listener", "127.0.0.1:1"}, ""},
	} {
		out, errOut, code := call(append([]string{"env"}, c.args...)...)
		if (code == 0) != (c.want != "") || errOut == "" {
			t.Errorf("%s: exit code %d: %s", name, code, errOut)
		}
		for shell, line := range map[string]string{"sh": `eval "$0" && echo "$HTTPS_PROXY"`, "bash": `eval "$0" && echo "$HTTPS_PROXY"`} {
			if _, err := exec.LookPath(shell); err != nil {
				continue
			}
			cmd := exec.Command(shell, "-c", line, out) //nolint:gosec // what is under test
			cmd.Env = []string{}
			if got, err := cmd.Output(); (err == nil) != (c.want != "") || strings.TrimSpace(string(got)) != c.want {
				t.Errorf("%s, %s: got %q, %v", name, shell, got, err)
			}
		}
	}
	invalid := file(t, "listen: nowhere\n")
	for shell, want := range map[string]string{"fish": "false\n", "powershell": "throw 'proxyd env failed'\n", "docker": "", "systemd": "[Service]\nExecStartPre=/bin/false\n"} {
		if out, _, code := call("env", "-c", invalid, "--shell", shell); out != want || code != 1 {
			t.Errorf("%s: exit code %d, %q", shell, code, out)
		}
	}
	if out, _, code := call("env", "-c", invalid, "--for", "curl"); out != "" || code != 1 {
		t.Errorf("a snippet: exit code %d, %q", code, out)
	}
}

// What env sets, env --unset takes away, in the shells that are on this machine.
func TestEnvUnset(t *testing.T) {
	for _, shell := range []string{"sh", "bash", "fish", "pwsh"} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil && shell == "pwsh" {
				t.Skip("no package of Debian has it")
			} else if err != nil {
				testkit.Lacks(t, shell)
			}
			set, _, _ := call("env", "--shell", shell)
			unset, _, code := call("env", "--shell", shell, "--unset")
			if code != 0 {
				t.Fatalf("exit code %d", code)
			}
			cmd := exec.Command(shell, "-c", set+unset+"\nenv") //nolint:gosec // what is under test
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
			out, err := cmd.Output()
			if err != nil || strings.Contains(strings.ToUpper(string(out)), "_PROXY") {
				t.Errorf("%v, %s", err, out)
			}
		})
	}
	if out, _, code := call("env", "--shell", "docker", "--unset"); code != 2 || out != "" {
		t.Errorf("docker: exit code %d, %q", code, out)
	}
}

// docs/clients.md tells readers to set what env prints.
func TestDocumentedClientVariables(t *testing.T) {
	block := regexp.MustCompile("(?ms)^```sh\n(P=.*?)^```$").FindStringSubmatch(documents(t)["clients.md"])
	if block == nil {
		t.Fatal("no block that begins with P=")
	}
	printed, _, _ := call("env", "-c", file(t, "log: {level: info}\n"))
	var got [2][]string
	for i, script := range []string{block[1], printed} {
		cmd := exec.Command("sh", "-c", script+"\nexport -p") //nolint:gosec // what is under test
		cmd.Env = []string{}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(strings.ToUpper(line), "_PROXY") {
				got[i] = append(got[i], line)
			}
		}
		slices.Sort(got[i])
	}
	if diff := cmp.Diff(got[1], got[0]); diff != "" || len(got[0]) != 13 {
		t.Errorf("%d variables (-env +document):\n%s", len(got[0]), diff)
	}
}

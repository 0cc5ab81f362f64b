package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// call runs one command in this process.
func call(args ...string) (out, errOut string, code int) {
	var o, e bytes.Buffer
	code = execute(args, &o, &e)
	return o.String(), e.String(), code
}

// file writes a configuration.
func file(t *testing.T, yaml string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxyd.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const byKind = `
pools:
  asia: {proxies: ["socks5://bob:${PW}@tokyo.example:1080", {url: "http://osaka.example:3128", tier: 2, weight: 3}, {url: "http://off.example:1", enabled: false}]}
exchanges: {binance: {http: direct, websocket: asia}, kraken: reject}
default: direct
`

func TestExitCodes(t *testing.T) {
	good, invalid, warned, empty := file(t, byKind), file(t, "exchanges: {binence: direct}\n"), file(t, "default: socks4://192.0.2.1:1080\n"), file(t, "")
	tests := []struct {
		name string
		args []string
		code int
		says string // somewhere in the output
	}{
		{"check", []string{"check", "-c", warned}, 0, "ok, 1 warning\n"},
		{"check of an invalid file", []string{"check", "-c", invalid}, 1, `:1:13: exchanges.binence: `},
		{"check of an empty file", []string{"check", "-c", empty}, 1, "empty"},
		{"check of no file", []string{"check", "-c", "/nonexistent/proxyd.yaml"}, 1, "/nonexistent/proxyd.yaml"},
		{"check without the secret", []string{"check", "-c", good}, 1, `"PW" is not set`},
		{"check --no-secrets", []string{"check", "-c", good, "--no-secrets"}, 0, "ok"},
		{"check --strict", []string{"check", "-c", warned, "--strict"}, 1, "socks4 has no names"},
		{"check with an argument", []string{"check", "-c", good, "x"}, 2, "Run 'proxyd"},
		{"check in no format", []string{"check", "--format", "xml"}, 2, "text, json"},
		{"route", []string{"route", "-c", good, "api.binance.com"}, 0, "pool      direct"},
		{"route of a rejected host", []string{"route", "-c", good, "api.binance.com", "api.kraken.com"}, 1, "refused"},
		{"route of no host", []string{"route", "-c", good}, 2, "requires at least 1 arg"},
		{"route of a broken host", []string{"route", "-c", good, "a b"}, 1, "refused"},
		{"route with a kind of no kind", []string{"route", "-c", good, "--kind", "ftp", "a.example"}, 2, "ftp"},
		{"route at a listener that is none", []string{"route", "-c", good, "--listener", "127.0.0.1:1", "a.example"}, 2, "127.0.0.1:8877"},
		{"route with an invalid file", []string{"route", "-c", invalid, "a.example"}, 1, "binance"},
		{"run of a file that is missing", []string{"run", "-c", "/nonexistent/proxyd.yaml"}, 1, "/nonexistent/proxyd.yaml"},
		{"run of an invalid file", []string{"run", "-c", invalid}, 1, ":1:13: exchanges.binence: "},
		{"run of an empty file", []string{"run", "-c", empty}, 1, "empty"},
		{"run with an argument", []string{"run", "x"}, 2, "Run 'proxyd"},
		{"an unknown command", []string{"rnu"}, 2, "Run 'proxyd"},
		{"a command with a slip", []string{"statsu"}, 2, "did you mean status?"},
		{"a file in place of a flag", []string{"check", "feeds.yaml"}, 2, "did you mean proxyd check -c feeds.yaml?"},
		{"a file among exchanges", []string{"probe", "binance", "feeds.yml"}, 2, "did you mean proxyd probe -c feeds.yml?"},
		{"a file in place of a command", []string{good}, 2, "did you mean proxyd run -c " + good + "?"},
		{"a flag with a slip", []string{"check", "--strcit"}, 2, "did you mean --strict?"},
		{"a flag of env with a slip", []string{"env", "--shel", "sh"}, 2, "did you mean --shell?"},
		{"a format with a slip", []string{"version", "--format", "jsno"}, 2, "did you mean json?"},
		{"a client with a slip", []string{"env", "--for", "ccxtjs"}, 2, "did you mean ccxt-js?"},
		{"an unknown flag", []string{"check", "--verbose"}, 2, "--verbose"},
		{"exchanges", []string{"exchanges"}, 0, "binance_futures"},
		{"exchanges by alias", []string{"exchanges", "BINANCE"}, 0, "api.binance.com"},
		{"exchanges unknown", []string{"exchanges", "binanse"}, 1, "binance"},
		{"env for an unknown client", []string{"env", "-c", good, "--for", "netscape"}, 2, "ccxt"},
		{"env for no shell", []string{"env", "-c", good, "--shell", "tcsh"}, 2, "powershell"},
		{"exec of no command", []string{"exec", "-c", good}, 2, "proxyd exec -- CMD"},
		{"exec by no daemon", []string{"exec", "--daemon", "mine", "--", "true"}, 2, "auto, required, own"},
		{"exec of what is no command", []string{"exec", "--", "no-such-command-8"}, 127, "no-such-command-8: no such command"},
		{"exec of what may not be executed", []string{"exec", "--", good}, 126, "may not be executed"},
		{"exec with an invalid file", []string{"exec", "-c", invalid, "--", os.Args[0]}, 1, ":1:13: exchanges.binence: "},
		{"exec without the secret", []string{"exec", "-c", good, "--daemon", "own", "--", os.Args[0]}, 1, `"PW" is not set`},
		{"exec without the daemon that it needs", []string{"exec", "-c", file(t, "admin: 127.0.0.1:1\n"), "--daemon", "required", "--", os.Args[0]}, 1, "no daemon is running at the admin address 127.0.0.1:1"},
		{"completion", []string{"completion", "bash"}, 0, "proxyd"},
		{"help", []string{"--help"}, 0, "Examples:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, errOut, code := call(tt.args...)
			if code != tt.code || !strings.Contains(out+errOut, tt.says) {
				t.Errorf("exit code %d, want %d and %q in\n%s%s", code, tt.code, tt.says, out, errOut)
			}
		})
	}
}

// Every command helps with an example.
func TestHelpHasExamples(t *testing.T) {
	for _, cmd := range rootCommand().Commands() {
		if name := cmd.Name(); name != "completion" && name != "help" {
			out, _, code := call(name, "--help")
			if code != 0 || !strings.Contains(out, "Examples:") || cmd.Short == "" {
				t.Errorf("%s: exit code %d\n%s", name, code, out)
			}
		}
	}
}

// A flag that an unset variable leaves empty is no flag that was left out: the
// daemon would run with the built-in configuration, in which all goes direct.
func TestEmptyFlagIsAMistake(t *testing.T) {
	path := file(t, "listen: 127.0.0.1:1\n")
	for _, args := range []string{
		"run -c", "-c", "check -c", "route x.example -c", "env -c", "exchanges -c", "probe -c", "health -c", "status -c", "reload -c",
		"status -c " + path + " --admin", "health -c " + path + " --admin", "drain u -c " + path + " --admin",
		"env -c " + path + " --listener", "route x.example -c " + path + " --listener",
	} {
		out, errOut, code := call(append(strings.Fields(args), "")...)
		want := ""
		if strings.HasPrefix(args, "env") {
			want = "false\n"
		}
		if code != 2 || out != want || !strings.Contains(errOut, " is empty; ") {
			t.Errorf("%s '': exit code %d, %q, %q", args, code, out, errOut)
		}
	}
}

// What proxyd would refuse because it is proxyd itself is said without a daemon,
// too.
func TestRouteToProxydItselfIsRefused(t *testing.T) {
	path := file(t, "listen: [127.0.0.1:18877, {address: ':18876', allow: [10.0.0.0/8]}]\nadmin: localhost:18878\ndefault: http://p.example:3128\nallow_private: [127.0.0.0/8, \"::1/128\"]\n")
	for host, refused := range map[string]bool{
		"127.0.0.1:18877": true, "localhost:18878": true, "[::ffff:127.0.0.1]:18878": true, "0.0.0.0:18877": true, "127.0.0.9:18876": true, "[::1]:18876": true,
		"127.0.0.1:18879": false, "127.0.0.2:18877": false, "x.example:18877": false,
	} {
		out, errOut, code := call("route", "-c", path, host)
		if (code == 1) != refused || strings.Contains(out, "is proxyd itself") != refused {
			t.Errorf("%s: exit code %d\n%s%s", host, code, out, errOut)
		}
	}
}

func TestRouteOfWhatIsNoHost(t *testing.T) {
	path := file(t, "default: direct\n")
	for arg, want := range map[string]string{
		"bob:hunter2@a.example:443":    "***@a.example:443\n  refused   host \"bob:***\" has user information",
		"http://bob:hunter2@a.example": "***@a.example\n  refused   host \"http:***\" has a slash",
		"a.example:99999":              "a.example:99999\n  refused   port \"99999\" is not between",
		"a.example:https":              "a.example:https\n  refused   port \"https\" is not a number",
		"2001:db8::x":                  "2001:db8::x\n  refused   host",
	} {
		out, _, code := call("route", "-c", path, arg)
		if code != 1 || !strings.HasPrefix(out, want) || strings.Contains(out, "hunter2") {
			t.Errorf("%s: exit code %d\n%s\nwant %s", arg, code, out, want)
		}
	}
	if out, _, code := call("route", "-c", path, "Binance"); code != 0 || !strings.Contains(out, "proxyd exchanges binance") {
		t.Errorf("an exchange's id: exit code %d\n%s", code, out)
	}
	if _, errOut, code := call("status", "-c", path, "--admin", "http://bob:hunter2@127.0.0.1:1"); code != 2 || strings.Contains(errOut, "hunter2") {
		t.Errorf("--admin: exit code %d\n%s", code, errOut)
	}
}

func TestUsageErrorsOfEveryCommand(t *testing.T) {
	for _, cmd := range rootCommand().Commands() {
		name := cmd.Name()
		if _, errOut, code := call(name, "--no-such-flag"); code != 2 || !strings.Contains(errOut, "Run 'proxyd") {
			t.Errorf("%s --no-such-flag: exit code %d: %s", name, code, errOut)
		}
		if name != "route" && name != "drain" && name != "resume" && name != "exec" {
			if _, errOut, code := call(name, "one", "two"); code != 2 || !strings.Contains(errOut, "Run 'proxyd") {
				t.Errorf("%s one two: exit code %d: %s", name, code, errOut)
			}
		}
	}
}

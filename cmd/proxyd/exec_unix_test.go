//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The command has the variables of proxyd env and the shims on top of what was
// there, and none of cryptofeed's proxies.
func TestExecEnvironment(t *testing.T) {
	t.Parallel()
	path := file(t, "default: direct\nexchanges: {bitfinex: {http: direct, websocket: \"http://p.example:1\"}}\n")
	const script = `echo "$https_proxy|$WSS_PROXY|$NO_PROXY|$NODE_USE_ENV_PROXY|$PYTHONPATH|$JAVA_TOOL_OPTIONS|${CRYPTOFEED_PROXY_REST-none}"; echo "$NODE_OPTIONS"; cd / && ls "${PYTHONPATH%%:*}/sitecustomize.py"`
	tmp := t.TempDir()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(wd, tmp)
	if err != nil {
		t.Fatal(err)
	}
	out, errOut, code := runExec(t, []string{"TMPDIR=" + relative, "https_proxy=http://192.0.2.1:1", "CRYPTOFEED_PROXY_REST=http://192.0.2.2:1", "PYTHONPATH=/there/before", "NODE_OPTIONS=--max-old-space-size=99", "JAVA_TOOL_OPTIONS=-Xmx1g"},
		"-c", path, "sh", "-c", script)
	line, dir, _ := strings.Cut(out, "\n")
	node, dir, _ := strings.Cut(dir, "\n")
	v := strings.Split(line, "|")
	if code != 0 || len(v) < 7 {
		t.Fatalf("exit code %d: %s%s", code, out, errOut)
	}
	shim, before, _ := strings.Cut(v[4], ":")
	if !strings.HasPrefix(v[0], "http://exec-") || !strings.Contains(v[0], ":x@127.0.0.1:") || !strings.Contains(v[1], "+websocket:x@127.0.0.1:") ||
		!strings.Contains(v[2], "169.254.169.254") || v[3] != "1" || before != "/there/before" || v[len(v)-1] != "none" {
		t.Errorf("%q", v)
	}
	if java := strings.Join(v[5:len(v)-1], "|"); !strings.HasPrefix(java, "-Xmx1g -Dhttp.proxyHost=127.0.0.1 ") || !strings.Contains(java, "-Dhttp.nonProxyHosts=localhost|127.0.0.1|[::1]|") {
		t.Errorf("JAVA_TOOL_OPTIONS: %s", java)
	}
	if node != `--require "`+shim+`/proxyd-exec.cjs" --max-old-space-size=99` {
		t.Errorf("NODE_OPTIONS: %s", node)
	}
	if filepath.Dir(shim) != tmp || dir != shim+"/sitecustomize.py\n" {
		t.Errorf("TMPDIR=%s: %q", relative, dir)
	}
	if _, err := os.Stat(filepath.Join(shim, "sitecustomize.py")); err != nil {
		t.Errorf("a Python that the command has left behind would connect directly: %v", err)
	}
	if strings.Count(errOut, "CRYPTOFEED_PROXY_REST") != 1 || strings.Contains(errOut, "192.0.2.2") || !strings.Contains(errOut, shim) {
		t.Errorf("%s", errOut)
	}
	out, errOut, _ = runExec(t, []string{"PYTHONPATH=/there/before", "NODE_OPTIONS=", "JAVA_TOOL_OPTIONS="}, "-c", path, "--no-shim", "--", "sh", "-c", `echo "$PYTHONPATH|$NODE_OPTIONS|$JAVA_TOOL_OPTIONS"`)
	if out != "/there/before||\n" || strings.Contains(errOut, "sitecustomize") {
		t.Errorf("--no-shim: %s%s", out, errOut)
	}
}

// Promise (security): without a configuration, proxyd exec does not take away the proxy that the environment names.
func TestExecWithoutConfiguration(t *testing.T) {
	t.Parallel()
	dir, none := t.TempDir(), []string{"HTTPS_PROXY=", "https_proxy=", "HTTP_PROXY=", "http_proxy=", "ALL_PROXY=", "all_proxy=", "WSS_PROXY=", "wss_proxy=", "WS_PROXY=", "ws_proxy="}
	run := func(environ ...string) (string, string, int) {
		cmd := exec.Command(os.Args[0], "exec", "--", "echo", "ran") //nolint:gosec // this test's own binary
		cmd.Dir, cmd.Env = dir, append(append(append(os.Environ(), asProxyd+"=1", "TMPDIR="+dir), none...), environ...)
		var out, errOut strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errOut
		_ = cmd.Run() // the exit code is below
		return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
	}
	for _, set := range []string{"HTTPS_PROXY=http://u:geheim-8@p.example:3128", "all_proxy=socks5h://p.example:1080", "https_proxy=http://127.0.0.1:8877"} {
		name, _, _ := strings.Cut(set, "=")
		out, errOut, code := run(set)
		if code != 1 || out != "" || !strings.Contains(errOut, name+" is set, and there is no configuration: CMD would connect directly") || !strings.Contains(errOut, "proxyd import --from env") || strings.Contains(errOut, "geheim-8") {
			t.Errorf("%s: exit code %d: %s%s", name, code, out, errOut)
		}
	}
	if out, errOut, code := run("HTTPS_PROXY=http://p.example:3128", "PROXYD_DEFAULT=http://p.example:3128"); code != 0 || out != "ran\n" || strings.Contains(errOut, "goes direct") {
		t.Errorf("with PROXYD_DEFAULT: exit code %d: %s%s", code, out, errOut)
	}
	if out, errOut, code := run(); code != 0 || out != "ran\n" || !strings.Contains(errOut, "the built-in defaults, by which everything goes direct") {
		t.Errorf("without a proxy: exit code %d: %s%s", code, out, errOut)
	}
}

// Promise (security): under proxyd exec no options of the JVM in the environment lead past proxyd.
func TestExecOverridesProxiesOfJava(t *testing.T) {
	t.Parallel()
	path := file(t, "default: direct\n")
	out, errOut, code := runExec(t, []string{"JDK_JAVA_OPTIONS=-Dhttps.proxyHost=192.0.2.1", "_JAVA_OPTIONS=-Dhttp.nonProxyHosts=*"}, "-c", path, "--", "env")
	for _, want := range []string{"JAVA_TOOL_OPTIONS=-Dhttp.proxyHost=127.0.0.1 ", "JDK_JAVA_OPTIONS=-Dhttps.proxyHost=192.0.2.1 -Dhttp.proxyHost=127.0.0.1 ", "_JAVA_OPTIONS=-Dhttp.nonProxyHosts=* -Dhttp.proxyHost=127.0.0.1 "} {
		if !strings.Contains("\n"+out, "\n"+want) {
			t.Errorf("exit code %d, without %s: %s%s", code, want, out, errOut)
		}
	}
	out, _, _ = runExec(t, []string{"JDK_JAVA_OPTIONS=-Xmx1g"}, "-c", path, "--", "env")
	if !strings.Contains(out, "\nJDK_JAVA_OPTIONS=-Xmx1g\n") {
		t.Errorf("options without a proxy are changed: %s", out)
	}
}

// Signals reach the command, and its exit code is passed on.
func TestExecPassesOnSignalsAndExitCodes(t *testing.T) {
	t.Parallel()
	path := file(t, "default: direct\n")
	for _, tt := range []struct {
		name, script string
		signal       syscall.Signal
		code         int
	}{
		{"exit code", "exit 7", 0, 7},
		{"killed", "kill -KILL $$", 0, 128 + 9},
		{"USR1 handled", `trap "exit 9" USR1; echo up >&2; while :; do sleep 0.02; done`, syscall.SIGUSR1, 9},
		{"HUP handled", `trap "exit 10" HUP; echo up >&2; while :; do sleep 0.02; done`, syscall.SIGHUP, 10},
		{"TERM", `echo up >&2; exec sleep 60`, syscall.SIGTERM, 128 + 15},
		{"INT without a terminal", `echo up >&2; exec sleep 60`, syscall.SIGINT, 128 + 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, nil, "exec", "-c", path, "--daemon", "own", "--", "sh", "-c", tt.script)
			if tt.signal != 0 {
				p.until(t, "up")
				if err := p.Process.Signal(tt.signal); err != nil {
					t.Fatal(err)
				}
			}
			if errOut, code := p.exit(t); code != tt.code {
				t.Errorf("exit code %d, want %d\n%s", code, tt.code, errOut)
			}
		})
	}
}

// What was ignored before stays ignored for the command, as nohup wants it.
func TestExecKeepsIgnoredSignals(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", `trap "" HUP; exec "$0" exec -c "$1" --quiet -- sh -c 'kill -HUP $PPID; kill -HUP $$; echo alive'`, os.Args[0], file(t, "default: direct\n")) //nolint:gosec // this test's own binary
	cmd.Env = append(os.Environ(), asProxyd+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "alive\n" {
		t.Errorf("%v: %s", err, out)
	}
}

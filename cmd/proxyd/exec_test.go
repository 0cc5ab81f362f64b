package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// runExec runs proxyd exec as a process of its own.
func runExec(t *testing.T, environ []string, args ...string) (out, errOut string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], append([]string{"exec"}, args...)...) //nolint:gosec // this test's own binary
	cmd.Env = append(append(os.Environ(), asProxyd+"=1"), environ...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// execWorld is an upstream that carries all but one name, which is refused.
func execWorld(t *testing.T) (upstream *testkit.Proxy, yaml string) {
	t.Helper()
	x := testkit.NewExchange(t)
	upstream = testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": x.HTTP}})
	yaml = fmt.Sprintf("watch: false\npools: {asia: {proxies: [{name: tokyo-1, url: %q}]}}\ndefault: asia\nroutes: [{hosts: [closed.example], use: reject}]\n", upstream.URL())
	return upstream, yaml
}

// idle makes the command a client of nothing.
var idle = []string{asClient + "= "}[:1:1]

const execTargets = "http://a.example/ http://b.example/ http://closed.example/"

// Promise (security): an instance of proxyd exec needs no daemon: the command's connections go through the upstreams of its file, and the last lines say so.
func TestExecThroughItsOwnInstance(t *testing.T) {
	t.Parallel()
	upstream, yaml := execWorld(t)
	path := file(t, yaml+"admin: "+freeAddress(t)+"\nlisten: "+freeAddress(t)+"\n")
	_, errOut, code := runExec(t, []string{asClient + "=" + execTargets}, "-c", path, "--", os.Args[0])
	lines := strings.Split(strings.TrimSpace(errOut), "\n")
	first, last := lines[0], lines[len(lines)-1]
	if code != 0 || !strings.Contains(first, "an instance of its own at 127.0.0.1:") || !strings.Contains(first, "no daemon is running") || !strings.Contains(first, "shares no budgets and health checks") {
		t.Errorf("exit code %d: %s", code, first)
	}
	if !regexp.MustCompile(`^proxyd: exec: 2 connections through tokyo-1 \(\d+ B up, \d+ B down\), 1 refused$`).MatchString(last) {
		t.Errorf("the last line: %s", last)
	}
	if !regexp.MustCompile(`(?m)^proxyd: exec: refused, 1 time: .*closed\.example.*; .+$`).MatchString(errOut) {
		t.Errorf("no refusal with a hint in\n%s", errOut)
	}
	if n := len(upstream.Asked()); n != 2 {
		t.Errorf("the upstream was asked %d times", n)
	}
	if _, errOut, code := runExec(t, []string{asClient + "=" + execTargets}, "-c", path, "--quiet", "--", os.Args[0]); code != 0 || errOut != "" {
		t.Errorf("--quiet: exit code %d: %s", code, errOut)
	}
}

// The running daemon carries the command if it has the same file and content, and
// takes clients without a password; its status tells the command's traffic apart.
func TestExecThroughRunningDaemon(t *testing.T) {
	t.Parallel()
	_, yaml := execWorld(t)
	yaml += "admin: " + freeAddress(t) + "\n"
	path := file(t, yaml+"listen: 127.0.0.1:0\n")
	link := filepath.Join(t.TempDir(), "other.yaml")
	if err := os.Symlink(path, link); err != nil {
		testkit.Lacks(t, "a link: "+err.Error())
	}
	p := start(t, nil, "run", "-c", path)
	p.stuck.Reset(2 * time.Minute) // six commands take their time on a busy machine
	address := regexp.MustCompile(`"listening","address":"([^"]+)"`).FindStringSubmatch(p.until(t, `"ready"`))[1]
	for range 2 {
		_, errOut, code := runExec(t, []string{asClient + "=" + execTargets}, "-c", link, "--", os.Args[0])
		if code != 0 || !regexp.MustCompile(`^proxyd: exec: the running daemon at `+regexp.QuoteMeta(address)+` \(process \d+, .*\), as user exec-\d+\n`).MatchString(errOut) ||
			!regexp.MustCompile(`\nproxyd: exec: 2 connections through tokyo-1 \(.*\), 1 refused\n$`).MatchString(errOut) {
			t.Errorf("exit code %d:\n%s", code, errOut)
		}
	}
	if _, errOut, _ := runExec(t, idle, "-c", link, "--daemon", "own", "--", os.Args[0]); !strings.Contains(errOut, "an instance of its own at") || !strings.Contains(errOut, "(as asked)") {
		t.Errorf("--daemon own:\n%s", errOut)
	}
	if _, errOut, code := runExec(t, append(idle, "PROXYD_DEFAULT=reject"), "-c", link, "--daemon", "required", "--", os.Args[0]); code != 1 || !strings.Contains(errOut, "sets PROXYD_ variables that the running daemon does not have") {
		t.Errorf("required, with other variables: exit code %d:\n%s", code, errOut)
	}
	if err := os.WriteFile(path, []byte(yaml+"listen: 127.0.0.1:0 # changed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const why = "the running daemon has another content of"
	if _, errOut, code := runExec(t, []string{asClient + "=" + execTargets}, "-c", link, "--", os.Args[0]); code != 0 || !strings.Contains(errOut, "an instance of its own") || !strings.Contains(errOut, why) {
		t.Errorf("another content: exit code %d:\n%s", code, errOut)
	}
	if _, errOut, code := runExec(t, idle, "-c", link, "--daemon", "required", "--", os.Args[0]); code != 1 || !strings.Contains(errOut, why) {
		t.Errorf("required, another content: exit code %d:\n%s", code, errOut)
	}
	other := file(t, yaml+"listen: 127.0.0.1:0\n")
	if _, errOut, code := runExec(t, idle, "-c", other, "--daemon", "required", "--", os.Args[0]); code != 1 || !strings.Contains(errOut, "has another file, "+path) {
		t.Errorf("another file: exit code %d:\n%s", code, errOut)
	}
}

// A list that was saved and is not in force is another content.
func TestExecComparesLists(t *testing.T) {
	t.Parallel()
	upstream, _ := execWorld(t)
	path := file(t, "watch: false\npools: {asia: {list: asia.txt}}\ndefault: asia\nlisten: 127.0.0.1:0\nadmin: "+freeAddress(t)+"\n")
	list := filepath.Join(filepath.Dir(path), "asia.txt")
	if err := os.WriteFile(list, []byte(upstream.URL()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, nil, "run", "-c", path).until(t, `"ready"`)
	if _, errOut, code := runExec(t, []string{asClient + "=http://a.example/"}, "-c", path, "--", os.Args[0]); code != 0 || !strings.Contains(errOut, "the running daemon at") {
		t.Errorf("exit code %d:\n%s", code, errOut)
	}
	if err := os.WriteFile(list, []byte(upstream.URL()+"\nhttp://192.0.2.1:9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errOut, code := runExec(t, idle, "-c", path, "--daemon", "required", "--", os.Args[0]); code != 1 || !strings.Contains(errOut, "or of a list that it names, in force") {
		t.Errorf("another list: exit code %d:\n%s", code, errOut)
	}
}

func TestExecDoesNotUseListenerWithPassword(t *testing.T) {
	t.Parallel()
	_, yaml := execWorld(t)
	path := file(t, yaml+"admin: "+freeAddress(t)+"\nlisten: [{address: \"127.0.0.1:0\", use: asia}, {address: \"127.0.0.2:0\", auth: {users: [{name: bot, password: geheim-7}]}}]\n")
	start(t, nil, "run", "-c", path).until(t, `"ready"`)
	_, errOut, code := runExec(t, []string{asClient + "=http://a.example/"}, "-c", path, "--", os.Args[0])
	if code != 0 || !strings.Contains(errOut, "asks for a password") || !strings.Contains(errOut, "1 connection through tokyo-1") || strings.Contains(errOut, "geheim-7") {
		t.Errorf("exit code %d:\n%s", code, errOut)
	}
}

// A command that opens no connection gets a warning, and so does its user.
func TestExecWarnsWhenNothingCame(t *testing.T) {
	t.Parallel()
	_, yaml := execWorld(t)
	_, errOut, code := runExec(t, idle, "-c", file(t, yaml), "--daemon", "own", "--", os.Args[0])
	if code != 0 || !strings.Contains(errOut, "warning: nothing came through proxyd") {
		t.Errorf("exit code %d:\n%s", code, errOut)
	}
}

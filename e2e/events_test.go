//go:build unix

package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// anEvent is an event as programs read it.
type anEvent struct{ ID, Type, Severity, Exchange, Upstream, Text string }

// events returns what a daemon remembers.
func (s *service) events(t *testing.T, args ...string) (list []anEvent) {
	t.Helper()
	out, err := exec.Command(binary(t), append([]string{"events", "--format", "json", "--admin", "unix:" + s.socket}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		var e anEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		list = append(list, e)
	}
	return list
}

// texts returns the events of a type, as one text.
func texts(list []anEvent, typ string) string {
	var lines []string
	for _, e := range list {
		if e.Type == typ {
			lines = append(lines, e.Text)
		}
	}
	return strings.Join(lines, "\n")
}

// follower is a running proxyd events --follow.
type follower struct {
	mu   sync.Mutex
	list []anEvent
}

func (s *service) follow(t *testing.T) *follower {
	t.Helper()
	cmd := exec.Command(binary(t), "events", "--follow", "--format", "json", "--since", "1h", "--admin", "unix:"+s.socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f, done := &follower{}, make(chan struct{})
	go func() { // ends with the command
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e anEvent
			_ = json.Unmarshal(lines.Bytes(), &e)
			f.mu.Lock()
			f.list = append(f.list, e)
			f.mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done; _ = cmd.Wait() })
	return f
}

func (f *follower) seen() []anEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

const onePool = "pools: {asia: {proxies: [{name: tokyo-1, url: \"http://127.0.0.1:9\"}]}}\nexchanges: {binance: asia}\nroutes: [{hosts: [127.0.0.1], use: direct}]\n"

// Promise (data path): events go along with an upgrade, with their ids; a viewer goes
// on without a gap, and an upgrade that fails loses none.
func TestEventsGoAlongWithAnUpgrade(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	s := startService(t, onePool)
	viewer := s.follow(t)
	tunnels := startFeeds(t, s.Addr, echo.Addr, 4, 50*time.Millisecond, testkit.CONNECT11)
	if out, code := s.command(t, "drain", "tokyo-1"); code != 0 {
		t.Fatal(out)
	}
	before := s.events(t)
	s.installText(t, "#!/bin/sh\nexit 3\n")
	s.upgrade(t, 1)
	if got := texts(s.events(t), "upgrade"); !strings.Contains(got, "upgrade failed, this process goes on") {
		t.Errorf("after one that failed:\n%s", got)
	}
	s.install(t, binary(t))
	s.upgrade(t, 0, "--move")
	testkit.Eventually(t, testkit.Patience, "the old process is gone", func() bool { return len(s.pids(t)) == 1 })
	if out, code := s.command(t, "resume", "tokyo-1"); code != 0 {
		t.Fatal(out)
	}
	testkit.Eventually(t, testkit.Patience, "all is there", func() bool {
		got := texts(s.events(t), "upgrade")
		return strings.Contains(got, "4 tunnels have moved to the new process, 0 stay") && strings.Contains(got, "has taken over, process ")
	})
	all := s.events(t)
	if !slices.Equal(all[:len(before)], before) {
		t.Errorf("the events before it are\n%v, and were\n%v", all, before)
	}
	testkit.Eventually(t, testkit.Patience, "the viewer has seen each once", func() bool { return slices.Equal(viewer.seen(), s.events(t)) })
	if got := texts(all, "drain"); !strings.Contains(got, "tokyo-1 is drained") || !strings.Contains(got, "is no longer drained") {
		t.Errorf("the drain:\n%s", got)
	}
	tunnels.end(t)
}

func TestEventsAfterARestartSaySinceWhen(t *testing.T) {
	t.Parallel()
	s := startService(t, onePool)
	viewer := s.follow(t)
	testkit.Eventually(t, testkit.Patience, "the start", func() bool { return strings.Contains(texts(viewer.seen(), "start"), "has started") })
	_ = s.Cmd.Process.Signal(syscall.SIGTERM)
	<-s.Done
	again := exec.Command(s.path, "run", "-c", s.File)
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Process.Kill(); _ = again.Wait() })
	testkit.Eventually(t, testkit.Patience, "the gap, and the second start", func() bool {
		seen := viewer.seen()
		return strings.Contains(texts(seen, "gap"), "started again") && strings.Count(texts(seen, "start"), "has started") == 2
	})
	if out, code := s.command(t, "events"); code != 0 || !strings.Contains(out, "proxyd remembers what has happened since "+time.Now().Format("2006-01-02 ")) || strings.Count(out, "has started") != 1 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

// The lines of docs/operations.md that send events to a chat do so.
func TestDocumentedNotifiers(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			testkit.Lacks(t, tool)
		}
	}
	doc, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	scripts := map[string]string{}
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(doc), -1) {
		for _, name := range []string{"TELEGRAM", "SLACK"} {
			if strings.Contains(m[1], "events --follow") && strings.Contains(m[1], name+"=") {
				scripts[name] = m[1]
			}
		}
	}
	for name, want := range map[string]string{"TELEGRAM": "++warn+++tokyo-1+is+drained", "SLACK": `"text": "warn tokyo-1 is drained`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if n := strings.Count(scripts[name], "\n"); n == 0 || n > 5 {
				t.Fatalf("%d lines", n)
			}
			got := make(chan string, 100)
			chat := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				select {
				case got <- string(body):
				default: // enough
				}
			}))
			t.Cleanup(chat.Close)
			s := startService(t, onePool)
			cmd := exec.Command("bash", "-c", regexp.MustCompile(`https://[^\s"]+`).ReplaceAllString(scripts[name], chat.URL))
			cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(s.path)+":"+os.Getenv("PATH"), "PROXYD_CONFIG="+s.File, "no_proxy=*")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() })
			testkit.Eventually(t, testkit.Patience, "a message", func() bool {
				s.command(t, "drain", "tokyo-1")
				select {
				case body := <-got:
					if !strings.Contains(body, want) {
						t.Errorf("it got %s", body)
					}
					return true
				case <-time.After(100 * time.Millisecond):
					return false
				}
			})
		})
	}
}

// Promise (routing): refusals are grouped into few events, whose counts add up to what
// was refused.
func TestCountsOfRefusalEventsAddUp(t *testing.T) {
	t.Parallel()
	s := startService(t, onePool+"default: reject\n")
	const refused = 60 // each after the first is delayed
	for range refused {
		c, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "canary.example:443"})
		if reply.OK {
			t.Fatal("it is open")
		}
		_ = c.Close()
	}
	_ = s.Cmd.Process.Signal(syscall.SIGTERM)
	<-s.Done
	sum, list := 0, lines(s.Log.String(), `"msg":"event"`, `"type":"refused"`)
	for _, line := range list {
		var e struct{ Count int }
		if err := json.Unmarshal([]byte(line), &e); err != nil || strings.Contains(line, "canary") {
			t.Errorf("%v: %s", err, line)
		}
		sum += e.Count
	}
	if sum != refused || len(list) > 4 {
		t.Errorf("%d in %d events, want %d:\n%s", sum, len(list), refused, strings.Join(list, "\n"))
	}
}

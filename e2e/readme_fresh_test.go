//go:build fresh && linux

package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// On a machine with Go, make, git and curl only, the commands of README.md work one by
// one, and the lines that the demo prints, and make test. interop/fresh.sh makes the machine
// and starts this there, as root.
func TestFreshMachine(t *testing.T) {
	if os.Getenv("FRESH") == "" {
		t.Fatal("started by interop/fresh.sh alone: it writes below /etc")
	}
	serveKraken(t)
	who := ordinaryUser(t)
	const dir = "/home/user/proxyd"
	environ := []string{"PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin", "HOME=/home/user", "USER=user", "GOMODCACHE=/go/pkg/mod", "GOPROXY=off"}
	r := readme{
		file: dir + "/README.md", dir: dir, user: who,
		skipped: map[string]string{"bin/proxyd exec -- py": "needs Python; make clients runs it"},
		first:   newTerminal(t, dir, environ, who),
		second:  newTerminal(t, dir, environ, who),
	}
	third := newTerminal(t, dir, environ, who)
	r.during = func(t *testing.T, line string) {
		if strings.HasPrefix(line, "bin/proxyd demo") {
			r.demo(t, third)
		}
	}
	r.after = func(t *testing.T, line, out string) {
		if !strings.HasPrefix(line, "curl ") {
			return
		}
		if !strings.Contains(out, `"unixtime"`) {
			t.Errorf("%s: %s", line, out)
		}
		// On a terminal the log has exchange=kraken; here it is JSON.
		testkit.Eventually(t, testkit.Patience, "the first terminal shows the tunnel", func() bool {
			return regexp.MustCompile(`tunnel open.*exchange\W+kraken`).MatchString(r.first.printed())
		})
	}
	begin := time.Now()
	r.run(t)
	t.Logf("README.md: %d lines in %v", r.ran, time.Since(begin).Round(time.Second))
	r.first.interrupt(t)

	writeSystemFile(t, "/etc/hosts", localhost)
	begin = time.Now()
	tests := newTerminal(t, dir, environ, who)
	tests.shown = 3000 // each failed test prints the log of its daemon
	tests.run(t, "make test", 10*time.Minute)
	t.Logf("make test: %v", time.Since(begin).Round(time.Second))
}

// demo runs the lines that the running demo has printed, and waits for the first word
// of line 1 of the status that it promises.
func (r *readme) demo(t *testing.T, third *terminal) {
	t.Helper()
	lines := regexp.MustCompile(`(?m)^  (\S.*)\n    (\S.*)$`).FindAllStringSubmatch(r.first.printed(), -1)
	if len(lines) < 8 {
		t.Fatalf("the demo has printed %d lines to try", len(lines))
	}
	for _, m := range lines {
		what, line := m[1], m[2]
		before := len(r.first.printed())
		if strings.HasSuffix(line, "--follow") {
			third.serve(t, line, "", testkit.Patience)
			continue
		}
		r.second.enter(t, line)
		if out, code := r.second.wait(t, line, testkit.Patience); code != 0 && !strings.Contains(out, "tracker.example is refused") { // the route to it has the exit code of a refusal
			t.Errorf("%s: exit code %d", line, code)
		}
		if state := regexp.MustCompile(`: (DEGRADED|BAD|ok)\b`).FindStringSubmatch(what); state != nil {
			testkit.Eventually(t, 30*time.Second, "the demo prints "+state[1]+" after "+line, func() bool {
				return regexp.MustCompile(`(?m)^[0-9:]{8}  ` + state[1] + `\b`).MatchString(r.first.printed()[before:])
			})
		}
	}
	if !strings.Contains(third.printed(), "tokyo-1") {
		t.Error("the events do not name the upstream that has died")
	}
	third.interrupt(t)
}

// ordinaryUser returns the user that interop/fresh.sh has made.
func ordinaryUser(t *testing.T) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("user")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// The hosts file as Debian's installer writes it.
const localhost = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"

func writeSystemFile(t *testing.T, name, text string) {
	t.Helper()
	_ = os.Remove(name) // it may be a link
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// serveKraken is the one exchange of this machine's network. Its name is in the hosts
// file, and its CA among those that programs trust; no other name leads anywhere.
func serveKraken(t *testing.T) {
	t.Helper()
	const addr = "192.31.196.1" // as in interop/fresh.sh
	ca := testkit.NewCA(t)
	pem, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"/etc/hosts":       localhost + addr + " api.kraken.com\n",
		"/etc/resolv.conf": "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n",
		"/usr/local/share/ca-certificates/fake.crt": string(pem),
	} {
		writeSystemFile(t, file, text)
	}
	if out, err := exec.Command("update-ca-certificates").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ln, err := tls.Listen("tcp", addr+":443", ca.Server(t))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("api.kraken.com/0/public/Time", func(w http.ResponseWriter, _ *http.Request) {
		now := time.Now()
		fmt.Fprintf(w, `{"error":[],"result":{"unixtime":%d,"rfc1123":%q}}`+"\n", now.Unix(), now.Format(time.RFC1123))
	})
	server := &http.Server{Handler: mux}
	var ended sync.WaitGroup
	ended.Go(func() { _ = server.Serve(ln) }) // ends with Close
	t.Cleanup(func() { _ = server.Close(); ended.Wait() })
}

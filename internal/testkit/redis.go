package testkit

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Redis is a real redis-server of a test's own.
type Redis struct {
	Addr string
	t    testing.TB
	args []string
	cmd  *exec.Cmd
}

// StartRedis starts a redis-server on a free port of loopback, without files. It ends
// with the test. args are further ones of its command line. The test is skipped but in
// make fleet and make page: elsewhere others run beside it, and a Redis that does not
// answer within 50 ms is one that a fleet does not use.
func StartRedis(t testing.TB, args ...string) *Redis {
	t.Helper()
	if os.Getenv("FLEET") == "" {
		t.Skip("make fleet runs this")
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		Lacks(t, "redis-server")
	}
	r := &Redis{Addr: FreeAddr(t), t: t, args: args}
	r.Start()
	t.Cleanup(r.Kill)
	return r
}

// Start starts it again after Kill, without its data.
func (r *Redis) Start() {
	r.t.Helper()
	dir := r.t.TempDir()
	_, port, _ := net.SplitHostPort(r.Addr)
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir, "--logfile", filepath.Join(dir, "log")}, r.args...)
	r.cmd = exec.Command("redis-server", args...)
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	Eventually(r.t, Patience, "redis-server answers", func() bool {
		return strings.HasPrefix(r.Do("PING"), "+PONG") || strings.HasPrefix(r.Do("PING"), "-NOAUTH") || strings.HasPrefix(r.Do("PING"), "-MASTERDOWN")
	})
}

// StartWith starts it again with these further arguments alone.
func (r *Redis) StartWith(args ...string) {
	r.t.Helper()
	r.args = args
	r.Start()
}

// Do sends one command of plain words, and returns what comes at once of the answer, as
// it is on the wire.
func (r *Redis) Do(words ...string) string {
	c, err := net.DialTimeout("tcp", r.Addr, time.Second)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = fmt.Fprintf(c, "%s\r\nQUIT\r\n", strings.Join(words, " "))
	text, _ := io.ReadAll(c) // until it closes
	return strings.TrimSuffix(string(text), "+OK\r\n")
}

// Settle makes an empty Redis one that a fleet knows already: it need not be fed at
// first.
func (r *Redis) Settle(fleet string) {
	r.t.Helper()
	_, run, _ := strings.Cut(r.Do("INFO", "server"), "run_id:")
	run, _, _ = strings.Cut(run, "\r")
	if answer := r.Do("HSET", "proxyd:"+fleet+":{fleet}:fleet", "run", run, "feed", "0"); answer != ":2\r\n" {
		r.t.Fatal(answer)
	}
}

// Signal sends it a signal.
func (r *Redis) Signal(sig os.Signal) { _ = r.cmd.Process.Signal(sig) } // fails only when it has ended

// Kill ends it.
func (r *Redis) Kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// URL returns how fleet.redis names it.
func (r *Redis) URL() string { return "redis://" + r.Addr }

// StartSentinel starts a sentinel that watches r under a name, and returns its address.
// It declares r down after a second.
func StartSentinel(t testing.TB, r *Redis, name string) (addr string) {
	t.Helper()
	addr = FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	host, master, _ := net.SplitHostPort(r.Addr)
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\nsentinel monitor %s %s %s 1\nsentinel down-after-milliseconds %s 1000\nsentinel failover-timeout %s 3000\n", port, name, host, master, name, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Redis{Addr: addr, t: t, cmd: exec.Command("redis-server", file, "--sentinel")}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	Eventually(t, Patience, "the sentinel knows the replica", func() bool { return strings.Contains(s.Do("INFO", "sentinel"), "slaves=1") })
	return addr
}

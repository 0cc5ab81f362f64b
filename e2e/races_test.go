//go:build unix

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// What is stopping takes no other configuration: it would open addresses again.
func TestAReloadWhileStoppingIsRefused(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	s := startService(t, "drain_seconds: 30\nwatch: false\n")
	live := s.tunnel(t, echo.Addr)
	s.signal(t, syscall.SIGTERM, stopping)
	saving(withListen(loopback+"admin: unix:"+s.socket+"\nlisten: [\"127.0.0.1:0\", \"127.0.0.1:"+freePort(t)+"\"]\n"))(t, s.File)
	for _, what := range []string{"reload", "upgrade"} {
		if out, code := s.command(t, what); code != 1 || !strings.Contains(out, "is stopping") {
			t.Errorf("proxyd %s: exit code %d: %s", what, code, out)
		}
	}
	works(live)
	_ = live.Close()
	if code := s.ended(t, 20*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A scraper that keeps its connection sees the new process after an upgrade.
func TestKeptAdminConnectionsEndWithAnUpgrade(t *testing.T) {
	t.Parallel()
	echo, port := testkit.NewTCP(t, testkit.Echo), freePort(t)
	s := &service{}
	s.process = launch(t, "", loopback+"admin: 127.0.0.1:"+port+"\n")
	t.Cleanup(func() {
		for _, pid := range s.pids(t) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	live := s.tunnel(t, echo.Addr) // keeps the old process
	kept := testkit.Dial(t, "127.0.0.1:"+port)
	kept.Send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if r := kept.ReadHTTP("GET"); r.Status != 200 {
		t.Fatal(r)
	}
	if out, code := s.command(t, "upgrade"); code != 0 {
		t.Fatalf("%d\n%s", code, out)
	}
	kept.ExpectEOF()
	works(live)
}

// slowly puts a program in the binary's place that takes so many seconds to
// become the real one.
func (s *service) slowly(t *testing.T, seconds float64) {
	t.Helper()
	script := fmt.Sprintf("#!/bin/sh\nsleep %g\nexec %s \"$@\"\n", seconds, binary(t))
	s.installText(t, script)
}

// A SIGHUP while the next process starts keeps no sign of life back, and is
// heeded by the next process: it may have read the file too early.
func TestASIGHUPDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	n, echo := listenAsSystemd(t), testkit.NewTCP(t, testkit.Echo)
	s := startService(t, "watch: false\n", "NOTIFY_SOCKET="+n.path, "WATCHDOG_USEC=100000")
	live := s.tunnel(t, echo.Addr)
	s.slowly(t, 1.5)
	s.signal(t, syscall.SIGUSR2, "is started, process")
	if err := s.Cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // until it is taken; less would test less
	n.mu.Lock()
	n.told = nil
	n.mu.Unlock()
	n.heard(t, "WATCHDOG=1", 5)
	if strings.Contains(s.Log.String(), "takes no new ones") {
		t.Fatal("the signs of life came only after the upgrade")
	}
	port := freePort(t)
	testkit.Eventually(t, testkit.Patience, "the next process serves", func() bool { return strings.Contains(s.Log.String(), "takes no new ones") })
	testkit.Eventually(t, testkit.Patience, "the reload", func() bool { return strings.Contains(s.Log.String(), reloaded) })
	saving(withListen(loopback+"watch: false\nadmin: unix:"+s.socket+"\nlisten: [\"127.0.0.1:0\", \"127.0.0.1:"+port+"\"]\n"))(t, s.File)
	if out, code := s.command(t, "reload"); code != 0 || !strings.Contains(out, port) {
		t.Errorf("the reload was not the next process's: %d\n%s", code, out)
	}
	works(live)
}

// Who stops the service while the next process starts has stopped both.
func TestSIGTERMDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	s := startService(t, "")
	s.slowly(t, 0.3)
	s.signal(t, syscall.SIGUSR2, "is started, process")
	if err := s.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := s.ended(t, 20*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	testkit.Eventually(t, testkit.Patience, "no process is left", func() bool { return len(s.pids(t)) == 0 })
}

// A tunnel that arrives where its upstream is no longer configured is closed as
// one whose upstream a reload has taken out; another is not.
func TestOnRemovedDrainAfterAMove(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	proxy := func() string {
		return testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": echo.Addr}}).URL()
	}
	rest := "watch: false\non_removed: drain\ndrain_after_seconds: 0.2\nexchanges:\n  kraken: \"" + proxy() + "\"\n  binance: "
	s := startService(t, rest+"\""+proxy()+"\"\n")
	open := func(target string) *testkit.Conn {
		c, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: target})
		if !reply.OK {
			t.Fatal(reply)
		}
		works(c)
		return c
	}
	goes, stays := open("api.binance.com:443"), open("api.kraken.com:443")
	saving(withListen(loopback+"admin: unix:"+s.socket+"\n"+rest+"direct\n"))(t, s.File)
	if out := s.upgrade(t, 0, "--move"); !strings.Contains(out, "2 tunnels have moved") {
		t.Fatal(out)
	}
	goes.ExpectEOF()
	works(stays)
}

// A next process that ends as soon as it serves is no upgrade that has gone well.
func TestTheNextProcessEndsAsItServes(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	s := startService(t, "")
	live := s.tunnel(t, echo.Addr)
	script := "#!/bin/sh\n"
	for _, message := range []string{`{"type":"ready","version":1,"formats":["tunnel/1"]}`, `{"type":"serving"}`} {
		script += fmt.Sprintf(`printf '\0\0\0\%03o\0\0\0\0\0\0\0\0%s' >&3`, len(message), message) + "\n"
	}
	if err := os.WriteFile(s.path+".new", []byte(script+"sleep 0.2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.path+".new", s.path); err != nil {
		t.Fatal(err)
	}
	if out := s.upgrade(t, 1, "--move"); !strings.Contains(out, "does not answer") || strings.Contains(out, "done") {
		t.Errorf("it says %s", out)
	}
	works(live)
}

// The watchdog's time begins anew when the unit follows another process.
func TestTheWatchdogHearsOfTheHandOver(t *testing.T) {
	t.Parallel()
	n := listenAsSystemd(t)
	s := startService(t, "", "NOTIFY_SOCKET="+n.path, "WATCHDOG_USEC=60000000")
	s.upgrade(t, 0)
	n.heard(t, "MAINPID=", 1)
	n.heard(t, "WATCHDOG=1", 1)
}

// A log whose reader has gone is no reason to end: feeds go on.
func TestNobodyReadsTheLogAnyMore(t *testing.T) {
	t.Parallel()
	echo, port := testkit.NewTCP(t, testkit.Echo), freePort(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Addr: "127.0.0.1:" + port, Log: newLog(t)}
	cmd := exec.Command(binary(t), "run", "-c", writeConfig(t, loopback+"listen: \""+p.Addr+"\"\n"))
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_ = w.Close()
	testkit.Eventually(t, testkit.Patience, "it listens", func() bool {
		c, err := net.Dial("tcp", p.Addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	live := p.tunnel(t, echo.Addr)
	_ = r.Close()
	for range 20 {
		_ = p.tunnel(t, echo.Addr).Close() // two lines each
	}
	works(live)
}

//go:build unix

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// service is a daemon that is replaced again and again: its binary can be
// replaced, its processes are found, and all end with the test.
type service struct {
	*process
	path   string // of the binary
	socket string // of the admin server
}

// startService runs a copy of the binary.
func startService(t *testing.T, yaml string, environ ...string) *service {
	t.Helper()
	s := &service{path: filepath.Join(t.TempDir(), "proxyd"), socket: filepath.Join(t.TempDir(), "admin")}
	s.install(t, binary(t))
	s.process = launchAs(t, s.path, "", loopback+"admin: unix:"+s.socket+"\n"+yaml, environ...)
	t.Cleanup(func() {
		for _, pid := range s.pids(t) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return s
}

// install puts another program in the binary's place, as package managers do. A
// process of its own writes it: while a test writes a file, what other tests
// start has it open too, and the system then does not run it ("text file busy").
func (s *service) install(t *testing.T, from string) {
	t.Helper()
	out, err := exec.Command("sh", "-c", `cp "$1" "$2.new" && chmod 700 "$2.new" && mv "$2.new" "$2"`, "sh", from, s.path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v, %s", err, out)
	}
}

// installText is install of a script.
func (s *service) installText(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.install(t, file)
}

// pids are the processes that run with the service's configuration.
func (s *service) pids(t *testing.T) (list []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		b, _ := os.ReadFile(file) // it may have ended meanwhile
		if args := strings.Split(string(b), "\x00"); slices.Contains(args, s.File) && slices.Contains(args, "run") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			list = append(list, pid)
		}
	}
	slices.Sort(list)
	return list
}

// upgrade runs the command and gives what it says.
func (s *service) upgrade(t *testing.T, code int, args ...string) string {
	t.Helper()
	out, got := s.command(t, append([]string{"upgrade"}, args...)...)
	if got != code {
		t.Errorf("proxyd upgrade %v: exit code %d, want %d:\n%s\n%s", args, got, code, out, s.Log)
	}
	return out
}

// Tunnels move with every byte that is on its way, three times in a row, and the
// old process is gone then.
//
// Promise (data path): an upgrade with --move carries live tunnels over without
// a lost, doubled or swapped byte.
func TestTunnelsMoveToTheNewProcess(t *testing.T) {
	echo := testkit.NewTCP(t, testkit.Echo)
	s := startService(t, "")
	f := startFeeds(t, s.Addr, echo.Addr, 1000, 100*time.Millisecond, testkit.CONNECT11, testkit.SOCKS5)
	old := s.pids(t)
	for i := range 3 {
		out := s.upgrade(t, 0, "--move")
		if !strings.Contains(out, "1000 tunnels have moved") {
			t.Errorf("upgrade %d: %s", i, out)
		}
		for _, line := range sectionOf(t, adminSections(t), "/-/upgrade").lines() {
			if said := plainNumbers(strings.ReplaceAll(out, s.path, "/usr/bin/proxyd")); !strings.Contains(said, plainNumbers(line)) {
				t.Errorf("docs/api.md shows %q, and the command says\n%s", line, out)
			}
		}
		done := time.Now()
		testkit.Eventually(t, 5*time.Second, "the old process is gone", func() bool { return !slices.Contains(s.pids(t), old[0]) })
		t.Logf("upgrade %d: the old process was gone after %v more", i, time.Since(done))
		old = s.pids(t)
		if len(old) != 1 {
			t.Fatalf("processes %v", old)
		}
		time.Sleep(300 * time.Millisecond)
	}
	if out, code := s.command(t, "status", "--format", "json"); code != 0 || !strings.Contains(out, `"generation": 4`) || !strings.Contains(out, `"active": 1000`) {
		t.Errorf("%d\n%s", code, clip(out))
	}
	frames, gaps := f.end(t)
	slices.Sort(gaps)
	t.Logf("%d frames; longest gap of a tunnel: median %v, worst %v", frames, gaps[len(gaps)/2], gaps[len(gaps)-1])
	if worst := gaps[len(gaps)-1]; worst > 5*time.Second {
		t.Errorf("a tunnel stood still for %v", worst)
	}
	testkit.Eventually(t, testkit.Patience, "each tunnel ends in one line, with all its bytes", func() bool {
		return strings.Count(s.Log.String(), `"msg":"tunnel",`) == 1000
	})
}

// Nobody who connects while the process is replaced notices.
//
// Promise (data path): no connection is refused while the binary is replaced.
func TestNoConnectionIsRefusedDuringAnUpgrade(t *testing.T) {
	echo := testkit.NewTCP(t, testkit.Echo)
	s := startService(t, "")
	live := s.tunnel(t, echo.Addr)
	stop := make(chan struct{})
	var all sync.WaitGroup
	var opened atomic.Int64
	ticker := time.NewTicker(5 * time.Millisecond) // 200 a second
	defer ticker.Stop()
	all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
			all.Go(func() {
				protocol := []testkit.Protocol{testkit.CONNECT11, testkit.SOCKS5}[i%2]
				c, reply := testkit.Open(t, s.Addr, testkit.Ask{Protocol: protocol, Target: echo.Addr})
				if !reply.OK {
					t.Errorf("%v: %v", protocol, reply)
					return
				}
				works(c)
				_ = c.Close()
				opened.Add(1)
			})
		}
	})
	time.Sleep(300 * time.Millisecond)
	for i := range 3 {
		pid := s.pids(t)
		if err := syscall.Kill(pid[len(pid)-1], syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, testkit.Patience, "the next generation serves", func() bool {
			out, code := s.command(t, "status", "--format", "json")
			return code == 0 && strings.Contains(out, fmt.Sprintf(`"generation": %d`, i+2))
		})
		time.Sleep(200 * time.Millisecond)
	}
	close(stop)
	all.Wait()
	t.Logf("%d connections were opened", opened.Load())
	works(live) // with the first process still
	testkit.Eventually(t, testkit.Patience, "the first process is shown", func() bool {
		out, _ := s.command(t, "status", "--format", "json")
		return strings.Contains(out, `"older"`) && strings.Contains(s.admin(t, s.socket, "/metrics"), `proxyd_generation_tunnels{generation="1"} 1`)
	})
	live.CloseWrite()
	live.ExpectEOF()
	testkit.Eventually(t, testkit.Patience, "the first process ends with its last tunnel", func() bool { return len(s.pids(t)) == 1 })
}

// A new process that does not come up changes nothing.
//
// Promise (data path): an upgrade that fails changes nothing.
func TestAnUpgradeThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	for name, tc := range map[string]struct {
		program string // in the binary's place
		yaml    string // in the file's
		says    string
	}{
		"crashes":       {program: "#!/bin/sh\nkill -9 $$\n", says: "ended before it served"},
		"ends":          {program: "#!/bin/sh\nexit 0\n", says: "ended before it served"},
		"is no program": {program: "no program", says: "exec format error"},
		"has a fault":   {yaml: "defaults: direct\n", says: "did you mean default"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startService(t, "watch: false\n")
			before := s.pids(t)
			f := startFeeds(t, s.Addr, echo.Addr, 20, 20*time.Millisecond, testkit.SOCKS5)
			if tc.program != "" {
				s.installText(t, tc.program)
			}
			if tc.yaml != "" {
				saving(withListen(loopback+"admin: unix:"+s.socket+"\n"+tc.yaml))(t, s.File)
			}
			cmd := exec.Command(binary(t), "upgrade", "--move", "--admin", "unix:"+s.socket)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), tc.says) {
				t.Errorf("%v, want %q in %s", err, tc.says, out)
			}
			if after := s.pids(t); !slices.Equal(before, after) {
				t.Errorf("processes %v became %v", before, after)
			}
			c := s.tunnel(t, echo.Addr) // new ones are served, in the same process
			_ = c.Close()
			f.end(t)
		})
	}
}

// The new process begins with the file on disk: one that the watcher has refused
// must not come into force by it, nor one that it has not seen yet and would
// refuse.
func TestAnUpgradePutsNoRefusedFileInForce(t *testing.T) {
	for name, watch := range map[string]string{"refused": "watch: true\n", "not seen": "watch: false\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testUpgradeOfAFileThatLeaks(t, watch)
		})
	}
}

func testUpgradeOfAFileThatLeaks(t *testing.T, watch string) {
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": testkit.NewTCP(t, testkit.Echo).Addr}})
	s := startService(t, watch+"exchanges: {binance: {url: \""+up.URL()+"\"}}\n")
	before := s.pids(t)
	saving(withListen(loopback+"admin: unix:"+s.socket+"\n"+watch))(t, s.File)
	if watch == "watch: true\n" {
		testkit.Eventually(t, testkit.Patience, "the watcher refuses it", func() bool { return strings.Contains(s.Log.String(), reloadRefused) })
	}
	if out := s.upgrade(t, 1); !strings.Contains(out, "not in force") || !strings.Contains(out, "proxyd reload") {
		t.Errorf("it says %s", out)
	}
	if after := s.pids(t); !slices.Equal(before, after) {
		t.Errorf("processes %v became %v", before, after)
	}
	c := s.tunnel(t, "api.binance.com:443")
	_ = c.Close()
	if len(up.Asked()) == 0 {
		t.Error("binance went direct")
	}
}

// An upgrade reads the file itself: what a reload has said of it before it was corrected,
// or spoilt in another manner, counts no more.
func TestAnUpgradeReadsTheFileThatWasCorrected(t *testing.T) {
	t.Parallel()
	s := startService(t, "watch: false\n")
	before := s.pids(t)
	file := func(text string) string {
		return withListen(loopback + "admin: unix:" + s.socket + "\nwatch: false\n" + text)
	}
	saving(file("defaults: direct\ndefault: nowhere\n"))(t, s.File)
	if out, code := s.command(t, "reload"); code != 1 || !strings.Contains(out, "no pool of that name") {
		t.Fatalf("the reload: exit code %d, %s", code, out)
	}
	saving(file("pools: {asia: {}}\n"))(t, s.File)
	if out := s.upgrade(t, 1); !strings.Contains(out, "not in force") || !strings.Contains(out, "pools.asia") || strings.Contains(out, "default") {
		t.Errorf("with another error: %s", out)
	}
	if after := s.pids(t); !slices.Equal(before, after) {
		t.Fatalf("processes %v became %v", before, after)
	}
	saving(file(""))(t, s.File)
	s.upgrade(t, 0)
	testkit.Eventually(t, testkit.Patience, "another process", func() bool { return !slices.Contains(s.pids(t), before[0]) })
}

// A key that only the next version knows is for that to judge; what would go direct
// by the rest of the file is not.
//
// Promise (data path): an upgrade takes a file with keys that only the new program knows, and still none that would make an exchange direct by accident.
func TestAnUpgradeToAVersionThatKnowsMoreKeys(t *testing.T) {
	t.Parallel()
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": testkit.NewTCP(t, testkit.Echo).Addr}})
	good := "watch: true\nexchanges: {binance: {url: \"" + up.URL() + "\"}}\n"
	s := startService(t, good)
	file := func(text string) string { return withListen(loopback + "admin: unix:" + s.socket + "\n" + text) }
	before := s.pids(t)
	save := func(text, refused string) {
		t.Helper()
		saving(file(text))(t, s.File)
		testkit.Eventually(t, testkit.Patience, "the watcher refuses it", func() bool { return strings.Contains(s.Log.String(), refused) })
	}
	save(good+"brand_new: 1\n", "brand_new: unknown key")
	if out := s.upgrade(t, 1); !strings.Contains(out, "is started, process") || !strings.Contains(out, "brand_new: unknown key") {
		t.Errorf("to a program that does not know the key: %s", out)
	}
	// A script stands for a program that knows the key: it removes it first.
	s.installText(t, "#!/bin/sh\nsed -i.old /brand_/d '"+s.File+"'\nexec '"+binary(t)+"' \"$@\"\n")
	save("watch: true\nbrand_newer: 1\n", "brand_newer: unknown key")
	if out := s.upgrade(t, 1); !strings.Contains(out, "binance") || !strings.Contains(out, "not in force") {
		t.Errorf("with an entry less: %s", out)
	}
	if after := s.pids(t); !slices.Equal(before, after) {
		t.Fatalf("processes %v became %v", before, after)
	}
	save(good+"brand_newest: 1\n", "brand_newest: unknown key")
	s.upgrade(t, 0)
	testkit.Eventually(t, testkit.Patience, "another process", func() bool { return !slices.Contains(s.pids(t), before[0]) })
	c := s.tunnel(t, "api.binance.com:443")
	_ = c.Close()
	if len(up.Asked()) == 0 {
		t.Error("binance went direct")
	}
}

// One that hangs is given up after a while, and until then everything goes on.
func TestAnUpgradeThatHangs(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	s := startService(t, "")
	before := s.pids(t)
	s.installText(t, "#!/bin/sh\nexec sleep 600\n")
	first := make(chan string)
	go func() {
		out, _ := exec.Command(binary(t), "upgrade", "--admin", "unix:"+s.socket).CombinedOutput()
		first <- string(out)
	}()
	testkit.Eventually(t, testkit.Patience, "it is started", func() bool { return strings.Contains(s.Log.String(), "is started, process") })
	if out := s.upgrade(t, 1); !strings.Contains(out, "already running") {
		t.Errorf("a second upgrade: %s", out)
	}
	c := s.tunnel(t, echo.Addr)
	_ = c.Close()
	if out := <-first; !strings.Contains(out, "not ready in time") {
		t.Errorf("it says %s", out)
	}
	if after := s.pids(t); !slices.Equal(before, after) {
		t.Errorf("processes %v became %v", before, after)
	}
}

package e2e

import (
	"fmt"
	"net"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// reloadOften reloads n times, every second time a faulty file.
func (p *proxyd) reloadOften(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		yaml := loopback + fmt.Sprintf("default: direct\nroutes: [{hosts: [127.0.0.0/8], use: direct}]\npools: {p%d: {proxies: [\"socks5://127.0.0.1:%d\"]}}\nexchanges: {binance: p%d}\n", i, 1000+i, i)
		want := reloaded
		if i%2 == 1 {
			yaml, want = strings.Replace(yaml, "default:", "defaults:", 1), reloadRefused
		}
		before := strings.Count(p.Log.String(), want)
		saving(withListen(yaml))(t, p.File)
		p.reload <- struct{}{}
		testkit.Eventually(t, testkit.Patience, want, func() bool { return strings.Count(p.Log.String(), want) > before })
	}
}

// Two hundred reloads, half of them of faulty files, and a thousand feeds.
//
// Promise (data path): a reload cuts no tunnel and changes no byte of it.
func TestReloadsCutNoTunnel(t *testing.T) {
	const n = 1000
	echo := testkit.NewTCP(t, testkit.Echo)
	p := start(t, loopback+"default: direct\n")
	f := startFeeds(t, p.Addr, echo.Addr, n, 250*time.Millisecond, testkit.CONNECT11, testkit.SOCKS5)
	p.reloadOften(t, 200)
	frames, gaps := f.end(t)
	t.Logf("%d frames through %d tunnels; longest gap %v", frames, n, maxOf(gaps))
}

// Nothing of a configuration that was replaced is left, though a tunnel that it
// opened lives on.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	echo := testkit.NewTCP(t, testkit.Echo)
	p := start(t, loopback+"default: direct\n")
	var tunnels []*testkit.Conn
	reload := func(n int) {
		p.reloadOften(t, n)
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: echo.Addr})
		if !reply.OK {
			t.Fatal(reply)
		}
		tunnels = append(tunnels, c)
	}
	for range 10 {
		reload(2)
	}
	goroutines, heap := runtime.NumGoroutine(), liveHeap()
	for range 10 {
		reload(30)
	}
	if after := runtime.NumGoroutine(); after > goroutines+10*8 { // of the ten tunnels more: here, in the daemon, in the echo
		t.Errorf("%d goroutines became %d", goroutines, after)
	}
	if after := liveHeap(); after > heap+3<<20 { // the log in this test's memory grows too
		t.Errorf("a live heap of %d KiB became %d", heap>>10, after>>10)
	}
	for _, c := range tunnels {
		works(c)
	}
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func maxOf(d []time.Duration) (most time.Duration) {
	for _, x := range d {
		most = max(most, x)
	}
	return most
}

func TestListenersComeAndGoByReload(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	first, second := freePort(t), freePort(t)
	one := loopback + "default: direct\nlisten: 127.0.0.1:" + first + "\n"
	p := start(t, one)
	tunnel, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: echo.Addr})
	if !reply.OK {
		t.Fatal(reply)
	}
	p.apply(t, loopback+"default: direct\nlisten: [\"127.0.0.1:"+first+"\", \"127.0.0.1:"+second+"\"]\n")
	for _, port := range []string{first, second} {
		if _, reply := testkit.Open(t, "127.0.0.1:"+port, testkit.Ask{Protocol: testkit.SOCKS5, Target: echo.Addr}); !reply.OK {
			t.Errorf("port %s: %v", port, reply)
		}
	}
	p.apply(t, loopback+"default: direct\nlisten: 127.0.0.1:"+second+"\n")
	testkit.Eventually(t, testkit.Patience, "the first is closed", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+first)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	works(tunnel)

	// One address that cannot be had rejects the whole file.
	saving(withListen(loopback+"default: reject\nlisten: [\"127.0.0.1:"+first+"\", {address: \"192.0.2.1:9999\", allow: [192.0.2.0/24]}]\n"))(t, p.File)
	p.reload <- struct{}{}
	if p.waitLine(`"type":"reload_refused"`, "192.0.2.1:9999", "does not have that address") == "" {
		t.Errorf("no line says so:\n%s", p.Log)
	}
	if _, err := net.Dial("tcp", "127.0.0.1:"+first); err == nil {
		t.Error("a part of a faulty file is in force")
	}
	if _, reply := testkit.Open(t, "127.0.0.1:"+second, testkit.Ask{Protocol: testkit.SOCKS5, Target: echo.Addr}); !reply.OK {
		t.Errorf("the listener in force: %v", reply)
	}

	// The same port, another address.
	p.apply(t, loopback+"default: direct\nlisten: {address: \"0.0.0.0:"+second+"\", allow: [127.0.0.0/8]}\n")
	if _, reply := testkit.Open(t, "127.0.0.2:"+second, testkit.Ask{Protocol: testkit.SOCKS5, Target: echo.Addr}); !reply.OK {
		t.Errorf("the wider address: %v", reply)
	}
	works(tunnel)
}

// freePort returns a port that nothing listens on.
func freePort(t *testing.T) string {
	t.Helper()
	_, port, _ := net.SplitHostPort(testkit.FreeAddr(t))
	return port
}

// Only tunnels whose upstream is gone are closed, and only where that is written.
func TestOnRemovedDrain(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"keep", "drain"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			echo := testkit.NewTCP(t, testkit.Echo)
			proxy := func() *testkit.Proxy {
				return testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": echo.Addr}})
			}
			goes, stays := proxy(), proxy()
			config := func(binance *testkit.Proxy, more string) string {
				return loopback + fmt.Sprintf("on_removed: %s\ndrain_after_seconds: 0.2\nexchanges: {binance: %q, kraken: %q}\n%s", mode, binance.URL(), stays.URL(), more)
			}
			p := start(t, config(goes, ""))
			open := func(target string) *testkit.Conn {
				c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: target})
				if !reply.OK {
					t.Fatal(reply)
				}
				works(c)
				return c
			}
			removed, kept := open("api.binance.com:443"), open("api.kraken.com:443")
			p.apply(t, config(goes, "drain_seconds: 3\n")) // nothing is removed
			time.Sleep(500 * time.Millisecond)
			works(removed)
			p.apply(t, config(stays, ""))
			if mode == "keep" {
				time.Sleep(500 * time.Millisecond)
				works(removed)
			} else if rest, err := removed.ReadAll(); rest != "" || isTimeout(err) {
				t.Errorf("it is not closed: %q, %v", rest, err)
			}
			works(kept)
		})
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error) //nolint:errorlint // as it comes from a socket
	return ok && ne.Timeout()
}

// Each request is served by one configuration, the one before or the one after.
//
// Promise (data path): a request sees one configuration, the old one or the new
// one.
func TestNoRequestSeesTwoConfigurations(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	ups := map[string]*testkit.Proxy{}
	yaml := map[string]string{}
	for _, name := range []string{"one", "two"} {
		ups[name] = testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": echo.Addr}})
		yaml[name] = fmt.Sprintf("pools: {pool-%s: {proxies: [{name: up-%s, url: %q}]}}\nexchanges: {binance: pool-%s}\ndefault: reject\n", name, name, ups[name].URL(), name)
	}
	p := start(t, yaml["one"])
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: fronts[i%len(fronts)].Protocol, Target: target})
				if !reply.OK {
					t.Errorf("%v", reply)
					return
				}
				works(c)
				_ = c.Close()
			}
		})
	}
	for i := range 60 {
		p.apply(t, yaml[[]string{"two", "one"}[i%2]])
	}
	close(stop)
	clients.Wait()
	seen := map[string]int{}
	pair := regexp.MustCompile(`"msg":"tunnel open".*"pool":"pool-(\w+)","upstream":"up-(\w+)"`)
	for _, m := range pair.FindAllStringSubmatch(p.Log.String(), -1) {
		seen[m[1]]++
		if m[1] != m[2] {
			t.Errorf("pool %s with an upstream of %s", m[1], m[2])
		}
	}
	if seen["one"] == 0 || seen["two"] == 0 {
		t.Errorf("seen: %v", seen)
	}
	t.Logf("seen: %v", seen)
}

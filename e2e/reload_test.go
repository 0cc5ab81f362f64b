package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// via is a configuration in which everything leaves through one upstream.
func via(p *testkit.Proxy) string { return loopback + "watch: true\ndefault: " + p.URL() + "\n" }

// twoWays are a daemon that leads through the first of two upstreams to an
// exchange, and those.
func twoWays(t *testing.T) (p *proxyd, a, b *testkit.Proxy) {
	t.Helper()
	echo := testkit.NewTCP(t, testkit.Echo)
	proxy := func() *testkit.Proxy {
		return testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "http", Hosts: map[string]string{"*": echo.Addr}})
	}
	a, b = proxy(), proxy()
	return start(t, via(a)), a, b
}

// leads reports whether a new connection now leaves through u.
func leads(t *testing.T, p *proxyd, u *testkit.Proxy) bool {
	t.Helper()
	return leadsTo(t, target, p, u)
}

// leadsTo is leads for another target than the usual one.
func leadsTo(t *testing.T, target string, p *proxyd, u *testkit.Proxy) bool {
	t.Helper()
	before := len(u.Asked())
	c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: target})
	defer c.Close()
	if !reply.OK {
		t.Fatalf("%v\n%s", reply, p.Log)
	}
	return len(u.Asked()) > before
}

// Every way in which people and programs save files, seen by the watcher alone.
func TestAFileIsInForceAsSoonAsItIsSaved(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rename := func(t *testing.T, from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for name, save := range map[string]func(t *testing.T, file, text string){
		"in place": write,
		"replaced by a rename": func(t *testing.T, file, text string) {
			write(t, file+".tmp", text)
			rename(t, file+".tmp", file)
		},
		"as an editor with a backup does": func(t *testing.T, file, text string) {
			write(t, filepath.Join(filepath.Dir(file), ".proxyd.yaml.swp"), "b0VIM")
			rename(t, file, file+"~")
			write(t, file, text)
			_ = os.Remove(file + "~")
			_ = os.Remove(filepath.Join(filepath.Dir(file), ".proxyd.yaml.swp"))
		},
		"deleted and made again": func(t *testing.T, file, text string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
			write(t, file, text)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, a, b := twoWays(t)
			if !leads(t, p, a) {
				t.Fatal("the first file does not hold")
			}
			// The quickest of five and, on a busy machine, of as many as it takes.
			const most = 500 * time.Millisecond
			quickest, begin := time.Hour, time.Now()
			for i := 0; i < 5 || quickest > most && time.Since(begin) < 3*testkit.Patience; i++ {
				to := [2]*testkit.Proxy{b, a}[i%2]
				saved := time.Now()
				save(t, p.File, withListen(via(to)))
				for !leads(t, p, to) {
					if time.Since(saved) > testkit.Patience {
						t.Fatalf("save %d: not in force after %v\n%s", i, time.Since(saved), p.Log)
					}
					time.Sleep(5 * time.Millisecond)
				}
				quickest = min(quickest, time.Since(saved))
			}
			if t.Logf("in force after %v", quickest); quickest > most {
				t.Error("that is more than half a second")
			}
			if p.waitLine(`"type":"reload"`, `(file changed)`, `~ default`) == "" {
				t.Errorf("no line says what has changed:\n%s", p.Log)
			}
		})
	}
}

// As Kubernetes does: the file is a link through ..data, which is swapped.
func TestAConfigMapSwapIsSeen(t *testing.T) {
	t.Parallel()
	p, _, b := twoWays(t)
	dir := filepath.Dir(p.File)
	version := func(name, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "proxyd.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, "..tmp")
		if err := os.Symlink(name, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.ReadFile(p.File)
	if err != nil {
		t.Fatal(err)
	}
	version("..1", string(old))
	if err := os.Symlink("..data/proxyd.yaml", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "link"), p.File); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // the watcher follows the link
	version("..2", withListen(via(b)))
	testkit.Eventually(t, testkit.Patience, "the swapped file is in force", func() bool { return leads(t, p, b) })
}

// What is no configuration never becomes one, and what is then said names the
// place and the remedy.
//
// Promise (data path): a file with an error changes nothing.
func TestAFaultyFileChangesNothing(t *testing.T) {
	t.Parallel()
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", 'b'+i, 'b'+i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", 'a'+i), 9), ","))
	}
	for name, tc := range map[string]struct {
		change func(t *testing.T, file string)
		says   string
	}{
		"a fault":        {saving("defaults: direct\n"), "did you mean default"},
		"cut in a value": {saving("default: http://"), "default"},
		"cut in a list":  {saving("exchanges: {binance: "), "proxyd.yaml:"},
		"empty":          {saving(""), "empty"},
		"deleted": {func(t *testing.T, file string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}, "does not exist"},
		"10 MB":               {saving("default: direct\n#" + strings.Repeat("x", 10<<20)), "MiB"},
		"an alias bomb":       {saving(bomb), "proxyd.yaml"},
		"a directory":         {func(t *testing.T, file string) { _ = os.Remove(file); _ = os.Mkdir(file, 0o700) }, "directory"},
		"unwritten direct":    {saving("watch: true\nallow_private: [127.0.0.0/8]\nlisten: 127.0.0.1:0\nadmin: \"\"\n"), "proxyd reload"},
		"a port that is ours": {saving("watch: true\ndefault: direct\nadmin: \"\"\nlisten: [\"127.0.0.1:0\", \"192.0.2.1:9999\"]\n"), "192.0.2.1:9999"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, a, _ := twoWays(t)
			before, err := os.ReadFile(p.File)
			if err != nil {
				t.Fatal(err)
			}
			tc.change(t, p.File)
			if line := p.waitLine(`"type":"reload_refused"`, `"level":"error"`); !strings.Contains(line, tc.says) {
				t.Errorf("the log does not say %q: %s", tc.says, clip(line))
			}
			if !leads(t, p, a) {
				t.Error("the configuration in force has changed")
			}
			_ = os.RemoveAll(p.File)
			saving(string(before))(t, p.File)
			if p.waitLine(`"type":"reload"`, "no change") == "" {
				t.Errorf("the file mended is not in force:\n%s", clip(p.Log.String()))
			}
		})
	}
}

func saving(text string) func(t *testing.T, file string) {
	return func(t *testing.T, file string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func clip(s string) string { return s[:min(len(s), 2000)] }

// An operator who asks for it gets what the watcher would not do by itself.
func TestUnwrittenDirectIsAppliedWhenAskedFor(t *testing.T) {
	t.Parallel()
	p, a, _ := twoWays(t)
	saving("watch: true\nallow_private: [127.0.0.0/8]\nlisten: 127.0.0.1:0\nadmin: \"\"\n")(t, p.File)
	if p.waitLine(`"type":"reload_refused"`) == "" {
		t.Fatalf("the watcher did not refuse it:\n%s", p.Log)
	}
	p.reload <- struct{}{}
	if p.waitLine(`"type":"reload"`, `(SIGHUP)`) == "" || p.waitLine(`"level":"warn"`, "would go direct, though direct is written nowhere") == "" {
		t.Errorf("it is not applied with the warning:\n%s", p.Log)
	}
	asked := len(a.Asked())
	_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: testkit.NewTCP(t, testkit.Echo).Addr})
	if !reply.OK || len(a.Asked()) != asked {
		t.Errorf("it does not lead direct: %v", reply)
	}
}

func TestWatchFalseLeavesTheFileAlone(t *testing.T) {
	t.Parallel()
	p, a, b := twoWays(t)
	p.apply(t, strings.Replace(via(a), "watch: true", "watch: false", 1))
	saving(withListen(via(b)))(t, p.File)
	time.Sleep(700 * time.Millisecond)
	if !leads(t, p, a) {
		t.Error("it was looked at")
	}
	p.reload <- struct{}{}
	testkit.Eventually(t, testkit.Patience, "SIGHUP still counts", func() bool { return leads(t, p, b) })
}

// A secret that a refused file lacked counts as soon as it is there.
func TestASecretThatComesLater(t *testing.T) {
	t.Parallel()
	p, a, b := twoWays(t)
	secret := filepath.Join(t.TempDir(), "password")
	saving(withListen(strings.Replace(via(b), "http://", "http://bot:${file:"+secret+"}@", 1)))(t, p.File)
	if p.waitLine(`"type":"reload_refused"`, secret) == "" {
		t.Fatalf("no line says that it is missing:\n%s", p.Log)
	}
	if !leads(t, p, a) {
		t.Error("the configuration in force has changed")
	}
	saving("geheim\n")(t, secret)
	testkit.Eventually(t, testkit.Patience, "the file is in force", func() bool { return leads(t, p, b) })
	for _, asked := range b.Asked() {
		if asked.Password != "geheim" {
			t.Errorf("the password was %q", asked.Password)
		}
	}
	saving("neu")(t, secret) // and when it changes
	testkit.Eventually(t, testkit.Patience, "the new password counts", func() bool {
		leads(t, p, b)
		all := b.Asked()
		return all[len(all)-1].Password == "neu"
	})
	if p.waitLine(`"type":"reload"`, "password changed") == "" {
		t.Errorf("no line says that it has changed:\n%s", p.Log)
	}
	saving("")(t, secret) // as when it is written anew; nobody is asked without a password
	if p.waitLine(`"type":"reload_refused"`, secret+" is empty") == "" {
		t.Errorf("no line says that it is empty:\n%s", p.Log)
	}
}

// Promise (routing): a line that is deleted from the file by accident does not
// send its exchange out directly, though default: direct is written.
func TestLostEntryDoesNotFallToDirect(t *testing.T) {
	t.Parallel()
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": testkit.NewTCP(t, testkit.Echo).Addr}})
	const rest = "watch: true\nadmin: \"\"\nlisten: 127.0.0.1:0\ndefault: direct\n"
	with := rest + "exchanges: {bitstamp: \"" + up.URL() + "\"}\n"
	p := start(t, with)
	ask := func() testkit.Reply {
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "www.bitstamp.net:443"})
		_ = c.Close()
		return reply
	}
	if reply := ask(); !reply.OK {
		t.Fatalf("at the start: %v", reply)
	}
	saving(rest)(t, p.File)
	if p.waitLine(`"type":"reload_refused"`, "bitstamp went through", "would go direct by default: say exchanges.bitstamp: direct; or, if it is meant, run: proxyd reload") == "" {
		t.Fatalf("the watcher did not refuse it:\n%s", p.Log)
	}
	if before := len(up.Asked()); !ask().OK || len(up.Asked()) != before+1 {
		t.Errorf("it does not go through the proxy any more:\n%s", p.Log)
	}
	saving(strings.Replace(rest, "direct", "reject", 1))(t, p.File) // nothing leaves: a kill switch is no leak
	if p.waitLine(`"type":"reload"`, "default: direct → reject", " → reject (default)") == "" {
		t.Errorf("not applied:\n%s", p.Log)
	}
	saving(rest+"exchanges: {bitstamp: direct}\n")(t, p.File)
	if p.waitLine(`"type":"reload"`, "default: reject → direct") == "" || p.waitLine(`"level":"warn"`, "default was reject and is direct now") == "" {
		t.Errorf("not applied with a warning:\n%s", p.Log)
	}
}

// Open tunnels keep the upstream of before: a reload that gives their exchange another
// one says how many, and what moves them; those that keep their route are not meant.
func TestReloadNamesTheTunnelsThatKeepAnotherRoute(t *testing.T) {
	t.Parallel()
	_, a, b := twoWays(t)
	text := func(kraken string) string {
		return loopback + fmt.Sprintf("watch: true\ndefault: reject\npools:\n  one: {proxies: [{name: tokyo-1, url: %q}]}\n  two: {proxies: [{name: paris-1, url: %q}]}\nexchanges: {okx: one, kraken: %s}\n", a.URL(), b.URL(), kraken)
	}
	p := start(t, text("one"))
	for _, host := range []string{"ws.kraken.com:443", "ws.kraken.com:443", "ws.okx.com:443"} {
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: host})
		if !reply.OK {
			t.Fatal(reply)
		}
		defer c.Close()
	}
	saving(withListen(text("two")))(t, p.File)
	testkit.Eventually(t, testkit.Patience, "the event of the reload", func() bool { return strings.Contains(p.Log.String(), "kraken: one → two; ") })
	for _, want := range []string{"kraken: one → two; 2 tunnels of kraken still go through tokyo-1\"", `"hint":"to move them: proxyd close --exchange kraken --upstream tokyo-1 --over 60"`} {
		if !strings.Contains(p.Log.String(), want) {
			t.Errorf("no %s in\n%s", want, p.Log)
		}
	}
	saving(withListen(text("one")))(t, p.File)
	testkit.Eventually(t, testkit.Patience, "the event of the reload back", func() bool { return strings.Contains(p.Log.String(), "kraken: two → one") })
	saving(withListen(strings.Replace(text("one"), "kraken: one", "kraken: direct", 1)))(t, p.File)
	testkit.Eventually(t, testkit.Patience, "the event of the reload to direct", func() bool {
		return strings.Contains(p.Log.String(), "kraken: one → direct; 2 tunnels of kraken still go")
	})
	if n := strings.Count(p.Log.String(), "still go"); n != 4 { // each reload has an event, and a warning
		t.Errorf("said %d times\n%s", n, p.Log)
	}
}

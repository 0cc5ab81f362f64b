package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/daemon"
	"proxyd/internal/router"
)

// running is an admin server as a daemon has it, with the answers of a test,
// and a configuration that names it.
func running(t *testing.T, address string, change func(*admin.Options)) (bound, path string) {
	t.Helper()
	t.Setenv("PW", "geheim-7")
	ln, err := admin.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	bound = address
	if !strings.HasPrefix(address, "unix:") {
		bound = ln.Addr().String()
	}
	path = file(t, twoWays+"admin: \""+bound+"\"\n")
	c, err := config.Load(path, []string{"PW=geheim-7"})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := daemon.Snapshot(c, nil, func(netip.AddrPort) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	o := admin.Options{
		Settings: func() config.Admin { return c.Admin },
		Snapshot: func() *router.Router { return snap },
		Status:   well,
	}
	change(&o)
	s, done := admin.New(o), make(chan error, 1)
	go func() { done <- s.Serve(ln) }() // ends with Close
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return bound, path
}

func well() admin.Status {
	return admin.Status{
		Version: "1.2.3", Generation: 2, PID: 42, Started: time.Now().Add(-90 * time.Minute), State: admin.StateReady,
		Config:    admin.Config{File: "/etc/proxyd/proxyd.yaml", LoadedAt: time.Now(), InForce: true},
		Listeners: []admin.Listener{{Address: "127.0.0.1:8877", Reach: "this machine only"}},
		Active:    3, Tunnels: []admin.Count{{Exchange: "binance", Kind: "websocket", Upstream: "tokyo", Tunnels: 3}},
		Upstreams: []admin.Upstream{
			{Name: "good-1", URL: "http://good.example:1", Pools: []string{"asia"}, Verdicts: []admin.Verdict{{Exchange: "okx", Kind: "http", Verdict: "ok", Since: time.Now().Add(-time.Minute)}}},
			{Name: "bad-1", URL: "http://bad.example:1", Pools: []string{"asia"}, Bad: true, State: "ejected (for 3 s, at least 12 s left): upstream_refused"},
		},
	}
}

func TestStatus(t *testing.T) {
	ill := func() admin.Status {
		s := well()
		s.Config.InForce, s.Config.Faults = false, []string{"proxyd.yaml:41:5: routs: unknown key; did you mean routes?"}
		s.Reasons = []string{"pool asia: one of 2 members is usable"}
		s.Older = []admin.Process{{Generation: 1, PID: 41, Tunnels: 9, Since: time.Now()}}
		return s
	}
	for name, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": "unix:" + filepath.Join(t.TempDir(), "a.sock")} {
		t.Run(name, func(t *testing.T) {
			bound, path := running(t, address, func(*admin.Options) {})
			for _, args := range [][]string{{"status", "-c", path}, {"status", "--admin", bound}, {"status", "-c", "/nonexistent/proxyd.yaml", "--admin", bound}} {
				out, errOut, code := call(args...)
				if code != 0 || !strings.HasPrefix(out, "ok\n") || strings.Contains(out, "\x1b") {
					t.Errorf("%v: exit code %d\n%s%s", args, code, out, errOut)
				}
				at := 0
				for _, want := range []string{"1.2.3, ready, up 1 h 30 min, generation 2, pid 42", "/etc/proxyd/proxyd.yaml", "127.0.0.1:8877, this machine only", "binance", "bad-1", "ejected (for 3 s, at least 12 s left)", "good-1", "okx http: ok (for 1 min "} {
					i := strings.Index(out[at:], want)
					if i < 0 {
						t.Fatalf("no %q after byte %d in\n%s", want, at, out)
					}
					at += i
				}
			}
			out, _, code := call("status", "-c", path, "--format", "json")
			var got admin.Status
			if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || got.PID != 42 || len(got.Upstreams) != 2 {
				t.Errorf("%v, exit code %d\n%s", err, code, out)
			}
		})
	}
	_, path := running(t, "127.0.0.1:0", func(o *admin.Options) { o.Status = ill })
	out, _, code := call("status", "-c", path)
	if code != 0 || !strings.HasPrefix(out, "FILE NOT IN FORCE: proxyd.yaml:41:5: routs: unknown key; did you mean routes?\nDEGRADED: pool asia") || !strings.Contains(out, "still serves 9 tunnels") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// The admin key is found in a file that is faulty elsewhere: then it is most
// wanted.
func TestCommandsFindTheDaemonOfAFaultyFile(t *testing.T) {
	bound, _ := running(t, "127.0.0.1:0", func(*admin.Options) {})
	path := file(t, "routs: []\nadmin: {address: \""+bound+"\"}\n")
	if out, errOut, code := call("status", "-c", path); code != 0 || !strings.HasPrefix(out, "ok\n") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
}

func TestCommandsWithoutADaemon(t *testing.T) {
	nobody := freeAddress(t)
	gone, off, broken := file(t, "admin: "+nobody+"\n"), file(t, "admin: \"\"\n"), file(t, "admin: [\n")
	for _, cmd := range [][]string{{"status"}, {"status", "--watch"}, {"reload"}, {"reload", "--dry-run"}, {"upgrade"}, {"drain", "tokyo-1"}, {"resume", "tokyo-1", "okx"}, {"route", "--live", "a.example"}} {
		for path, says := range map[string]string{
			gone:   "nothing answers at the admin address " + nobody + ": is proxyd running?",
			off:    `the admin server is off (admin: "")`,
			broken: "or name the address: --admin ADDR",
		} {
			if out, errOut, code := call(append(cmd, "-c", path)...); code != 1 || !strings.Contains(errOut, says) || out != "" {
				t.Errorf("%v: exit code %d, want %q in\n%s%s", cmd, code, says, out, errOut)
			}
		}
	}
}

func TestReload(t *testing.T) {
	report := admin.Report{File: "p.yaml", Changes: []string{"+ pool asia", "~ exchanges.okx.http: asia → direct"}, Warnings: []string{"unlisted hosts: DIRECT (no default)"}}
	_, path := running(t, "127.0.0.1:0", func(o *admin.Options) {
		o.Reload = func(_ context.Context, dryRun bool) admin.Report {
			r := report
			r.Applied = !dryRun && len(r.Faults) == 0
			return r
		}
	})
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"applied", nil, "+ pool asia\n~ exchanges.okx.http: asia → direct\nwarning: unlisted hosts: DIRECT (no default)\np.yaml: loaded, 2 changes\n"},
		{"dry run", []string{"--dry-run"}, "+ pool asia\n~ exchanges.okx.http: asia → direct\nwarning: unlisted hosts: DIRECT (no default)\np.yaml: ok, 2 changes to come\n"},
	} {
		if out, errOut, code := call(append([]string{"reload", "-c", path}, c.args...)...); code != 0 || out != c.want {
			t.Errorf("%s: exit code %d\n%s%s", c.name, code, out, errOut)
		}
	}
	report = admin.Report{}
	if out, _, code := call("reload", "-c", path); code != 0 || out != "built-in defaults: loaded, no change\n" {
		t.Errorf("no change: exit code %d\n%s", code, out)
	}
	report = admin.Report{File: "p.yaml", Faults: []string{"p.yaml:1:1: routs: unknown key", "p.yaml:2:1: x: y"}}
	for _, flag := range []string{"--dry-run", "--dry-run=false"} {
		out, errOut, code := call("reload", "-c", path, flag)
		if code != 1 || out != "p.yaml:1:1: routs: unknown key\np.yaml:2:1: x: y\n" || errOut != "proxyd: rejected; nothing has changed\n" {
			t.Errorf("rejected: exit code %d\n%s%s", code, out, errOut)
		}
	}
	out, errOut, code := call("reload", "-c", path, "--format", "json")
	var got admin.Report
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || len(got.Faults) != 2 || got.Applied || errOut != "" {
		t.Errorf("%v, exit code %d\n%s%s", err, code, out, errOut)
	}
}

func TestUpgrade(t *testing.T) {
	_, path := running(t, "127.0.0.1:0", func(o *admin.Options) {
		o.Upgrade = func(_ context.Context, move bool, progress func(string)) error {
			progress("starting /usr/bin/proxyd")
			if move {
				progress("moved 3 of 3 tunnels")
				return nil
			}
			return errors.New("the new process did not come up")
		}
	})
	if out, errOut, code := call("upgrade", "--move", "-c", path); code != 0 || out != "starting /usr/bin/proxyd\nmoved 3 of 3 tunnels\ndone\n" {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	if out, errOut, code := call("upgrade", "-c", path); code != 1 || out != "starting /usr/bin/proxyd\n" || errOut != "proxyd: the new process did not come up\n" {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	_, path = running(t, "127.0.0.1:0", func(*admin.Options) {})
	if _, errOut, code := call("upgrade", "-c", path); code != 1 || !strings.Contains(errOut, "stop and start it") {
		t.Errorf("one that cannot: exit code %d: %s", code, errOut)
	}
}

func TestDrainAndResume(t *testing.T) {
	_, path := running(t, "127.0.0.1:0", func(o *admin.Options) {
		o.Drain = func(upstream, _ string, _ bool) error {
			if upstream != "tokyo-1" {
				return errors.New("there is no upstream " + upstream)
			}
			return nil
		}
	})
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"drain", "tokyo-1"}, 0, "tokyo-1: no new connections; tunnels stay\n"},
		{[]string{"drain", "tokyo-1", "okx"}, 0, "tokyo-1 for okx: no new connections; tunnels stay\n"},
		{[]string{"resume", "tokyo-1", "okx"}, 0, "tokyo-1 for okx: in use again\n"},
		{[]string{"drain", "tokio-1"}, 1, "proxyd: there is no upstream tokio-1\n"},
		{[]string{"drain"}, 2, "Run 'proxyd --help'"},
		{[]string{"resume", "a", "b", "c"}, 2, "Run 'proxyd --help'"},
	} {
		if out, errOut, code := call(append(c.args, "-c", path)...); code != c.code || !strings.Contains(out+errOut, c.says) {
			t.Errorf("%v: exit code %d\n%s%s", c.args, code, out, errOut)
		}
	}
}

func TestRouteLive(t *testing.T) {
	_, path := running(t, "127.0.0.1:0", func(*admin.Options) {})
	out, errOut, code := call("route", "--live", "-c", path, "stream.binance.com:9443")
	if code != 0 || strings.Count(out, "member") != 3 || strings.Contains(out, "geheim-7") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	live, _, _ := call("route", "--live", "-c", path, "--format", "json", "api.binance.com", "a.example")
	still, _, _ := call("route", "-c", path, "--format", "json", "api.binance.com", "a.example")
	if live != still {
		t.Errorf("live:\n%s\nnot live:\n%s", live, still)
	}
	if _, _, code := call("route", "--live", "-c", path, "api.kraken.com"); code != 1 {
		t.Errorf("a refused host: exit code %d", code)
	}
	if _, errOut, code := call("route", "--live", "-c", path, "--listener", "127.0.0.1:1", "a.example"); code != 2 || !strings.Contains(errOut, "127.0.0.1:8877") {
		t.Errorf("a strange listener: exit code %d: %s", code, errOut)
	}
	if _, errOut, code := call("route", "--admin", "127.0.0.1:1", "a.example"); code != 2 || !strings.Contains(errOut, "--live") {
		t.Errorf("--admin alone: exit code %d: %s", code, errOut)
	}
}

// A daemon that does not want to be asked is no fault of the call.
func TestRefusedByTheDaemon(t *testing.T) {
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", "proxyd")
		http.Error(w, "set admin.token", http.StatusUnauthorized)
	}))
	defer daemon.Close()
	address := strings.TrimPrefix(daemon.URL, "http://")
	for _, args := range [][]string{{"reload"}, {"route", "--live", "a.example"}} {
		if _, errOut, code := call(append(args, "--admin", address)...); code != 1 || !strings.Contains(errOut, "set admin.token") {
			t.Errorf("%v: exit code %d: %s", args, code, errOut)
		}
	}
}

// What the daemon has found out about a member stands behind it.
func TestRouteShowsWhatIsKnownOfAMember(t *testing.T) {
	var out strings.Builder
	way := admin.Route{Host: "a.example", Port: 443, Members: []admin.RouteMember{{Name: "tokyo-1", URL: "http://h.example:1", Weight: 1, Enabled: true, State: "ejected (for 3 s, at least 12 s left): upstream_refused"}}}
	if err := writeRoutes(&out, []admin.Route{way}, "text"); err != nil || !strings.Contains(out.String(), "tokyo-1  http://h.example:1  ejected (for 3 s, at least 12 s left): upstream_refused\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

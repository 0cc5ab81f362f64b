package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/feed"
	"proxyd/internal/printable"
)

// --watch goes on, through a time without a daemon too, until it is ended.
func TestStatusWatch(t *testing.T) {
	_, path := running(t, "127.0.0.1:0", func(*admin.Options) {})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(os.Args[0], "status", "--watch", "--format", "json", "-c", path) //nolint:gosec // this test's own binary
	cmd.Env = append(os.Environ(), asProxyd+"=1")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(r)
	for i := range 2 {
		var s admin.Status
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &s) != nil || s.PID != 42 {
			t.Fatalf("line %d: %s", i, lines.Text())
		}
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
				for _, want := range []string{"binance", "bad-1", "ejected (for 3 s, at least 12 s left)", "good-1", "okx http: ok (for 1 min ", "1.2.3, ready, up 1 h 30 min, generation 2, pid 42", "/etc/proxyd/proxyd.yaml", "127.0.0.1:8877, this machine only"} {
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

// illStatus is a status with something of everything, and long names.
func illStatus(now time.Time) admin.Status {
	s := well()
	long := strings.Repeat("very_long_exchange_", 3)
	s.Headlines = []string{"BAD: binance_futures websocket: 0 tunnels (40 until 10:17:56), 240 refused in 1 min: upstream_denied by tokyo-1, tokyo-2"}
	s.Exchanges = []feed.Exchange{
		{
			Exchange: "binance_futures", Kind: "websocket", Configured: true, State: feed.Lost, Lost: 40, Since: now.Add(-time.Minute),
			Text: "0 tunnels (40 until 10:17:56), 240 refused in 1 min: upstream_denied by tokyo-1, tokyo-2",
			Hint: "tokyo-1, tokyo-2 refuse this exchange: ask the provider, or use another upstream; proxyd probe binance_futures tries each",
		},
		{Exchange: long, Kind: "websocket", State: feed.OK, Counts: feed.Counts{Tunnels: 12_345}},
		{Exchange: "okx", Kind: "http", State: feed.Idle},
		{Exchange: "kraken", Kind: "http", State: feed.NoTraffic}, {Exchange: "kraken", Kind: "websocket", State: feed.NoTraffic},
		{Kind: "websocket", State: feed.NoTraffic}, // as after an upgrade: nothing is expected of hosts of no exchange
		{Kind: "http", State: feed.NoTraffic, Counts: feed.Counts{Failed: 8, LastFailure: &feed.Failure{Class: "denied"}}},
	}
	s.Tunnels = []admin.Count{
		{Exchange: long, Kind: "websocket", Upstream: strings.Repeat("an-upstream-", 9), Tunnels: 12_345, Down: feed.Rate{Second: 123_456_789}, LastByte: now.Add(-26 * time.Hour), Failed: 99_999},
	}
	s.Upstreams[0].Name, s.Upstreams[0].URL = strings.Repeat("an-upstream-", 9), "socks5://"+strings.Repeat("host.", 30)+"example:1080"
	s.Budgets = []admin.Budget{{Exit: strings.Repeat("exit", 20), Exchange: long, Kind: "websocket", Limit: "300/5m, 20 open", Watched: true, Remaining: 7}, {Exit: strings.Repeat("exit", 20), Exchange: long, Kind: "websocket", Limit: "10/5m, 16 open", Whole: "300/5m, 500 open"}}
	return s
}

// A table fits 80 columns however long names are, and all of a status is there: what
// is lost with what to do, the feeds, what has no traffic.
func TestStatusFits80Columns(t *testing.T) {
	t.Parallel()
	now := time.Now()
	v := statusView{layout: layout{width: 80}, now: now}
	v.status(illStatus(now))
	text := v.String()
	for i, line := range strings.Split(text, "\n") {
		if len(line) > 80 && i > 0 {
			t.Errorf("line %d has %d columns: %s", i, len(line), line)
		}
	}
	at := 0
	for _, want := range []string{
		"BAD: binance_futures websocket: 0 tunnels", "\nLOST binance_futures websocket since ", "  what to do: tokyo-1, tokyo-2 refuse this exchange",
		"STATE EXCHANGE", "\nlost  binance_futures    websocket -", "\nok    very_long_excha... websocket an-upstream...   12345 123 MB  1d2h  99999\n",
		"\nidle  okx", "\nrefused only: hosts of no exchange http (8 in 1 h, denied); proxyd's log names\n", "no traffic yet: kraken\n", "UPSTREAM", " 10/5m, 16 open ", "of 300/5m, 500 open", "\nproxyd    1.2.3",
	} {
		i := strings.Index(text[at:], want)
		if i < 0 {
			t.Fatalf("no %q after byte %d in\n%s", want, at, text)
		}
		at += i
	}
}

// Exchanges that are lost, and that no client has asked for, take a line together.
func TestStatusOfLossesThatNoClientMisses(t *testing.T) {
	s := admin.Status{Headlines: []string{"BAD: ..."}}
	for _, name := range []string{"aevo", "alpaca", "okx"} {
		for _, kind := range []string{"http", "websocket"} {
			e := feed.Exchange{Exchange: name, Kind: kind, State: feed.Lost, Since: time.Now(), Text: "0 tunnels, since 10:17:56: no upstream", Cause: "no upstream"}
			if name == "okx" && kind == "http" {
				e.Failed = 7
			}
			s.Exchanges = append(s.Exchanges, e)
		}
	}
	v := statusView{layout: layout{width: 80}, now: time.Now()}
	v.status(s)
	out := v.String()
	for _, want := range []string{"  okx http: 0 tunnels, since 10:17:56\n", "  unused: aevo, alpaca, okx websocket\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if n := strings.Count(out, "aevo"); n != 1 {
		t.Errorf("aevo stands %d times in\n%s", n, out)
	}
}

// A row whose tunnels are open again, and one that goes on with something wrong, are
// neither ok nor only lost.
func TestStatusNamesRowsThatRetryAndThoseThatAreDegraded(t *testing.T) {
	t.Parallel()
	s := admin.Status{
		Exchanges: []feed.Exchange{
			{Exchange: "okx", Kind: "websocket", State: feed.Lost, Retrying: true, Cause: "x", Counts: feed.Counts{Tunnels: 3, Opened: 3}},
			{Exchange: "bybit", Kind: "http", State: feed.OK, Cause: "x", Counts: feed.Counts{Opened: 3}},
		},
		Tunnels: []admin.Count{{Exchange: "okx", Kind: "websocket", Upstream: "a", Tunnels: 3}, {Exchange: "bybit", Kind: "http", Upstream: "b"}},
	}
	v := statusView{layout: layout{width: 80}, now: time.Now()}
	v.status(s)
	for _, want := range []string{"\nretrying okx      websocket a ", "\ndegraded bybit    http      b "} {
		if !strings.Contains(v.String(), want) {
			t.Errorf("no %q in\n%s", want, v.String())
		}
	}
}

// Exchanges that are lost for one cause share a paragraph, with what to do once; what
// line 1 says in full is not said again.
func TestStatusJoinsLossesOfOneCause(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := well()
	lost := func(id, cause string) feed.Exchange {
		return feed.Exchange{
			Exchange: id, Kind: "websocket", State: feed.Lost, Lost: 6, Since: now, Cause: cause,
			Text: "0 tunnels (6 until 10:17:56), 18 refused in 1 min: " + cause, Hint: "proxyd probe " + id,
		}
	}
	s.Headlines = []string{"BAD: bybit websocket, okx websocket: 0 tunnels, 12 lost, since 10:17:56: upstream_refused by paris-1"}
	s.Exchanges = []feed.Exchange{lost("bybit", "upstream_refused by paris-1"), lost("okx", "upstream_refused by paris-1")}
	at := " since " + printable.Clock(now, now)
	for _, want := range []string{ // two, then one
		"\nLOST" + at + ": upstream_refused by paris-1\n  bybit websocket: 0 tunnels (6 until 10:17:56), 18 refused in 1 min\n" +
			"  okx websocket: 0 tunnels (6 until 10:17:56), 18 refused in 1 min\n  what to do: proxyd probe bybit\n",
		"\nLOST bybit websocket" + at + "\n  what to do: proxyd probe bybit\n",
	} {
		v := statusView{layout: layout{width: 80}, now: now}
		v.lost(s)
		if v.String() != want {
			t.Errorf("%q, want %q", v.String(), want)
		}
		s.Exchanges = s.Exchanges[:1]
		s.Headlines = []string{"BAD: bybit websocket: " + s.Exchanges[0].Text}
	}
}

// Of an exchange that is silent through one upstream, the feed through another one
// that goes on is not called silent.
func TestStatusCallsOnlySilentFeedsSilent(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := well()
	s.Exchanges = []feed.Exchange{{Exchange: "okx", Kind: "websocket", State: feed.Silent, Counts: feed.Counts{Tunnels: 6}}}
	s.Tunnels = []admin.Count{
		{Exchange: "okx", Kind: "websocket", Upstream: "paris-1", Tunnels: 3},
		{Exchange: "okx", Kind: "websocket", Upstream: "paris-2", Tunnels: 3, Silent: true},
	}
	v := statusView{layout: layout{width: 80}, now: now}
	v.feeds(s)
	if text := v.String(); !strings.Contains(text, "\nok     okx      websocket paris-1") || !strings.Contains(text, "\nsilent okx      websocket paris-2") {
		t.Error(text)
	}
}

// A frame writes over the last one without clearing the screen first, and leaves
// nothing of it; it is no higher than the screen.
func TestFrameOverwritesTheLastOne(t *testing.T) {
	t.Parallel()
	if got, want := frame("one\ntwo\n", 24), "\x1b[Hone\x1b[K\ntwo\x1b[K\x1b[J"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := frame("1\n2\n3\n4\n", 3), "\x1b[H1\x1b[K\n2\x1b[K\n... (more without --watch)\x1b[K\x1b[J"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
)

// write puts text into a file called proxyd.yaml and gives its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxyd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, text string, environ ...string) *config.Config {
	t.Helper()
	c, err := config.Load(write(t, text), environ)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return c
}

// faults loads a faulty file and gives its faults without the path.
func faults(t *testing.T, text string, environ ...string) []string {
	t.Helper()
	path := write(t, text)
	_, err := config.Load(path, environ)
	if err == nil {
		t.Fatalf("loads without a fault:\n%s", text)
	}
	return strings.Split(strings.ReplaceAll(err.Error(), path, "proxyd.yaml"), "\n")
}

func TestThreeSimplestWishesInThreeLines(t *testing.T) {
	one := load(t, `exchanges: {binance: "socks5://u:${TOKYO_PW}@tokyo.example:1080"}`, "TOKYO_PW=p@/:w")
	p := pool(t, one, one.Exchanges[0].Ways.HTTP.Pool)
	if got := p.Proxies[0].URL; got.Host.Name != "tokyo.example" || got.Port != 1080 || got.Password.Reveal() != "p@/:w" || got.User.Reveal() != "u" {
		t.Errorf("got %v with password %q", got, got.Password.Reveal())
	}
	if one.Exchanges[0].Ways.Websocket.Pool != p.Name || one.Default != (config.Ways{}) {
		t.Error("a plain string must mean both kinds, and leave the default open")
	}
	two := load(t, `default: http://proxy.example:3128`)
	if two.Default.HTTP.Action != config.Use || two.Default.Websocket.Action != config.Use {
		t.Errorf("got %+v", two.Default)
	}
	three := load(t, "default: reject\nexchanges: {binance: \"socks5://tokyo.example:1080\", kraken: direct}\n")
	if three.Default.HTTP.Action != config.Reject || three.Exchanges[1].Ways.HTTP.Action != config.Direct {
		t.Errorf("got %+v, %+v", three.Default, three.Exchanges[1])
	}
}

func pool(t *testing.T, c *config.Config, name string) config.Pool {
	t.Helper()
	for _, p := range c.Pools {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no pool %q", name)
	return config.Pool{}
}

func TestBuiltInDefaults(t *testing.T) {
	c, err := config.Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Listen) != 2 || c.Listen[0].Address != "127.0.0.1:8877" || c.Listen[1].Address != "[::1]:8877" || !c.Listen[0].Default {
		t.Errorf("listen: %+v", c.Listen)
	}
	if !c.Enabled || c.Drain != 10*time.Second || c.Attempt != 1500*time.Millisecond || c.Admin.Address != "127.0.0.1:8878" || c.Log.Level != "info" {
		t.Errorf("got %+v", c)
	}
}

func TestCryptofeedBlockIsReadUnchanged(t *testing.T) {
	c := load(t, `
proxy:
  enabled: true
  default:
    http: {url: http://proxy.example:3128}
  exchanges:
    binance:
      http: {url: "socks5://10.0.0.1:1080", timeout_seconds: 30}
      websocket:
        pool:
          strategy: round_robin
          proxies:
            - url: socks5://10.0.0.2:1080
            - {url: "socks5://10.0.0.3:1080", weight: 2}
drain_seconds: 3
`)
	if len(c.Exchanges) != 1 || c.Exchanges[0].Ways.HTTP.Timeout != 30*time.Second || c.Drain != 3*time.Second {
		t.Errorf("got %+v", c.Exchanges)
	}
	if p := pool(t, c, c.Exchanges[0].Ways.Websocket.Pool); len(p.Proxies) != 2 || p.Proxies[1].Weight != 2 {
		t.Errorf("got %+v", p)
	}
}

func TestTenFaultsTenLines(t *testing.T) {
	got := faults(t, `listen: 0.0.0.0:8877
log: {level: loud}
drain_seconds: -1
enabled: 3
pools:
  asia: {strategy: round_robbin, proxies: ["socks5://tokyo.example"]}
  empty: {proxies: []}
exchanges:
  binanse: asia
  kraken: azia
  okx: {http: {timeout_seconds: 5s, url: direct}}
routs: []
`)
	want := []string{
		"proxyd.yaml:1:9: listen: ", "proxyd.yaml:2:14: log.level: ", "proxyd.yaml:3:16: drain_seconds: ", "proxyd.yaml:4:10: enabled: ",
		"proxyd.yaml:6:20: pools.asia.strategy: ", "proxyd.yaml:6:44: pools.asia.proxies[0]: ", "proxyd.yaml:7:3: pools.empty", "proxyd.yaml:9:3: exchanges.binanse: ",
		"proxyd.yaml:10:11: exchanges.kraken: ", "proxyd.yaml:11:33: exchanges.okx.http.timeout_seconds: ", "proxyd.yaml:12:1: routs: ",
	}
	if len(got) != len(want) {
		t.Fatalf("got %d lines, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("line %d:\n got %s\nwant %s…", i, got[i], want[i])
		}
	}
	for i, hint := range map[int]string{4: "round_robin", 7: "did you mean binance?", 8: "did you mean asia?", 10: "did you mean routes?"} {
		if !strings.Contains(got[i], hint) {
			t.Errorf("line %d lacks %q: %s", i, hint, got[i])
		}
	}
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		environ    []string
	}{
		"empty file":              {"", "is empty", nil},
		"only a comment":          {"# nothing\n", "is empty", nil},
		"list at the top":         {"- a\n", "must be a mapping", nil},
		"tab":                     {"pools:\n\tasia: 1\n", "spaces", nil},
		"two documents":           {"enabled: true\n---\nenabled: false\n", "second document", nil},
		"alias":                   {"default: &x direct\nexchanges: {okx: *x}\n", "aliases", nil},
		"key twice":               {"exchanges:\n  okx: direct\n  OKX: reject\n", "also set in line 2", nil},
		"alias and id":            {"exchanges: {binance_usdm: direct, binance_futures: reject}\n", "same exchange", nil},
		"rest and http":           {"exchanges: {okx: {http: direct, rest: reject}}\n", "keep one", nil},
		"level off, out":          {"log: {drain_seconds: 3}\n", "top-level key drain_seconds", nil},
		"level off, in":           {"grace_seconds: 3\n", "stop.grace_seconds", nil},
		"missing variable":        {"default: \"http://u:${NOPE}@h:1\"\n", `"NOPE" is not set`, nil},
		"missing secret file":     {"default: \"http://u:${file:/nonexistent/x}@h:1\"\n", "/nonexistent/x cannot be read", nil},
		"no port":                 {"default: http://proxy.example\n", "needs a host and a port", nil},
		"bad scheme":              {"default: sock5://h:1\n", "did you mean socks5", nil},
		"URL with a path":         {"default: http://h:1/x\n", "path or a query", nil},
		"url and pool":            {"pools: {a: {proxies: [direct]}}\ndefault: {url: direct, pool: a}\n", "both url and pool", nil},
		"via circle":              {"pools:\n  a: {via: b, proxies: [\"http://h:1\"]}\n  b: {via: a, proxies: [\"http://h:2\"]}\n", "circle", nil},
		"one name, two upstreams": {"pools: {a: {proxies: [{name: x, url: \"http://h:1\"}, {name: x, url: \"http://h:2\"}]}}\n", "called x already", nil},
		"pool called direct":      {"pools: {direct: {proxies: [direct]}}\n", "may not be called direct", nil},
		"own address as upstream": {"default: http://127.0.0.1:8877\n", "own listen address", nil},
		"number for text":         {"default: 8080\n", "put it in quotes", nil},
		"control character":       {"default: \"http://u:${PW}@h:1\"\n", "control character", []string{"PW=a\r\nb"}},
		"unknown variable":        {"enabled: true\n", "env PROXYD_LISTN: listn: unknown key", []string{"PROXYD_LISTN=1"}},
		"variable out of range":   {"enabled: true\n", "env PROXYD_DRAIN_SECONDS: drain_seconds: ", []string{"PROXYD_DRAIN_SECONDS=-4"}},
		"another program's file":  {"proxy: {default: {http: {url: direct}}}\nredis: {host: x}\n", "copy the proxy block", nil},
		"bad budget":              {"pools: {a: {proxies: [direct], limits: {connects: 300}}}\n", "must be text", nil},
		"user without a password": {"listen: {address: \"0.0.0.0:1\", auth: {users: [{name: a}]}}\n", "is empty", nil},
		"route without a way":     {"routes: [{hosts: [a.example]}]\n", "has no way", nil},
		"timeout of the way":      {"default: {url: direct, timeout_seconds: 0.5}\n", "from 1 to 300", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(faults(t, c.text, c.environ...), "\n")
			if !strings.Contains(got, c.want) {
				t.Errorf("got %s\nwant it to contain %q", got, c.want)
			}
		})
	}
	if _, err := config.Load("/nonexistent/proxyd.yaml", nil); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	c := load(t, "exchanges: {binance: \"http://file.example:1\", kraken: {http: \"http://file.example:1\"}}\n",
		"PROXYD_EXCHANGES__BINANCE__WEBSOCKET__URL=socks5://env.example:2",
		"PROXYD_EXCHANGES__OKX__HTTP__POOL__PROXIES__0__URL=http://a.example:3",
		"PROXYD_EXCHANGES__OKX__HTTP__POOL__PROXIES__1__URL=http://b.example:3",
		`PROXYD_POOLS={"eu": {"proxies": ["http://eu.example:4"]}}`,
		"PROXYD_EXCHANGES__KRAKEN__HTTP__POOL=eu",
		"PROXYD_DRAIN_SECONDS=2.5", "PROXYD_SERVICE_HOST=10.0.0.1", "PROXYD_PORT_8877_TCP=tcp://10.0.0.1:8877", "PROXYD_ADMIN_SERVICE_PORT=1",
		"CRYPTOFEED_PROXY_EXCHANGES__BINANCE__HTTP__URL=http://lost.example:5",
		"CRYPTOFEED_PROXY_EXCHANGES__BYBIT__HTTP__URL=http://cf.example:5", "CRYPTOFEED_PROXY_ENABLED=false",
	)
	host := func(w *config.Way) string {
		if w == nil {
			return ""
		}
		return pool(t, c, w.Pool).Proxies[0].URL.Host.Name
	}
	ways := map[string]config.Ways{}
	for _, x := range c.Exchanges {
		ways[x.ID] = x.Ways
	}
	for what, got := range map[string][2]string{
		"the file's own":        {host(ways["binance"].HTTP), "file.example"},
		"one kind laid over":    {host(ways["binance"].Websocket), "env.example"},
		"a pool by index":       {host(ways["okx"].HTTP), "a.example"},
		"pool replaces url":     {host(ways["kraken"].HTTP), "eu.example"},
		"cryptofeed's variable": {host(ways["bybit"].HTTP), "cf.example"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: got %q, want %q", what, got[0], got[1])
		}
	}
	if c.Drain != 2500*time.Millisecond || !c.Enabled || len(pool(t, c, ways["okx"].HTTP.Pool).Proxies) != 2 {
		t.Errorf("drain %v, enabled %v", c.Drain, c.Enabled)
	}
}

func TestViaIsPushedDownToMembers(t *testing.T) {
	c := load(t, `
pools:
  corp: {strategy: failover, proxies: ["http://px1.example:3128"]}
  eu: {via: corp, proxies: ["socks5://a.example:1", direct]}
exchanges:
  kraken: {url: "socks5://fra.example:1080", via: corp}
  okx: {pool: eu, via: "http://other.example:8"}
`)
	eu := pool(t, c, "eu")
	if eu.Proxies[0].Via == nil || eu.Proxies[0].Via.Pool != "corp" || eu.Proxies[1].Via != nil {
		t.Errorf("eu: %+v", eu.Proxies)
	}
	if k := pool(t, c, "exchanges.kraken"); k.Proxies[0].Via.Pool != "corp" {
		t.Errorf("kraken: %+v", k.Proxies)
	}
	if o := pool(t, c, "exchanges.okx"); o.Proxies[0].Name != "a.example:1 via other.example:8" {
		t.Errorf("okx: %+v", o.Proxies)
	}
}

func TestSameUpstreamSameName(t *testing.T) {
	c := load(t, `
pools:
  a: {proxies: ["http://h.example:1", {name: two, url: "http://h.example:2"}]}
  b: {proxies: ["http://h.example:1", "http://h.example:2", "http://other@h.example:1"]}
`)
	var names []string
	for _, p := range append(pool(t, c, "a").Proxies, pool(t, c, "b").Proxies...) {
		names = append(names, p.Name)
	}
	if got, want := strings.Join(names, " "), "h.example:1 two h.example:1 two h.example:1#2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNoSecretInFaultsOrPrint(t *testing.T) {
	const secret = "CANARY-pa55"
	for _, text := range []string{
		"default: \"http://user:CANARY-pa55@host\"\n", "default: \"foo://user:CANARY-pa55@h:1\"\n", "default: \"http://user:CANARY-pa55%zz@h:1\"\n",
		"default: \"http://user:CANARY-pa55@h:99999\"\n", "default: \"http://user:CANARY-pa55/x@h:1\"\n", "default: {pool: \"http://user:CANARY-pa55@h:1\"}\n",
		"exchanges: {okx: {http: {url: \"socks5://:CANARY-pa55@h:1\"}}}\n",
	} {
		if got := strings.Join(faults(t, text), "\n"); strings.Contains(got, secret) {
			t.Errorf("%s: the fault shows it: %s", text, got)
		}
	}
	c := load(t, "default: \"http://CANARY-pa55:CANARY-pa55@h.example:1\"\nlisten: {address: \"127.0.0.1:1\", auth: {users: [{name: a, password: CANARY-pa55}]}}\nadmin: {token: CANARY-pa55}\n")
	if got := config.Print(c); strings.Contains(got, secret) || !strings.Contains(got, "***") {
		t.Errorf("printed: %s", got)
	}
}

func TestPrintedConfigurationLoads(t *testing.T) {
	full, err := os.ReadFile("../../configs/proxyd.full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := load(t, string(full), "ASIA_PASSWORD=x", "BOT_PASSWORD=y", "ADMIN_TOKEN=z")
	again := load(t, config.Print(c))
	if got, want := config.Print(again), config.Print(c); got != want {
		t.Errorf("printed again it differs:\n%s\n---\n%s", got, want)
	}
}

func TestHostileYAMLIsRefusedFast(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ",") + "]\n"
	}
	for name, text := range map[string]string{
		"alias bomb": bomb, "deep": strings.Repeat("[", 9000), "deep mapping": strings.Repeat("{a: ", 300) + strings.Repeat("}", 300), "large": "x: " + strings.Repeat("y", 10<<20),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			faults(t, text)
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("default: direct\n")
	f.Add("exchanges: {binance: {http: {pool: {proxies: [\"socks5://u:p@h:1\"]}}}}\n")
	f.Add("proxy: {enabled: true}\nlisten: [{address: \"127.0.0.1:0\"}]\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "f.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := config.Load(path, nil); err == nil {
			config.Print(c)
		}
	})
}

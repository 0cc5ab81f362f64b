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

// loadErrors loads an invalid file and returns its errors without the path.
func errs(t *testing.T, text string, environ ...string) []string {
	t.Helper()
	path := write(t, text)
	_, err := config.Load(path, environ)
	if err == nil {
		t.Fatalf("loads without an error:\n%s", text)
	}
	return strings.Split(strings.ReplaceAll(err.Error(), path, "proxyd.yaml"), "\n")
}

func TestShortestConfigurations(t *testing.T) {
	one := load(t, `exchanges: {binance: "socks5://u:${TOKYO_PW}@tokyo.example:1080"}`, "TOKYO_PW=p@/:w")
	p := pool(t, one, one.Exchanges[0].Outbounds.HTTP.Pool)
	if got := p.Proxies[0].URL; got.Host.Name != "tokyo.example" || got.Port != 1080 || got.Password.Reveal() != "p@/:w" || got.User.Reveal() != "u" {
		t.Errorf("got %v with password %q", got, got.Password.Reveal())
	}
	if one.Exchanges[0].Outbounds.Websocket.Pool != p.Name || one.Default != (config.Outbounds{}) {
		t.Error("a plain string must mean both kinds, and leave the default open")
	}
	two := load(t, `default: http://proxy.example:3128`)
	if two.Default.HTTP.Action != config.Use || two.Default.Websocket.Action != config.Use {
		t.Errorf("got %+v", two.Default)
	}
	three := load(t, "default: reject\nexchanges: {binance: \"socks5://tokyo.example:1080\", kraken: direct}\n")
	if three.Default.HTTP.Action != config.Reject || three.Exchanges[1].Outbounds.HTTP.Action != config.Direct {
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

func TestMissingFile(t *testing.T) {
	_, err := config.Load("/nonexistent/proxyd.yaml", nil)
	if want := "/nonexistent/proxyd.yaml: does not exist; create it, or run without it for the built-in defaults"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err = config.Load(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a directory: %v", err)
	}
}

func TestPoolViaAppliesToMembers(t *testing.T) {
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

func TestNoSecretInErrorsOrPrint(t *testing.T) {
	const secret = "CANARY-pa55"
	for _, text := range []string{
		"default: \"http://user:CANARY-pa55@host\"\n", "default: \"foo://user:CANARY-pa55@h:1\"\n", "default: \"http://user:CANARY-pa55%zz@h:1\"\n",
		"default: \"http://user:CANARY-pa55@h:99999\"\n", "default: \"http://user:CANARY-pa55/x@h:1\"\n", "default: {pool: \"http://user:CANARY-pa55@h:1\"}\n",
		"exchanges: {okx: {http: {url: \"socks5://:CANARY-pa55@h:1\"}}}\n",
	} {
		if got := strings.Join(errs(t, text), "\n"); strings.Contains(got, secret) {
			t.Errorf("%s: the error shows it: %s", text, got)
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

// The fingerprint is that of the content of the file, of its lists and of its rows for
// the catalogue, wherever the file is.
func TestFingerprintIsOfContent(t *testing.T) {
	t.Parallel()
	load := func(text string) *config.Config {
		c, err := config.Load(write(t, text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, same, other := load("default: direct\n"), load("default: direct\n"), load("default: direct # \n")
	if a.Fingerprint() != same.Fingerprint() || a.Fingerprint() == other.Fingerprint() || len(a.Fingerprint()) != 32 {
		t.Errorf("%s, %s, %s", a.Fingerprint(), same.Fingerprint(), other.Fingerprint())
	}
	if a.RealPath() == same.RealPath() || a.RealPath() == "" {
		t.Errorf("%q, %q", a.RealPath(), same.RealPath())
	}
	seen := map[string]string{a.Fingerprint(): "no list"}
	for _, text := range []string{"192.0.2.1:80\n", "192.0.2.1:80\n192.0.2.2:80\n", "192.0.2.1:80 # x\n"} {
		path := listed(t, asiaList, text)
		c, err := config.Load(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := config.LoadWith(path, nil, config.Options{NoSecrets: true}); err != nil || again.Fingerprint() != c.Fingerprint() {
			t.Errorf("a list's content has two fingerprints, or none: %v", err)
		}
		if with := seen[c.Fingerprint()]; with != "" {
			t.Errorf("%q has the fingerprint of %q", text, with)
		}
		seen[c.Fingerprint()] = text
	}
	for _, text := range []string{"x,a.example,http,live,docs\n", "x,b.example,http,live,docs\n"} {
		path := write(t, "catalog: rows.csv\n")
		save(t, filepath.Join(filepath.Dir(path), "rows.csv"), "exchange,host,kind,env,sources\n"+text)
		c, err := config.Load(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if with := seen[c.Fingerprint()]; with != "" {
			t.Errorf("%q has the fingerprint of %q", text, with)
		}
		seen[c.Fingerprint()] = text
	}
	if builtIn, err := config.Load("", nil); err != nil || builtIn.Fingerprint() != "" || builtIn.RealPath() != "" {
		t.Errorf("the built-in defaults: %v", err)
	}
}

// Of the environment, what sets a key counts, in any order; where the daemon is asked
// and what it logs does not.
func TestEnvironmentFingerprint(t *testing.T) {
	t.Parallel()
	of := config.EnvironmentFingerprint
	for _, other := range [][]string{nil, {"HOME=/root", "PROXYD_CONFIG=x", "PROXYD_ADMIN=127.0.0.1:1", "PROXYD_LOG__LEVEL=debug", "PROXYD_SERVICE_HOST=10.0.0.1", "CRYPTOFEED_PROXY_DEFAULT=direct"}} {
		if got := of(other); got != "" {
			t.Errorf("%v: %s", other, got)
		}
	}
	a := of([]string{"PROXYD_DEFAULT=reject", "X=1", "PROXYD_WATCH=false"})
	if a == "" || a != of([]string{"PROXYD_WATCH=false", "proxyd_default=reject"}) || a == of([]string{"PROXYD_DEFAULT=direct", "PROXYD_WATCH=false"}) {
		t.Error(a)
	}
}

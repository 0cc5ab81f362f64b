package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/config"
)

// describe returns where outbounds lead: "http websocket", each by the members of its pool.
func describe(c *config.Config, w config.Outbounds) string {
	one := func(w *config.Outbound) string {
		switch {
		case w == nil:
			return "-"
		case w.Action == config.Direct:
			return "direct"
		case w.Action == config.Reject:
			return "reject"
		}
		for _, p := range c.Pools {
			if p.Name == w.Pool {
				var hosts []string
				for _, m := range p.Proxies {
					hosts = append(hosts, strings.TrimSuffix(m.URL.Authority(), ".example:1"))
				}
				return strings.Join(hosts, "+")
			}
		}
		return "?"
	}
	return one(w.HTTP) + " " + one(w.Websocket)
}

// What a variable means, and which of two sources wins: PROXYD_, then the file,
// then CRYPTOFEED_PROXY_.
func TestEnvironment(t *testing.T) {
	const (
		p     = "PROXYD_"
		cf    = "CRYPTOFEED_PROXY_"
		pools = "pools: {asia: {proxies: [\"http://a.example:1\", \"http://b.example:1\"]}}\n"
	)
	for name, c := range map[string]struct {
		file    string
		environ []string
		okx     string // the outbounds of the exchange, "http websocket"
		def     string // those of default
	}{
		"key that the file lacks":         {"watch: true\n", []string{p + "EXCHANGES__OKX__HTTP__URL=http://e.example:1"}, "e -", "- -"},
		"text for a whole outbound":       {"watch: true\n", []string{p + "EXCHANGES__OKX=http://e.example:1"}, "e e", "- -"},
		"both prefixes":                   {"watch: true\n", []string{p + "DEFAULT=reject", cf + "EXCHANGES__OKX__HTTP__URL=http://e.example:1"}, "e -", "reject reject"},
		"indices":                         {"watch: true\n", []string{p + "DEFAULT__HTTP__POOL__PROXIES__0__URL=http://x.example:1", p + "DEFAULT__HTTP__POOL__PROXIES__1=http://y.example:1"}, "", "x+y -"},
		"index replaces an item":          {pools + "default: asia\n", []string{p + "POOLS__ASIA__PROXIES__1=http://y.example:1"}, "", "a+y a+y"},
		"index adds an item":              {pools + "default: asia\n", []string{p + "POOLS__ASIA__PROXIES__2=http://c.example:1"}, "", "a+b+c a+b+c"},
		"JSON mapping":                    {"watch: true\n", []string{p + `DEFAULT={"http": "direct", "websocket": {"url": "http://e.example:1"}}`}, "", "direct e"},
		"JSON beside what the file has":   {"default: reject\n", []string{p + `DEFAULT={"http": "direct"}`}, "", "direct reject"},
		"JSON null takes nothing away":    {"default: reject\nexchanges: {okx: {http: reject}}\n", []string{p + `DEFAULT={"http": null}`, p + `EXCHANGES={"okx": null, "kraken": "direct"}`}, "reject -", "reject reject"},
		"JSON for another exchange":       {"exchanges: {okx: {http: reject}}\n", []string{p + `EXCHANGES={"okx": {"ws": "direct"}, "kraken": "direct"}`}, "reject direct", "- -"},
		"JSON with a pool removes url":    {pools + "default: {http: {url: direct}}\n", []string{p + `DEFAULT={"http": {"pool": "asia"}}`}, "", "a+b -"},
		"JSON for an item":                {pools + "default: asia\n", []string{p + `POOLS__ASIA__PROXIES__1={"url": "http://y.example:1"}`}, "", "a+y a+y"},
		"JSON for a new item":             {pools + "default: asia\n", []string{p + `POOLS__ASIA__PROXIES__2={"url": "http://y.example:1", "weight": 2}`}, "", "a+b+y a+b+y"},
		"JSON list":                       {pools + "default: asia\n", []string{p + `POOLS__ASIA__PROXIES=["http://x.example:1", {"url": "http://y.example:1", "weight": 2}]`}, "", "x+y x+y"},
		"PROXYD over the file":            {"exchanges: {okx: direct}\n", []string{p + "EXCHANGES__OKX=reject"}, "reject reject", "- -"},
		"one kind over a whole outbound":  {"exchanges: {okx: direct}\n", []string{p + "EXCHANGES__OKX__HTTP=reject"}, "reject direct", "- -"},
		"text replaces a mapping":         {"exchanges: {okx: {http: direct, websocket: direct}}\n", []string{p + "EXCHANGES__OKX=reject"}, "reject reject", "- -"},
		"the file over cryptofeed":        {"exchanges: {okx: {http: direct}}\n", []string{cf + "EXCHANGES__OKX__HTTP__URL=http://e.example:1"}, "direct -", "- -"},
		"text for both kinds too":         {"exchanges: {okx: direct}\n", []string{cf + "EXCHANGES__OKX__HTTP__URL=http://e.example:1"}, "direct direct", "- -"},
		"a mapping for both kinds too":    {"exchanges: {okx: {url: direct}}\n", []string{cf + "EXCHANGES__OKX__HTTP__URL=http://e.example:1"}, "direct direct", "- -"},
		"and a pool":                      {pools + "default: {pool: asia}\n", []string{cf + "DEFAULT__WEBSOCKET__URL=http://e.example:1"}, "", "a+b a+b"},
		"cryptofeed fills what is open":   {"exchanges: {okx: {http: direct}}\n", []string{cf + "EXCHANGES__OKX__WEBSOCKET__URL=http://e.example:1"}, "direct e", "- -"},
		"null is open":                    {"exchanges: {okx: {http: null}}\n", []string{cf + "EXCHANGES__OKX__HTTP__URL=http://e.example:1"}, "e -", "- -"},
		"PROXYD over cryptofeed":          {"watch: true\n", []string{p + "DEFAULT__HTTP__URL=http://p.example:1", cf + "DEFAULT__HTTP__URL=http://e.example:1"}, "", "p -"},
		"order of the list is no matter":  {"watch: true\n", []string{cf + "DEFAULT__HTTP__URL=http://e.example:1", p + "DEFAULT__HTTP__URL=http://p.example:1"}, "", "p -"},
		"PROXYD over the other spelling":  {"exchanges: {okx: {rest: direct, ws: direct}}\n", []string{p + "EXCHANGES__OKX__HTTP=reject"}, "reject direct", "- -"},
		"the other spelling over file":    {"exchanges: {okx: {http: direct, websocket: direct}}\n", []string{p + "EXCHANGES__OKX__WS__URL=reject"}, "direct reject", "- -"},
		"other spelling over cryptofeed":  {"exchanges: {okx: {rest: direct}}\n", []string{cf + "EXCHANGES__OKX__HTTP__URL=http://e.example:1"}, "direct -", "- -"},
		"PROXYD over an alias":            {"exchanges: {okex: direct}\n", []string{p + "EXCHANGES__OKX__HTTP=reject"}, "reject direct", "- -"},
		"an alias over cryptofeed":        {"exchanges: {okex: {http: direct}}\n", []string{cf + "EXCHANGES__OKX__HTTP__URL=http://e.example:1"}, "direct -", "- -"},
		"pool removes url":                {pools + "default: {http: {url: direct}}\n", []string{p + "DEFAULT__HTTP__POOL=asia"}, "", "a+b -"},
		"pool removes a plain outbound":   {pools + "default: {http: direct}\n", []string{p + "DEFAULT__HTTP__POOL=asia"}, "", "a+b -"},
		"url removes pool":                {pools + "default: {http: {pool: asia}}\n", []string{p + "DEFAULT__HTTP__URL=direct"}, "", "direct -"},
		"url removes an inline pool":      {"default: {http: {pool: {proxies: [\"http://a.example:1\"]}}}\n", []string{p + "DEFAULT__HTTP__URL=direct"}, "", "direct -"},
		"inline pool removes url":         {"default: {http: {url: direct}}\n", []string{p + "DEFAULT__HTTP__POOL__PROXIES__0=http://x.example:1"}, "", "x -"},
		"inline pool removes a name":      {pools + "default: {http: {pool: asia}}\n", []string{p + "DEFAULT__HTTP__POOL__PROXIES__0=http://x.example:1"}, "", "x -"},
		"cryptofeed's url removes none":   {pools + "default: {http: {pool: asia}}\n", []string{cf + "DEFAULT__HTTP__URL=http://e.example:1"}, "", "a+b -"},
		"cryptofeed's pool removes none":  {"default: {http: {url: direct}}\n", []string{cf + "DEFAULT__HTTP__POOL__PROXIES__0__URL=http://e.example:1"}, "", "direct -"},
		"pool called port":                {"default: port\n", []string{p + "POOLS__PORT__PROXIES__0=http://x.example:1"}, "", "x x"},
		"pool called service_eu":          {"default: service_eu\n", []string{p + "POOLS__SERVICE_EU__PROXIES__0=http://x.example:1"}, "", "x x"},
		"pools called as keys are":        {"pools: {http: {proxies: [\"http://a.example:1\"]}}\ndefault: {http: http, ws: rest}\n", []string{p + "POOLS__REST__PROXIES__0=http://x.example:1"}, "", "a x"},
		"Kubernetes' service links":       {"default: reject\n", []string{p + "SERVICE_HOST=10.0.0.1", p + "SERVICE_PORT=1", p + "SERVICE_PORT_PROXY=1", p + "PORT=tcp://10.0.0.1:1", p + "PORT_1_TCP=x", p + "PORT_1_TCP_ADDR=x", p + "ADMIN_SERVICE_HOST=x", p + "FEED_EU_PORT_1_TCP_PROTO=tcp"}, "", "reject reject"},
		"PROXYD_CONFIG is not a key":      {"default: reject\n", []string{p + "CONFIG=/nonexistent.yaml"}, "", "reject reject"},
		"cryptofeed's switch is not read": {"default: reject\n", []string{cf + "ENABLED=false"}, "", "reject reject"},
		"nor is it checked":               {"default: reject\n", []string{cf + "ENABLED=perhaps"}, "", "reject reject"},
		"names of others":                 {"default: reject\n", []string{"MYPROXYD_X=1", "PROXYDX=1", "CRYPTOFEED_X=1", "="}, "", "reject reject"},
	} {
		t.Run(name, func(t *testing.T) {
			loaded := load(t, c.file, c.environ...)
			okx := ""
			for _, x := range loaded.Exchanges {
				if x.ID == "okx" {
					okx = describe(loaded, x.Outbounds)
				}
			}
			if okx != c.okx || describe(loaded, loaded.Default) != c.def {
				t.Errorf("okx %q, default %q; want %q, %q", okx, describe(loaded, loaded.Default), c.okx, c.def)
			}
			if !loaded.Enabled {
				t.Error("it is switched off")
			}
		})
	}
}

// A variable for a key inside of what the file writes short replaces that part.
func TestEnvironmentBelowShortSpellings(t *testing.T) {
	c := load(t, "admin: 127.0.0.1:9001\nlisten: [\"127.0.0.1:1\"]\npools: {asia: {proxies: [\"http://a.example:1\"], limits: {connects: 1/1s}}}\nexchanges: {okx: {http: direct, limits: published}, bybit: {http: direct, limits: {connects: 1/1s}}}\n",
		"PROXYD_ADMIN__ADDRESS=127.0.0.1:9002", "PROXYD_LISTEN__0__ADDRESS=127.0.0.1:2", "PROXYD_POOLS__ASIA__PROXIES__0__WEIGHT=7",
		"PROXYD_EXCHANGES__BYBIT__LIMITS=published", "PROXYD_EXCHANGES__OKX__LIMITS__CONNECTS=3/1s", "PROXYD_LOG={\"level\": \"debug\"}")
	asia := pool(t, c, "asia")
	got := []any{c.Admin.Address, c.Listen[0].Address, asia.Proxies[0].URL.Host.Name, int(asia.Proxies[0].Weight), c.Exchanges[1].Limits.HTTP.Published, c.Exchanges[0].Limits.HTTP.Published, c.Exchanges[0].Limits.HTTP.Connects, c.Log.Level}
	want := []any{"127.0.0.1:9002", "127.0.0.1:2", "a.example", 7, true, false, 3, "debug"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := load(t, "watch: true\n", "PROXYD_LISTEN=[::1]:8899").Listen; len(got) != 1 || got[0].Address != "[::1]:8899" {
		t.Errorf("text that only looks like JSON: %+v", got)
	}
}

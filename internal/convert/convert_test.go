package convert

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/config"
	"proxyd/internal/proxylist"
	"proxyd/internal/router"
	"proxyd/internal/testkit/routertest"
)

// update writes what comes out into testdata/want. Read the difference before you
// keep it.
var update = flag.Bool("update", false, "write the wanted files in testdata")

// load has the result loaded as proxyd would, with its variables set.
func load(t testing.TB, r *Result) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxyd.yaml")
	if err := os.WriteFile(path, []byte(r.YAML), 0o600); err != nil {
		t.Fatal(err)
	}
	var environ []string
	for _, v := range r.Variables {
		environ = append(environ, v.Name+"="+v.Value.Reveal())
	}
	c, err := config.Load(path, environ)
	if err != nil {
		t.Fatalf("the result is not valid: %v\n%s", err, r.YAML)
	}
	return c
}

func newRouter(t testing.TB, c *config.Config) *router.Router {
	t.Helper()
	return routertest.Of(t, c, nil)
}

// leadsTo returns where a host goes: "reject", "direct", or the members in order with
// their credentials.
func leadsTo(c *config.Config, r *router.Router, host string) string {
	got, err := r.Route(host, 443, router.Hint{})
	switch {
	case err != nil:
		return "reject"
	case got.Pool == r.Set().Direct():
		return "direct"
	}
	p := config.PoolsByName(c)[got.Pool.Name()]
	var list []string
	for _, m := range p.Proxies {
		list = append(list, fmt.Sprintf("%s://%s:%s@%s", m.URL.Scheme, m.URL.User.Reveal(), m.URL.Password.Reveal(), m.URL.Authority()))
	}
	return string(p.Strategy) + " " + strings.Join(list, " ")
}

// shapes are files as people have them, and where their own programs send hosts:
// every host that a rule names, and one that none does.
var shapes = map[string]map[string]string{
	"webshare.txt": {
		"api.binance.com": "round_robin http://qxkzwbmt:hunter2a@38.154.227.167:5868 http://qxkzwbmt:hunter2a@45.127.248.127:5128 http://qxkzwbmt:hunter2a@198.23.239.134:6540 http://qxkzwbmt:hunter2a@207.244.217.165:6712",
	},
	"userpass-at.txt": {
		"api.binance.com": "round_robin http://customer-acme-cc-jp:hunter2b:x@gate.provider.example:7777 http://customer-acme-cc-sg:hunter2b:x@gate.provider.example:7777 http://customer-acme-cc-hk:hunter2d@hk.provider.example:7777",
	},
	"userpass-first.txt": {"api.binance.com": "round_robin http://acme:1080@203.0.113.10:3128 http://acme:1081@203.0.113.11:3128 http://acme:hunter2e@203.0.113.12:3128"},
	"proxies.csv":        {"api.binance.com": `round_robin socks5://acme:hunter2f,"x"@203.0.113.21:1080 http://acme:hunter2f,"x"@203.0.113.22:3128`},
	"dotenv.env": {
		"api.binance.com": "round_robin http://acme:hunter2g@proxy.corp.example:3128", "corp.example": "direct", "a.b.corp.example": "direct", "10.1.2.3": "direct",
		"kraken.com": "direct", "api.kraken.com": "direct", "stream.binance.com": "round_robin socks5h://acme:hunter2h@tokyo.example:1080",
	},
	"clash.yaml": {
		"stream.binance.com": "round_robin socks5://acme:hunter2i@tokyo-1.example:1080 https://acme:20240101@fra.example:443",
		"binance.com":        clashBackup, "api.binance.com": clashBackup,
		"okx.com": "round_robin https://acme:20240101@fra.example:443", "ws.okx.com": "round_robin https://acme:20240101@fra.example:443",
		"ads.example": "reject", "sub.ads.example": clashAuto, "192.168.3.4": "direct", "fd00::1": "direct", "kraken.com": "direct", "api.kraken.com": "direct",
		"api.kucoin.com": clashAuto,
	},
	"mihomo.yaml": {
		"www.okx.com": mihomoAuto, "okx.com": mihomoAuto, "bybit.com": "round_robin socks5://:@de.example:1080", "api.bybit.com": "round_robin socks5://:@de.example:1080",
		"hk.example": "reject", "x.hk.example": "reject", "binance.com": mihomoAuto, "api.binance.com": mihomoAuto, "relay.example": "reject", "api.kucoin.com": mihomoAuto,
	},
	"mihomo-providers.yaml": {
		"bybit.com": "round_robin socks5://:@jp-1.example:1080", "api.bybit.com": mihomoSingapore, "okx.com": "round_robin socks5://:@jp-1.example:1080", "ws.okx.com": "round_robin socks5://:@jp-1.example:1080",
		"kraken.com":    "failover socks5://:@jp-1.example:1080 http://:@us-9.example:3128 socks5://:@us-1.example:1080",
		"ws.kraken.com": "failover socks5://:@jp-1.example:1080 http://:@us-9.example:3128 socks5://:@us-1.example:1080",
		"gate.io":       "reject", "api.gate.io": "reject", "outside.example": "reject",
		"api.kucoin.com": "round_robin socks5://:@jp-1.example:1080 socks5://acme:hunter2r@sg-1.example:1080 http://acme:hunter2r@sg-2.example:8080 socks5://:@us-1.example:1080 http://:@us-9.example:3128",
	},
	"squid.conf": {
		"bitflyer.com": squidJP, "api.bitflyer.com": squidJP, "bitbank.cc": squidJP, "stream.bitbank.cc": squidJP, "api.coincheck.com": squidJP, "coincheck.com": squidRest,
		"binance.com": squidBinance, "api.binance.com": squidBinance, "binance.vision": squidBinance, "data.binance.vision": squidBinance, "corp.example": "direct", "git.corp.example": "direct",
		"10.9.8.7": "direct", "api.kucoin.com": squidRest,
	},
	"gost-v2.sh":   {"api.binance.com": "failover socks5://acme:hunter2:o@tokyo-1.example:1080 socks5://acme:hunter2:o@tokyo-2.example:1080"},
	"gost-v3.yaml": {"a.corp.example": "round_robin http://acme:hunter2p@px.corp.example:3128", "10.1.2.3": "round_robin http://acme:hunter2p@px.corp.example:3128", "api.binance.com": "random socks5://acme:hunter2p@tokyo-1.example:1080 https://acme:hunter2q@tokyo-2.example:443"},
}

const (
	clashAuto       = "lowest_latency socks5://acme:hunter2i@tokyo-1.example:1080 socks5://acme:hunter2i@tokyo-2.example:1080"
	clashBackup     = clashAuto + " https://acme:20240101@fra.example:443"
	mihomoAuto      = "failover http://acme:hunter2j@sg.example:8080 socks5://:@de.example:1080"
	mihomoSingapore = "lowest_latency socks5://acme:hunter2r@sg-1.example:1080 http://acme:hunter2r@sg-2.example:8080"
	squidTokyo      = "http://acme:hunter2m%40@tokyo.example:3128"
	squidJP         = "round_robin " + squidTokyo + " http://acme:hunter2m@@osaka.example:3128"
	squidBinance    = "failover " + squidTokyo + " https://:@fra.example:443"
	squidRest       = "round_robin https://:@fra.example:443"
)

// Promise (routing): what proxyd import makes of lists and of other programs'
// configurations is valid, and leads each host that a rule names where that program
// leads it.
func TestImportAgreesWithItsSource(t *testing.T) {
	t.Parallel()
	for name, hosts := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := load(t, golden(t, name))
			r := newRouter(t, c)
			for host, want := range hosts {
				if got := leadsTo(c, r, host); got != want {
					t.Errorf("%s leads to %s, want %s", host, got, want)
				}
			}
			for _, rule := range c.Routes {
				for _, p := range rule.Hosts {
					if !slices.ContainsFunc(slices.Collect(maps.Keys(hosts)), func(host string) bool { return covers(p.String(), host) }) {
						t.Errorf("no host here is for the rule %s", p)
					}
				}
			}
		})
	}
}

// Promise (routing): of gost's bypasses, proxyd import makes routes that lead where gost does; if a whitelist is not whole, what it leaves out is rejected, not sent directly.
func TestImportOfGostBypass(t *testing.T) {
	t.Parallel()
	const first, both = "round_robin http://:@a.example:1", "round_robin http://:@b.example:2"
	for name, c := range map[string]struct {
		source string
		losses int
		hosts  map[string]string
	}{
		"a hop":       {"gost -L=:8080 -F=http://a.example:1?bypass=10.0.0.0/8,localhost,127.0.0.1,*.x.example,.y.example,z.example", 0, map[string]string{"10.1.1.1": "direct", "a.x.example": "direct", "x.example": first, "y.example": "direct", "a.y.example": "direct", "z.example": "direct", "other.example": first}},
		"two hops":    {"gost -L=:8080 -F=http://a.example:1?bypass=x.example -F=http://b.example:2?bypass=y.example", 0, map[string]string{"x.example": "direct", "y.example": first, "other.example": both}},
		"a service":   {"gost -L=:8080?bypass=x.example -F=http://a.example:1?bypass=x.example,y.example", 0, map[string]string{"x.example": "reject", "y.example": "direct", "other.example": first}},
		"whitelist":   {"gost -L=:8080 -F=http://a.example:1?bypass=~x.example", 0, map[string]string{"x.example": first, "other.example": "direct"}},
		"whitelisted": {"gost -L=:8080?bypass=~x.example -F=http://a.example:1", 0, map[string]string{"x.example": first, "other.example": "reject"}},
		"part":        {"gost -L=:8080 -F=http://a.example:1?bypass=~x.example,172.20.0.1-172.30.0.255", 2, map[string]string{"x.example": "reject", "other.example": "reject"}},
		"ranges":      {"gost -L=:8080 -F=http://a.example:1?bypass=x.example,172.20.0.1-172.30.0.255", 1, map[string]string{"x.example": "direct", "other.example": first}},
		"a file":      {"gost -L=:8080 -F=http://a.example:1?bypass=hosts.txt", 1, map[string]string{"other.example": first}},
		"services":    {"gost -L=:8080 -L=:8081?bypass=x.example -F=http://a.example:1", 1, map[string]string{"x.example": first}},
		"apart":       {"gost -L :8080?bypass=x.example -F http://a.example:1", 0, map[string]string{"x.example": "reject", "other.example": first}},
		"of JSON":     {`{"ServeNodes": [":8080?bypass=~x.example"], "ChainNodes": ["http://a.example:1"]}`, 0, map[string]string{"x.example": first, "other.example": "reject"}},
		"of a second": {"gost -L=:8080 -F=http://a.example:1\ngost -L=:8081?bypass=x.example -F=http://b.example:2", 2, map[string]string{"x.example": first}},
		"white files": {"gost -L=:8080 -F=http://a.example:1?bypass=~hosts.list -F=http://b.example:2?bypass=~conf/hosts", 1, map[string]string{"x.example": both, "hosts.list": both}},
		"no hosts":    {"gost -L=:8080 -F=http://a.example:1?bypass=~localhost", 1, map[string]string{"other.example": "reject"}},
		"of YAML":     {"services: [{name: s, addr: ':1', bypass: w, handler: {type: http, chain: c}}]\nchains: [{name: c, hops: [{name: h, bypasses: [b], nodes: [{addr: 'a.example:1', connector: {type: http}}]}]}]\nbypasses: [{name: b, matchers: [x.example]}, {name: w, whitelist: true, matchers: [x.example, y.example]}]\n", 1, map[string]string{"x.example": "reject", "y.example": "reject", "other.example": "reject"}},
		"not served":  {"services: [{name: s, addr: ':1', bypass: b, handler: {type: http, chain: c}}]\nchains: [{name: d, hops: [{nodes: [{addr: 'b.example:2', connector: {type: http}}]}]}, {name: c, hops: [{nodes: [{addr: 'a.example:1', connector: {type: http}}]}]}]\nbypasses: [{name: b, matchers: [x.example]}]\n", 1, map[string]string{"x.example": "reject", "other.example": first}},
		"hopless":     {"services: [{name: s, addr: ':1', bypass: b, handler: {type: http, chain: c}}]\nchains: [{name: c}, {name: d, hops: [{nodes: [{addr: 'a.example:1', connector: {type: http}}]}]}]\nbypasses: [{name: b, matchers: [x.example]}]\n", 0, map[string]string{"x.example": "reject", "other.example": first}},
		"hops alone":  {"services: [{name: s, addr: ':1', bypass: b, handler: {type: http}}]\nhops: [{name: h, nodes: [{addr: 'a.example:1', connector: {type: http}}]}]\nbypasses: [{name: b, matchers: [x.example]}]\n", 0, map[string]string{"x.example": "reject", "other.example": first}},
		"unknown":     {"services: [{name: s, addr: ':1', handler: {type: http, chain: c}}]\nchains: [{name: c, hops: [{name: h, bypass: b, nodes: [{addr: 'a.example:1', connector: {type: http}}]}]}]\nbypasses: [{name: b, redis: {addr: ':2'}}]\n", 1, map[string]string{"x.example": first}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leads(t, Source{Name: "x", Text: []byte(c.source + "\n")}, c.losses, c.hosts)
		})
	}
}

// Promise (routing): where rules of squid are lost, proxyd import sends nothing direct that squid asks a peer for.
func TestImportOfLostRulesOfSquid(t *testing.T) {
	t.Parallel()
	const p, other = "round_robin http://:@p.example:1", "other.example"
	const peers = "cache_peer p.example parent 1 0 name=p\ncache_peer q.example parent 2 0 name=q\nacl ex dstdomain x.example\nacl net src 10.0.0.0/8\nacl CONNECT method CONNECT\nacl re dstdom_regex okx\ncache_peer_access q deny all\n"
	for name, c := range map[string]struct {
		rules  string
		losses int
		hosts  map[string]string
	}{
		"of clients":           {"cache_peer_access p allow net\ncache_peer_access p deny all\nnever_direct allow net\n", 2, map[string]string{other: p}},
		"of clients alone":     {"cache_peer_access p allow net\n", 1, map[string]string{other: p}},
		"of methods":           {"cache_peer_access p allow CONNECT ex\ncache_peer_access p deny all\n", 1, map[string]string{"x.example": p, other: "direct"}},
		"not of clients":       {"cache_peer_access p allow !net ex\n", 1, map[string]string{"x.example": p, other: "direct"}},
		"of names":             {"cache_peer_access p allow re\ncache_peer_access p deny all\n", 1, map[string]string{other: "reject"}},
		"of names, and a peer": {"acl y dstdomain y.example\ncache_peer_access p deny y\ncache_peer_access p allow re\ncache_peer r.example parent 3 0 name=r\n", 1, map[string]string{other: "round_robin http://:@r.example:3"}},
		"not defined":          {"cache_peer_access p allow what\n", 1, map[string]string{other: "reject"}},
		"denied":               {"cache_peer_access p deny re\n", 1, map[string]string{other: p}},
		"always direct":        {"always_direct allow re\n", 1, map[string]string{other: p}},
		"denied always":        {"always_direct deny re\n", 1, map[string]string{other: p}},
		"denied, then allowed": {"always_direct deny re\nalways_direct allow all\n", 1, map[string]string{other: p}},
		"denied for a name":    {"always_direct deny net ex\nalways_direct allow all\n", 1, map[string]string{"x.example": p, other: "direct"}},
		"never direct":         {"cache_peer_access p allow ex\nnever_direct allow net\n", 1, map[string]string{"x.example": p, other: "reject"}},
		"all as in squid 2":    {"acl all src 0.0.0.0/0.0.0.0\ncache_peer_access p allow ex\ncache_peer_access p deny all\nnever_direct allow all\n", 0, map[string]string{"x.example": p, other: "reject"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leads(t, Source{Name: "squid.conf", Text: []byte(peers + c.rules)}, c.losses, c.hosts)
		})
	}
}

// Promise (routing): where rules of Clash are lost, proxyd import sends nothing direct that they send elsewhere, unless another rule names it.
func TestImportOfLostRulesOfClash(t *testing.T) {
	t.Parallel()
	const p, other = "round_robin http://:@p.example:1", "other.example"
	const head = "proxies: [{name: P, type: http, server: p.example, port: 1}]\nproxy-groups: [{name: Out, type: select, proxies: [DIRECT, P]}, {name: Auto, type: fallback, proxies: [P]}]\nrules:\n- DOMAIN,x.example,P\n- DOMAIN,y.example,DIRECT\n"
	for name, c := range map[string]struct {
		rules  string
		losses int
		hosts  map[string]string
	}{
		"to a proxy":           {"- RULE-SET,blocked,P\n- MATCH,DIRECT\n", 2, map[string]string{"x.example": p, "y.example": "direct", other: "reject"}},
		"to a proxy, by names": {"- DOMAIN-KEYWORD,oth,P\n- MATCH,Out\n", 2, map[string]string{other: "reject"}},
		"to a group":           {"- RULE-SET,blocked,Auto\n- MATCH,DIRECT\n", 2, map[string]string{other: "reject"}},
		"to none":              {"- AND,((NETWORK,tcp),(GEOIP,CN)),REJECT\n- MATCH,DIRECT\n", 2, map[string]string{other: "reject"}},
		"without MATCH":        {"- GEOIP,JP,P,no-resolve\n", 2, map[string]string{other: "reject"}},
		"that are direct":      {"- GEOIP,CN,DIRECT,no-resolve\n- RULE-SET,lan,Out\n- MATCH,DIRECT\n", 2, map[string]string{other: "direct"}},
		"of one level":         {"- DOMAIN-REGEX,^[^.]+\\.z\\.example$,DIRECT\n- DOMAIN-SUFFIX,z.example,P\n- MATCH,P\n", 1, map[string]string{"z.example": p, "b.a.z.example": p}},
		"before a proxy":       {"- RULE-SET,blocked,P\n- MATCH,P\n", 1, map[string]string{other: p}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leads(t, Source{Name: "clash.yaml", Text: []byte(head + c.rules)}, c.losses, c.hosts)
		})
	}
}

// leads converts a source, and sees how much of it is lost and where hosts lead.
func leads(t *testing.T, s Source, losses int, hosts map[string]string) {
	t.Helper()
	r, err := Convert(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Losses) != losses {
		t.Errorf("%d losses: %v", len(r.Losses), r.Losses)
	}
	loaded := load(t, r)
	to := newRouter(t, loaded)
	for host, want := range hosts {
		if got := leadsTo(loaded, to, host); got != want {
			t.Errorf("%s leads to %s, want %s\n%s", host, got, want, r.YAML)
		}
	}
}

// covers reports whether a host is one that a pattern of a rule names.
func covers(pattern, host string) bool {
	if rest, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(host, rest)
	}
	if prefix, err := netip.ParsePrefix(pattern); err == nil {
		a, err := netip.ParseAddr(host)
		return err == nil && prefix.Contains(a)
	}
	return pattern == host
}

// golden converts a file of testdata, holds the result against testdata/want, and
// sees that no credential is in it.
func golden(t *testing.T, name string) *Result {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	read := func(path string) ([]byte, error) { return os.ReadFile(filepath.Join("testdata", path)) }
	r, err := Convert(Source{Name: name, Text: text, Read: read})
	if err != nil {
		t.Fatal(err)
	}
	got := r.YAML + "# losses\n"
	for _, l := range r.Losses {
		got += "# " + l.String() + "\n"
	}
	got += "# notes\n"
	for _, n := range r.Notes {
		got += "# " + n + "\n"
	}
	if strings.Contains(got, "hunter2") {
		t.Errorf("a credential is in\n%s", got)
	}
	path := filepath.Join("testdata", "want", name+".yaml")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
	return r
}

// FuzzConvert holds for any text of any kind: no panic, a result that is valid, and no
// canary in it.
func FuzzConvert(f *testing.F) {
	for name := range shapes {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		for i := range proxylist.Kinds {
			f.Add(text, i)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, kind int) {
		if kind < 0 || kind >= len(proxylist.Kinds) || len(text) > 1<<14 {
			return
		}
		r, err := Convert(Source{Name: "x", Text: text, Kind: proxylist.Kinds[kind]})
		if err != nil {
			return
		}
		load(t, r)
	})
}

package router_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/target"
)

// Promise (routing): a host that the catalogue does not list goes where the
// exchange that owns its domain goes.
func TestUnlistedHostFollowsItsDomain(t *testing.T) {
	const stream, plain = "new-stream.binance.com", "new.binance.com"
	refused := "is refused: the catalogue does not list it and default is reject"
	for _, c := range []struct {
		name, file, host, want string
		hint                   router.Hint
	}{
		{"both kinds", "default: direct\nexchanges: {binance: asia}", stream, "binance websocket asia", none},
		{"both kinds, no kind in the name", "default: direct\nexchanges: {binance: asia}", plain, "binance http asia", none},
		{"no default", "exchanges: {binance: asia}", stream, "binance websocket asia", none},
		{"any depth", "exchanges: {binance: asia}", "a.b.c.binance.com", "binance http asia", none},
		{"another domain of the exchange", "exchanges: {kucoin: asia}", "x.kucoin.eu", "kucoin http asia", none},
		{"the domain itself", "exchanges: {kucoin: asia}", "kucoin.com", "kucoin http asia", none},
		{"not a name that only ends so", "exchanges: {kucoin: asia}", "notkucoin.com", "- http direct", none},
		{"a shared domain is no exchange's", "exchanges: {dydx: asia}", "new.kingnodes.com", "- http direct", none},

		{"a label says websocket", "exchanges: {binance: {http: europe, websocket: asia}}", "wsx.binance.com", "binance websocket asia", none},
		{"push", "exchanges: {binance: {http: europe, websocket: asia}}", "push2.binance.com", "binance websocket asia", none},
		{"feed", "exchanges: {binance: {http: europe, websocket: asia}}", "md-feed.binance.com", "binance websocket asia", none},
		{"news is no ws", "exchanges: {binance: {http: europe, websocket: asia}}", "news.binance.com", "binance http europe", none},
		{"the domain's own letters say nothing", "exchanges: {gateio: {http: europe, websocket: asia}}", "new.gateio.ws", "gateio http europe", none},
		{"the kind that is not direct", "default: direct\nexchanges: {binance: {http: direct, websocket: asia}}", plain, "binance websocket asia", none},
		{"the kind that is not direct, http", "default: direct\nexchanges: {binance: {http: asia, websocket: direct}}", plain, "binance http asia", none},
		{"neither is direct", "exchanges: {binance: {http: europe, websocket: asia}}", plain, "binance http europe", none},
		{"the client says the kind", "default: direct\nexchanges: {binance: {http: europe, websocket: asia}}", plain, "binance websocket asia", websocket},
		{"the client says the other kind", "default: direct\nexchanges: {binance: {http: europe, websocket: asia}}", stream, "binance http europe", router.Hint{Kind: catalog.KindHTTP}},

		{"never more direct: reject", "default: reject\nexchanges: {binance: direct}", stream, "refused: target " + stream + " " + refused, none},
		{"never more direct: reject beats a proxy", "default: reject\nexchanges: {binance: asia}", stream, "refused: target " + stream + " " + refused, none},
		{"never more direct: a proxy", "default: europe\nexchanges: {binance: direct}", stream, "binance websocket europe", none},
		{"never more direct: a direct member", "default: europe\nexchanges: {binance: {pool: {proxies: ['http://p.example:1', direct]}}}", stream, "binance websocket europe", none},
		{"never more direct: by the kind it would be without", "default: {http: europe, websocket: direct}\nexchanges: {binance: {websocket: direct}}", stream, "binance websocket europe", none},
		{"both direct", "default: direct\nexchanges: {binance: direct}", stream, "binance websocket direct", none},
		{"a proxy for a proxy", "default: europe\nexchanges: {binance: asia}", stream, "binance websocket asia", none},
		{"reject for an exchange", "default: direct\nexchanges: {binance: reject}", plain,
			"refused: target " + plain + " is refused: the catalogue does not list it, it is taken for binance's by its domain, and exchanges.binance says reject", none},
		{"enabled: false", "enabled: false\ndefault: reject\nexchanges: {binance: asia}", plain, "refused: target " + plain + " " + refused, none},

		{"no entry", "default: europe", stream, "binance websocket europe", none},
		{"one other exchange of the domain", "default: direct\nexchanges: {binance_futures: asia}", stream, "binance_futures websocket asia", none},
		{"several of them", "default: direct\nexchanges: {binance_futures: asia, binance_delivery: europe}", stream, "binance websocket direct", none},
		{"the owner before others", "default: direct\nexchanges: {binance: europe, binance_futures: asia}", stream, "binance websocket europe", none},
		{"an entry without an outbound is none", "default: direct\nexchanges: {binance: {hosts: [x.binance.com]}, binance_futures: asia}", stream, "binance_futures websocket asia", none},

		{"unlisted_hosts: default", "default: direct\nexchanges: {binance: {url: 'http://p.example:1', unlisted_hosts: default}}", stream, "- http direct", none},
		{"unlisted_hosts: default of the owner alone", "default: direct\nexchanges: {binance: {unlisted_hosts: default}, binance_futures: asia}", stream, "- http direct", none},
		{"unlisted_hosts: follow", "default: direct\nexchanges: {binance: {pool: asia, unlisted_hosts: follow}}", stream, "binance websocket asia", none},

		{"a row of the catalogue before it", "exchanges: {binance: asia, binance_futures: europe}", "fstream.binance.com", "binance_futures websocket europe", none},
		{"a row of the user's before it", "exchanges: {binance: asia, venue: {hosts: ['*.com'], pool: europe}}", stream, "venue http europe", none},
		{"a route before it", "exchanges: {binance: asia}\nroutes: [{hosts: ['*.binance.com'], use: direct}]", stream, "binance websocket direct", none},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := found(t, load(t, c.file), c.host, c.hint); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestExplainNamesDomain(t *testing.T) {
	r := load(t, "default: direct\nexchanges: {binance: asia, okx: direct}")
	x := r.Explain("new-stream.binance.com", 443, none)
	if want := "domain binance.com (host not in the catalogue)"; x.Rule != want || x.Route.Domain != "binance.com" || x.Host != "" {
		t.Errorf("got rule %q, domain %q, host %q; want %q", x.Rule, x.Route.Domain, x.Host, want)
	}
	if x.Source != "exchanges.binance" || x.KindFrom != "assumed: a label of the host says so" {
		t.Errorf("got source %q, kind %s", x.Source, x.KindFrom)
	}
	if x := r.Explain("stream.binance.com", 443, none); x.Route.Domain != "" {
		t.Errorf("a host of the catalogue has the domain %q", x.Route.Domain)
	}
	x = r.Explain("new.okx.com", 443, none)
	if want := "domain okx.com (host not in the catalogue): default, since exchanges.okx says direct"; x.Rule != want {
		t.Errorf("got %q, want %q", x.Rule, want)
	}
	x = load(t, "default: reject\nexchanges: {binance: asia}").Explain("new.binance.com", 443, none)
	if denied, ok := errors.AsType[*router.Denied](x.Err); !ok || denied.Domain != "binance.com" || denied.Hint != "list the host under exchanges.binance.hosts or under routes" {
		t.Errorf("got %+v", x.Err)
	}
}

func TestDomainOfSeveralExchangesWarns(t *testing.T) {
	file := "default: direct\nexchanges: {coinbase_exchange: asia, coinbase_prime: europe}"
	want := "hosts of coinbase.com that the catalogue does not list: coinbase_exchange and coinbase_prime have an entry, coinbase, which owns the domain, has none: default (direct); add coinbase"
	r := load(t, file)
	if list := r.Warnings(); len(list) != 2 || list[1] != want {
		t.Errorf("-want +got:\n%s", cmp.Diff([]string{want}, list))
	}
	if list := r.Explain("new.coinbase.com", 443, none).Warnings; len(list) != 2 || list[1] != want {
		t.Errorf("-want +got:\n%s", cmp.Diff([]string{want}, list))
	}
	for _, more := range []string{", coinbase: direct}", ", coinbase: {unlisted_hosts: default}}"} {
		list := load(t, strings.TrimSuffix(file, "}")+more).Warnings()
		for _, w := range list {
			if w == want {
				t.Errorf("with %s it is warned of", more)
			}
		}
	}
}

// Promise (security): a host that only its domain gives to an exchange is never
// sent more directly than default would send it.
func TestDomainIsNeverMoreDirectThanDefault(t *testing.T) {
	const configs, seed = 400, 20261130
	for i := range uint64(configs) {
		d := dice{rand.New(rand.NewPCG(seed, i))}
		c := d.config()
		c.Routes, c.Listen = nil, nil
		r := build(t, c)
		for _, host := range []string{"new.binance.com", "new-stream.binance.com", "wsx.kucoin.eu", "new.gateio.ws", "kucoin.eu"} {
			for _, k := range []catalog.Kind{catalog.KindUnknown, catalog.KindHTTP, catalog.KindWebsocket} {
				h, err := target.ParseHost(host)
				if err != nil {
					t.Fatal(err)
				}
				if listed(c, h) {
					continue
				}
				base := c.Default.HTTP
				if k == catalog.KindWebsocket {
					base = c.Default.Websocket
				}
				got, most := saw(t, r, host, 443, router.Hint{Kind: k}), rank(c, base)
				at := map[bool]int{true: 0, false: 1}[got.refused]
				if got.pool == "direct" {
					at = 2
				}
				if at > most {
					t.Fatalf("seed %d: %s %s: got %+v, default says %d\nof %s", i, host, k, got, most, config.Print(c))
				}
			}
		}
	}
}

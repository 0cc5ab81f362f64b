package router_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const toldApart = "taken as http unless the listener's kind, +websocket in the proxy username or an Upgrade on plain HTTP says otherwise; proxyd env sets WSS_PROXY so for aiohttp and websockets, docs/clients.md has the other clients"

// What start, reload and check say of the rules as a whole.
func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"nothing written", ``, []string{"unlisted hosts: DIRECT (no default)"}},
		{"the default says direct: no doubt", `default: direct`, nil},
		{"a kill-switch: no doubt", "default: reject\nexchanges: {bitstamp: asia}", nil},
		{"one kind of an exchange and no default", `exchanges: {bitstamp: {http: asia}}`, []string{
			"unlisted hosts and bitstamp.websocket: DIRECT (no default)",
		}},
		{"three of them", "exchanges: {bitstamp: {http: asia}, bitvavo: {websocket: asia}}", []string{
			"unlisted hosts, bitstamp.websocket and bitvavo.http: DIRECT (no default)",
		}},
		{"an exchange of one kind lacks no other", "exchanges: {venue: {hosts: {http: [a.v.example]}, http: asia}}", []string{
			"unlisted hosts: DIRECT (no default)",
		}},
		{"a default for one kind", "default: {websocket: direct}", []string{"unlisted hosts (http): DIRECT (no default)"}},
		{"a default for the other kind", "default: {http: direct}", []string{"unlisted hosts (websocket): DIRECT (no default)"}},
		{"* in routes leaves nothing unlisted", "routes: [{hosts: ['*'], use: direct}]", nil},
		{"disabled", "enabled: false\ndefault: asia", []string{
			"enabled is false: what would go through a proxy goes DIRECT; what is refused stays refused",
		}},

		{"a family in part, no default", "exchanges: {kraken: asia}", []string{
			"kraken_futures has no entry: DIRECT (no default); add kraken_futures: asia",
			"unlisted hosts: DIRECT (no default)",
		}},
		{"a family in part, default direct", "default: direct\nexchanges: {binance: asia}", []string{
			"binance_futures, binance_delivery have no entry: default (direct); add binance_futures: asia",
		}},
		{"a family in part, default reject", "default: reject\nexchanges: {binance: asia, binance_delivery: europe}", []string{
			"binance_futures has no entry: default (reject); add binance_futures: asia",
		}},
		{"a family that is whole", "default: direct\nexchanges: {kraken: asia, kraken_futures: europe}", nil},
		{"a family whose entry leaves as the default does", "default: asia\nexchanges: {kraken: asia}", nil},
		{"a family's outbound by kind", "default: direct\nexchanges: {kraken: {http: direct, websocket: asia}, kraken_futures: direct}", nil},
		{"a family's outbound by kind is repeated by kind", "default: direct\nexchanges: {okx: {http: europe, websocket: asia}}", []string{
			"okx_us, okx_eea have no entry: default (direct); add okx_us: {http: europe, websocket: asia}",
		}},
		{"a family's URL is not repeated", "default: direct\nexchanges: {kraken: 'socks5://user:s3cret@one.example:1080'}", []string{
			"kraken_futures has no entry: default (direct); give kraken_futures the outbound of kraken too",
		}},
		{"a client that reaches another's hosts", "default: direct\nexchanges: {gateio_eu: asia}", []string{
			"gateio, gateio_futures have no entry: default (direct); add gateio: asia",
		}},
		{"but not the reverse", "default: direct\nexchanges: {tokocrypto: asia, binance: asia, binance_futures: asia, binance_delivery: asia, gateio: asia, gateio_futures: asia}", nil},
		{"one of many that a client reaches", "default: direct\nexchanges: {tokocrypto: asia}", []string{
			"binance has no entry: default (direct); add binance: asia",
		}},
		{"two families", "default: europe\nexchanges: {kraken: asia, bybit: direct}", []string{
			"kraken_futures has no entry: default (europe); add kraken_futures: asia",
			"bybit_eu has no entry: default (europe); add bybit_eu: direct",
		}},

		{"hosts of both kinds, different outbounds", "default: direct\nexchanges: {bitkub: {http: europe, websocket: asia}}", []string{
			"exchange bitkub: api.bitkub.com serves both kinds, which have different outbounds (http: europe, websocket: asia): " + toldApart,
		}},
		{"only a testnet's host serves both kinds", "default: direct\nexchanges: {binance: {http: europe, websocket: asia}, binance_futures: direct, binance_delivery: direct}", nil},
		{"one URL, written twice", "default: direct\nexchanges: {bitkub: {http: {url: 'http://u:p@a.example:1', timeout_seconds: 5}, websocket: 'http://u:p@a.example:1'}}", nil},
		{"one pool, written twice", "default: direct\nexchanges: {bitkub: {http: ['http://a.example:1', 'http://b.example:1'], websocket: ['http://a.example:1', 'http://b.example:1']}}", nil},
		{"two users of one proxy", "default: direct\nexchanges: {bitkub: {http: 'http://u:p@a.example:1', websocket: 'http://v:p@a.example:1'}}", []string{
			"exchange bitkub: api.bitkub.com serves both kinds, which have different outbounds (http: exchanges.bitkub.http, websocket: exchanges.bitkub.websocket): " + toldApart,
		}},
		{"hosts of both kinds, one outbound", "default: direct\nexchanges: {bitkub: asia}", nil},
		{"hosts of both kinds, the default for one", "default: direct\nexchanges: {bitkub: {websocket: asia}}", []string{
			"exchange bitkub: api.bitkub.com serves both kinds, which have different outbounds (http: direct, websocket: asia): " + toldApart,
		}},
		{"the user's host of both kinds", "default: direct\nexchanges: {venue: {hosts: [a.v.example, '*.b.v.example'], websocket: asia}}", []string{
			"exchange venue: a.v.example and *.b.v.example serve both kinds, which have different outbounds (http: direct, websocket: asia): " + toldApart,
		}},
		{"the user says what it serves", "default: direct\nexchanges: {bitkub: {hosts: {http: [api.bitkub.com]}, http: europe, websocket: asia}}", nil},
		{"many hosts are counted", "default: direct\nexchanges: {huobi: {websocket: asia}, huobi_dm: direct, huobi_swap: direct}", []string{
			"exchange huobi: api-aws.huobi.pro, api.htx.com, api.huobi.pro and 2 more serve both kinds, which have different outbounds (http: direct, websocket: asia): " + toldApart,
		}},
		{"defaults that differ", "default: {http: europe, websocket: asia}", []string{
			"unlisted hosts that serve both kinds, and unknown ones, have different outbounds (http: europe, websocket: asia): " + toldApart,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, load(t, c.file).Warnings()); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

package router_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/router"
)

const (
	nowhere   = " and would go direct, though direct is written nowhere: say "
	byDefault = " and would go direct by default: say "
)

// Promise (routing): a file that is saved without an entry which it had does not
// send that exchange, host or listener out directly, whatever default says.
func TestNewlyDirect(t *testing.T) {
	for _, c := range []struct {
		name, prev, next string
		want             []string
	}{
		{"nothing changes", `exchanges: {bitstamp: asia}`, `exchanges: {bitstamp: asia}`, nil},
		{"an entry is gone", `exchanges: {bitstamp: asia}`, ``, []string{
			"bitstamp went through pool asia" + nowhere + "exchanges.bitstamp: direct",
		}},
		{"an entry is gone, and the default is direct", "default: direct\nexchanges: {bitstamp: asia}", `default: direct`, []string{
			"bitstamp went through pool asia" + byDefault + "exchanges.bitstamp: direct",
		}},
		{"an entry is gone, and direct is written", "default: direct\nexchanges: {bitstamp: asia}", "default: direct\nexchanges: {bitstamp: direct}", nil},
		{"an entry is gone while the default becomes direct", `exchanges: {bitstamp: asia}`, `default: direct`, []string{
			"bitstamp went through pool asia" + byDefault + "exchanges.bitstamp: direct",
		}},
		{"an entry is refused and gone, and the default is direct", "default: direct\nexchanges: {bitstamp: reject}", `default: direct`, []string{
			"bitstamp was refused" + byDefault + "exchanges.bitstamp: direct",
		}},
		{"a kind is gone, and the default is direct", "default: direct\nexchanges: {binance: asia}", "default: direct\nexchanges: {binance: {http: asia}}", []string{
			"binance.websocket went through pool asia" + byDefault + "exchanges.binance.websocket: direct",
		}},
		{"an id is renamed, and the default is direct", "default: direct\nexchanges: {bitstamp: asia}", "default: direct\nexchanges: {bitfinex: asia}", []string{
			"bitstamp went through pool asia" + byDefault + "exchanges.bitstamp: direct",
		}},
		{"an alias for an id", "default: direct\nexchanges: {okx: asia}", "default: direct\nexchanges: {OKEX: asia}", nil},
		{"a route is gone, and the default is direct", "default: direct\nroutes: [{hosts: [a.example, 198.51.100.0/24], use: asia}]", `default: direct`, []string{
			`198.51.100.0/24 went through pool asia` + byDefault + `routes: [{hosts: ["198.51.100.0/24"], use: direct}]`,
			`a.example went through pool asia` + byDefault + `routes: [{hosts: ["a.example"], use: direct}]`,
		}},
		{"a CIDR behind another one is gone", "default: direct\nroutes: [{hosts: [198.51.100.0/24, 198.51.103.0/24], use: direct}, {hosts: [198.51.100.0/22], use: reject}]", "default: direct\nroutes: [{hosts: [198.51.100.0/24, 198.51.103.0/24], use: direct}]", []string{
			`198.51.100.0/22 was refused` + byDefault + `routes: [{hosts: ["198.51.100.0/22"], use: direct}]`,
		}},
		{"a CIDR in two halves", "default: direct\nroutes: [{hosts: ['2001:db8::/32', '::/0'], use: asia}]", "default: direct\nroutes: [{hosts: ['8000::/1', '::/1'], use: asia}]", nil},
		{"a route is gone before one for *", `routes: [{hosts: [a.example], use: asia}, {hosts: ["*"], use: direct}]`, `routes: [{hosts: ["*"], use: direct}]`, []string{
			`a.example went through pool asia and would go direct by the route for *: say routes: [{hosts: ["a.example"], use: direct}]`,
		}},
		{"a venue's host is gone, and the default is direct", "default: direct\nexchanges: {venue: {hosts: [a.v.example, b.v.example], http: asia}}", "default: direct\nexchanges: {venue: {hosts: [a.v.example], http: asia}}", []string{
			`b.v.example (http) went through pool asia` + byDefault + `routes: [{hosts: ["b.v.example"], use: direct}]`,
		}},
		{"unlisted hosts alone no longer follow", "default: direct\nexchanges: {binance: {url: 'http://p.example:1'}}", "default: direct\nexchanges: {binance: {url: 'http://p.example:1', unlisted_hosts: default}}", nil},
		{"another exchange of the domain gets an entry", "default: direct\nexchanges: {binance_futures: asia}", "default: direct\nexchanges: {binance_futures: asia, binance_delivery: europe}", nil},
		{"a listener's use is gone, and the default is direct", "default: direct\nlisten: [{address: '127.0.0.1:1', use: asia}]", "default: direct\nlisten: ['127.0.0.1:1']", []string{
			"what enters at 127.0.0.1:1 went through pool asia and unlisted hosts would go direct by default: give the listener its use, or use: direct",
		}},
		{"a listener's kill switch is gone", "default: direct\nlisten: [{address: '127.0.0.1:1', unlisted: reject}]", "default: direct\nlisten: ['127.0.0.1:1']", []string{
			"what enters at 127.0.0.1:1 and nothing lists was refused and unlisted hosts would go direct by default: give the listener its use, or use: direct",
		}},
		{"the kill switch becomes direct", "default: reject", "default: direct", nil}, // that is written: Loosened reports it
		{"an entry is gone, and the default is a pool", "default: europe\nexchanges: {bitstamp: asia}", `default: europe`, nil},
		{"an entry says direct", `exchanges: {bitstamp: asia}`, `exchanges: {bitstamp: direct}`, nil},
		{"an entry has another outbound", `exchanges: {bitstamp: asia}`, `exchanges: {bitstamp: europe}`, nil},
		{"one kind is gone", `exchanges: {binance: asia}`, `exchanges: {binance: {http: asia}}`, []string{
			"binance.websocket went through pool asia" + nowhere + "exchanges.binance.websocket: direct",
		}},
		{"the only kind is gone", `exchanges: {binance: {websocket: asia}}`, ``, []string{
			"binance.websocket went through pool asia" + nowhere + "exchanges.binance: direct",
		}},
		{"both kinds, with different outbounds", `exchanges: {binance: {http: europe, websocket: reject}}`, ``, []string{
			"binance.http went through pool europe" + nowhere + "exchanges.binance: direct",
			"binance.websocket was refused" + nowhere + "exchanges.binance: direct",
		}},
		{"a URL, and its credentials", `exchanges: {okx: "socks5://u:s3cret@osaka.example:1080"}`, ``, []string{
			"okx went through osaka.example:1080" + nowhere + "exchanges.okx: direct",
		}},
		{"a pool in place", `exchanges: {okx: {pool: {proxies: ["http://a.example:1", "http://b.example:1"]}}}`, ``, []string{
			"okx went through the pool at exchanges.okx" + nowhere + "exchanges.okx: direct",
		}},
		{"it was direct before", `exchanges: {okx: direct}`, ``, nil},
		{"it was direct by enabled: false", "enabled: false\nexchanges: {okx: asia}", ``, nil},
		{"enabled: false is written", `exchanges: {okx: asia}`, "enabled: false\nexchanges: {okx: asia}", nil},
		{"two exchanges, in order", `exchanges: {okx: asia, bitstamp: europe}`, ``, []string{
			"bitstamp went through pool europe" + nowhere + "exchanges.bitstamp: direct",
			"okx went through pool asia" + nowhere + "exchanges.okx: direct",
		}},

		{"the default is gone", `default: asia`, `exchanges: {okx: asia}`, []string{
			"what nothing lists went through pool asia" + nowhere + "default: direct",
		}},
		{"the kill-switch is gone", "default: reject\nexchanges: {okx: asia}", `exchanges: {okx: asia}`, []string{
			"what nothing lists was refused" + nowhere + "default: direct",
		}},
		{"the default is gone for a kind", `default: asia`, `default: {websocket: asia}`, []string{
			"what nothing lists (http) went through pool asia" + nowhere + "default.http: direct",
		}},
		{"the default is gone for websockets", `default: asia`, `default: {http: asia}`, []string{
			"what nothing lists (websocket) went through pool asia" + nowhere + "default.websocket: direct",
		}},
		{"the default is replaced by a route", `default: asia`, `routes: [{hosts: ["*"], use: direct}]`, nil},
		{"the file is emptied", "default: asia\nexchanges: {okx: europe}", ``, []string{
			"what nothing lists went through pool asia" + nowhere + "default: direct",
			"okx went through pool europe" + nowhere + "exchanges.okx: direct",
		}},

		{"a route is gone", `routes: [{hosts: ["*.corp.example", a.example], use: asia}, {hosts: [b.example], use: direct}]`, ``, []string{
			`*.corp.example went through pool asia` + nowhere + `routes: [{hosts: ["*.corp.example"], use: direct}]`,
			`a.example went through pool asia` + nowhere + `routes: [{hosts: ["a.example"], use: direct}]`,
		}},
		{"a route over an exchange's hosts is gone", `routes: [{hosts: ["*.binance.com"], use: asia}]`, ``, []string{
			`*.binance.com went through pool asia` + nowhere + `routes: [{hosts: ["*.binance.com"], use: direct}]`,
		}},
		{"a * is gone", `routes: [{hosts: ["*"], use: asia}]`, ``, []string{
			`* went through pool asia` + nowhere + `routes: [{hosts: ["*"], use: direct}]`,
		}},
		{"a CIDR is gone", `routes: [{hosts: [198.51.100.0/24, 2001:db8::/32], use: reject}]`, ``, []string{
			`198.51.100.0/24 was refused` + nowhere + `routes: [{hosts: ["198.51.100.0/24"], use: direct}]`,
			`2001:db8::/32 was refused` + nowhere + `routes: [{hosts: ["2001:db8::/32"], use: direct}]`,
		}},
		{"half a CIDR is gone", `routes: [{hosts: [198.51.100.0/24], use: reject}]`, `routes: [{hosts: [198.51.100.0/25], use: direct}]`, []string{
			`198.51.100.0/24 was refused` + nowhere + `routes: [{hosts: ["198.51.100.0/24"], use: direct}]`,
		}},
		{"a CIDR is gone and addresses stay refused", "exchanges: {okx: asia}\nroutes: [{hosts: [198.51.100.0/24], use: reject}]", `exchanges: {okx: asia}`, nil},

		{"a venue is gone", `exchanges: {venue: {hosts: {websocket: ["*.v.example"], http: [a.v.example]}, http: reject, websocket: asia}}`, ``, []string{
			"venue.http was refused" + nowhere + "exchanges.venue: direct with its hosts",
			"venue.websocket went through pool asia" + nowhere + "exchanges.venue: direct with its hosts",
		}},
		{"a venue's host is gone", `exchanges: {venue: {hosts: [a.v.example, b.v.example], url: "http://p.example:1"}}`, `exchanges: {venue: {hosts: [a.v.example], url: "http://p.example:1"}}`, []string{
			`b.v.example went through p.example:1` + nowhere + `routes: [{hosts: ["b.v.example"], use: direct}]`,
		}},
		{"a venue of streams is gone, and only they have a default", `exchanges: {venue: {hosts: {websocket: [a.v.example]}, websocket: asia}}`, `default: {websocket: asia}`, []string{
			"venue.websocket went through pool asia" + nowhere + "exchanges.venue: direct with its hosts",
		}},

		{"a listener's use is gone", `listen: [{address: "127.0.0.1:1", use: asia}]`, `listen: ["127.0.0.1:1"]`, []string{
			"what enters at 127.0.0.1:1 went through pool asia and unlisted hosts would go direct, though direct is written nowhere: give the listener its use, or use: direct",
		}},
		{"a listener is gone", `listen: [{address: "127.0.0.1:1", use: asia}, "127.0.0.1:2"]`, `listen: ["127.0.0.1:2"]`, nil},
		{"a listener's address changes, and its use is gone", `listen: [{address: "127.0.0.1:1", use: asia}, "127.0.0.1:2"]`, `listen: ["127.0.0.1:3", "127.0.0.1:2"]`, []string{
			"what enters at 127.0.0.1:1 went through pool asia; it is gone, and at 127.0.0.1:3, which is new, unlisted hosts would go direct, though direct is written nowhere: give the new listener its use, or use: direct",
		}},
		{"a listener's address changes", `listen: [{address: "127.0.0.1:1", use: asia}]`, `listen: [{address: "127.0.0.1:3", use: asia}]`, nil},
		{"a listener's address changes, and direct is written", `listen: [{address: "127.0.0.1:1", use: asia}]`, `listen: [{address: "127.0.0.1:3", use: direct}]`, nil},
		{"a listener without a use changes its address", `listen: ["127.0.0.1:1"]`, `listen: ["127.0.0.1:3"]`, nil},
		{"a listener's use is gone, and there is a default", `listen: [{address: "127.0.0.1:1", use: asia}]`, "listen: [\"127.0.0.1:1\"]\ndefault: europe", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			prev, next := load(t, c.prev), load(t, c.next)
			if d := cmp.Diff(c.want, router.NewlyDirect(prev, next)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if got := router.NewlyDirect(prev, prev); len(got) > 0 {
				t.Errorf("beside itself: %q", got)
			}
		})
	}
	if got := router.NewlyDirect(nil, load(t, ``)); len(got) > 0 {
		t.Errorf("at the start: %q", got)
	}
}

// The end of a kill switch is said, though it is written.
func TestLoosened(t *testing.T) {
	const direct = " and is direct now: what nothing lists leaves from this machine's own address"
	for _, c := range []struct {
		name, prev, next string
		want             []string
	}{
		{"reject", "default: reject", "default: direct", []string{"default was reject" + direct}},
		{"a pool", "default: asia", "default: direct", []string{"default was asia" + direct}},
		{"a URL", "default: 'http://u:s3cret@p.example:1'", "default: direct", []string{"default was a proxy" + direct}},
		{"one kind", "default: reject", "default: {http: reject, websocket: direct}", []string{"default.websocket was reject" + direct}},
		{"both, from different ones", "default: {http: asia, websocket: reject}", "default: direct", []string{"default.http was asia" + direct, "default.websocket was reject" + direct}},
		{"the default is gone", "default: reject", "", nil},
		{"the other direction", "default: direct", "default: reject", nil},
		{"nothing", "default: direct", "default: direct", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, router.Loosened(load(t, c.prev), load(t, c.next))); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

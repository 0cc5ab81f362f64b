package router_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"proxyd/internal/catalog"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

// One spelling of a host has one meaning: all of these are normalised first.
func TestRouteNormalisesHost(t *testing.T) {
	r := load(t, `
default: direct
exchanges:
  binance: asia
  venue: {hosts: ["*.bücher.example", API.Venue.Example.], http: europe}
routes: [{hosts: ["*.Corp.Example.", "::ffff:52.0.0.0/104", "2001:DB8::/32"], use: europe}]
`)
	for _, c := range []struct{ name, host, asHost, want string }{
		{"capitals", "API.Binance.COM", "api.binance.com", "binance http asia"},
		{"one trailing dot", "api.binance.com.", "api.binance.com", "binance http asia"},
		{"capitals and a dot", "Stream.BINANCE.com.", "stream.binance.com", "binance websocket asia"},
		{"an IDN as people write it", "API.Bücher.example", "api.xn--bcher-kva.example", "venue http europe"},
		{"an IDN as the wire has it", "api.XN--BCHER-KVA.example", "api.xn--bcher-kva.example", "venue http europe"},
		{"full-width letters and dots", "ａｐｉ．binance。com", "api.binance.com", "binance http asia"},
		{"the file's spelling", "api.venue.example", "api.venue.example", "venue http europe"},
		{"the file's spelling in a route", "a.corp.example", "a.corp.example", "- http europe"},
		{"IPv6 in brackets", "[2001:db8::9]", "2001:db8::9", "- http europe"},
		{"IPv6 written long", "2001:0DB8:0:0:0:0:0:9", "2001:db8::9", "- http europe"},
		{"a mapped address", "[::ffff:52.1.2.3]", "52.1.2.3", "- http europe"},
		{"a mapped address in hex", "::FFFF:3401:203", "52.1.2.3", "- http europe"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := found(t, r, c.host, none); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if got, err := r.Route(c.host, 443, none); err != nil || got.Target.Host != c.asHost {
				t.Errorf("the upstream is given %q, %v, want %q", got.Target.Host, err, c.asHost)
			}
		})
	}
}

func TestBadTarget(t *testing.T) {
	r := load(t, "default: asia")
	for _, c := range []struct {
		name, host string
		port       uint16
		want       string
	}{
		{"no host", "", 443, "bad: the target has no host"},
		{"port 0", "api.binance.com", 0, "bad: the target's port is not between 1 and 65535"},
		{"a space", "a b", 443, `bad: host "a b" has a space in it`},
		{"two trailing dots", "a.example..", 443, `bad: host "a.example.." has an empty label`},
		{"an address in disguise", "0x7f.1", 443, `bad: host "0x7f.1" ends in a number but is not an IPv4 address of four decimal numbers`},
		{"a zone", "fe80::1%eth0", 443, `bad: host "fe80::1%eth0" has a percent sign in it: zones and escapes are not accepted`},
		{"a wildcard", "*.binance.com", 443, `bad: host "*.binance.com" has a * in it`},
		{"a port in the host", "api.binance.com:443", 443, `bad: host "api.binance.com:443" is not an IPv6 address`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := outcome(t, r, c.host, c.port, none); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			_, err := r.Route(c.host, c.port, none)
			if x := r.Explain(c.host, c.port, none); x.Err == nil || x.Err.Error() != err.Error() || x.Rule != "" {
				t.Errorf("Explain gives %+v, want only the error %v", x, err)
			}
			if errors.Unwrap(err) == nil {
				t.Error("the cause cannot be asked for")
			}
		})
	}
}

// All that a route passes to the pool and the log.
func TestWholeRoute(t *testing.T) {
	r := load(t, `
default: {http: europe, websocket: {pool: europe, timeout_seconds: 2.5}}
exchanges: {binance: {http: {url: "http://one.example:3128", timeout_seconds: 12}, websocket: asia}}
routes: [{hosts: [10.0.0.0/8, "*.corp.example"], use: direct}]
`)
	type route struct {
		Target             upstream.Target
		Rule, Source, Pool string
		Timeout            time.Duration
	}
	for _, c := range []struct {
		name, host string
		hint       router.Hint
		want       route
	}{
		{"an inline outbound", httpHost, none, route{
			upstream.Target{Host: httpHost, Port: 443, Exchange: "binance", Kind: catalog.KindHTTP},
			"exchange binance (catalogue host api.binance.com, http) exchanges.binance.http", "exchanges.binance.http", "exchanges.binance.http", 12 * time.Second,
		}},
		{"a pool, no timeout written", websocketHost, none, route{
			upstream.Target{Host: websocketHost, Port: 443, Exchange: "binance", Kind: catalog.KindWebsocket},
			"exchange binance (catalogue host stream.binance.com, websocket) exchanges.binance.websocket", "exchanges.binance.websocket", "asia", 4 * time.Second,
		}},
		{"the default's timeout", "example.org", websocket, route{
			upstream.Target{Host: "example.org", Port: 443, Kind: catalog.KindWebsocket},
			"default.websocket", "default.websocket", "europe", 2500 * time.Millisecond,
		}},
		{"the default for an exchange", "push9.kucoin.com", none, route{
			upstream.Target{Host: "push9.kucoin.com", Port: 443, Exchange: "kucoin", Kind: catalog.KindWebsocket},
			"default.websocket (exchange kucoin has no entry)", "default.websocket", "europe", 2500 * time.Millisecond,
		}},
		{"an address", "10.1.2.3", none, route{
			upstream.Target{Host: "10.1.2.3", IP: netip.MustParseAddr("10.1.2.3"), Port: 443, Kind: catalog.KindHTTP, Trusted: true, Named: true},
			"routes[0] 10.0.0.0/8", "routes[0].use", "direct", 4 * time.Second,
		}},
		{"a name", "git.corp.example", websocket, route{
			upstream.Target{Host: "git.corp.example", Port: 443, Kind: catalog.KindWebsocket, Trusted: true, Named: true},
			"routes[0] *.corp.example", "routes[0].use", "direct", 4 * time.Second,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := r.Route(c.host, 443, c.hint)
			if err != nil {
				t.Fatal(err)
			}
			flat := route{got.Target, got.Rule, got.Source, got.Pool.Name(), got.Timeout}
			if d := cmp.Diff(c.want, flat, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// Private addresses are open only to a route that names the host and says
// direct: never by *, by a default, or by an exchange's entry.
func TestTrusted(t *testing.T) {
	for _, c := range []struct {
		name, file, host string
		want             bool
	}{
		{"a route that names it", "routes: [{hosts: [x.example], use: direct}]", "x.example", true},
		{"a wildcard", "routes: [{hosts: ['*.example'], use: direct}]", "x.example", true},
		{"a CIDR", "routes: [{hosts: [10.0.0.0/8], use: direct}]", "10.0.0.1", true},
		{"a single address", "routes: [{hosts: [10.0.0.1], use: direct}]", "10.0.0.1", true},
		{"* does not name it", "routes: [{hosts: ['*'], use: direct}]", "x.example", false},
		{"* beside the name in one route", "routes: [{hosts: ['*', x.example], use: direct}]", "x.example", true},
		{"* beside another name in one route", "routes: [{hosts: ['*', y.example], use: direct}]", "x.example", false},
		{"* before the name", "routes: [{hosts: ['*'], use: direct}, {hosts: [x.example], use: direct}]", "x.example", false},
		{"a route behind the one that matches", "routes: [{hosts: [x.example], use: asia}, {hosts: ['*.example'], use: direct}]", "x.example", false},
		{"a route through a proxy", "routes: [{hosts: [x.example], use: asia}]", "x.example", false},
		{"a route through a proxy, disabled", "enabled: false\nroutes: [{hosts: [x.example], use: asia}]", "x.example", false},
		{"the default", "default: direct", "x.example", false},
		{"nothing written", "", "x.example", false},
		{"an exchange's entry", "exchanges: {venue: {hosts: [x.example], http: direct}}", "x.example", false},
		{"a listener's use", "listen: [{address: 127.0.0.1:7000, use: direct}]", "x.example", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := load(t, c.file).Route(c.host, 443, router.Hint{Listener: "127.0.0.1:7000"})
			if err != nil {
				t.Fatal(err)
			}
			if got.Target.Trusted != c.want {
				t.Errorf("trusted is %v by %s", got.Target.Trusted, got.Rule)
			}
		})
	}
}

// Port 25 is refused whatever the rules say, and no other.
func TestMailPort(t *testing.T) {
	r := load(t, "listen: [{address: 127.0.0.1:7000, use: direct}]\ndefault: asia\nroutes: [{hosts: [mail.example, 10.0.0.0/8], use: direct}]")
	for _, host := range []string{"mail.example", "10.0.0.1", httpHost, "example.org"} {
		want := "refused: target " + host + " is refused on port 25, which is for mail"
		for _, listener := range []string{"", "127.0.0.1:7000"} {
			if got := outcome(t, r, host, 25, router.Hint{Listener: listener}); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
		for _, port := range []uint16{1, 24, 26, 465, 65535} {
			if _, err := r.Route(host, port, none); err != nil {
				t.Errorf("%s:%d: %v", host, port, err)
			}
		}
	}
}

// What a refused client is advised to do.
func TestDeniedHint(t *testing.T) {
	for _, c := range []struct{ name, file, host, rule, want string }{
		{"a host of no exchange", "default: reject", "x.example", "default", "list it under exchanges, as http or websocket, such as my_venue: {hosts: {websocket: [HOST]}, pool: asia}, or under routes"},
		{"an exchange", "default: reject", httpHost, "default (exchange binance has no entry)", `add "binance: direct" (or a pool, or a proxy's URL) under exchanges`},
		{"an exchange whose family has an outbound", "default: reject\nexchanges: {binance: asia}", "fapi.binance.com", "default (exchange binance_futures has no entry)",
			`add "binance_futures: asia" under exchanges: binance, of the same family, has it`},
		{"a family's outbound with a password is not repeated", "default: reject\nexchanges: {binance: 'socks5://user:s3cret@one.example:1080'}", "fapi.binance.com", "default (exchange binance_futures has no entry)",
			"add binance_futures under exchanges, with the outbound that binance, of the same family, has"},
		{"a kind without an outbound", "default: reject\nexchanges: {binance: {websocket: asia}}", httpHost, "default (exchange binance has no http outbound)", `add "http: asia" to exchanges.binance`},
		{"a kind without an outbound, the other refused", "default: reject\nexchanges: {binance: {websocket: reject}}", httpHost, "default (exchange binance has no http outbound)", `add "http: direct" to exchanges.binance`},
		{"an exchange with hosts alone", "default: reject\nexchanges: {venue: {hosts: [x.example]}}", "x.example", "default (exchange venue has no outbound)", `add "http: direct" to exchanges.venue`},
		{"a route", "routes: [{hosts: [y.example], use: asia}, {hosts: [x.example], use: reject}]", "x.example", "routes[1] x.example", "to let it out, change routes[1] or put a route before it"},
		{"an entry", "exchanges: {binance: {http: reject}}", httpHost, "exchange binance (catalogue host api.binance.com, http) exchanges.binance.http", "to let it out, change exchanges.binance.http"},
		{"a listener", "listen: [{address: 127.0.0.1:7000, use: reject}]", httpHost, "listener 127.0.0.1:7000 use", "to let it out, change listen[0].use"},
		{"an address", "default: direct\nexchanges: {binance: asia}", "52.1.2.3", "an address without a name", "use socks5h:// or http://, or list the CIDR under routes"},
		{"an address, reject by default", "default: reject", "52.1.2.3", "default", "use socks5h:// or http:// in the client, so that it sends the name, or list the CIDR under routes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.file).Route(c.host, 443, router.Hint{Listener: "127.0.0.1:7000"})
			var denied *router.Denied
			if !errors.As(err, &denied) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if denied.Rule != c.rule || denied.Hint != c.want || denied.Target.Host != c.host || denied.Target.Port != 443 {
				t.Errorf("got rule %q, hint %q, target %v\nwant %q, %q", denied.Rule, denied.Hint, denied.Target, c.rule, c.want)
			}
		})
	}
}

// Hosts of the catalogue that the tables rely on; TestCatalogueIsAsAssumed
// holds them, so that a new edition of the data does not empty a test.
const (
	httpHost      = "api.binance.com"
	websocketHost = "stream.binance.com"
	bothHost      = "api.gateio.ws"
)

func TestCatalogueIsAsAssumed(t *testing.T) {
	for _, c := range []struct {
		host, exchange string
		kind           catalog.Kind
	}{
		{httpHost, "binance", catalog.KindHTTP},
		{websocketHost, "binance", catalog.KindWebsocket},
		{bothHost, "gateio", catalog.KindBoth},
		{"api.kucoin.com", "kucoin", catalog.KindHTTP},
		{"push9.kucoin.com", "kucoin", catalog.KindWebsocket},
		{"fapi.binance.com", "binance_futures", catalog.KindHTTP},
		{"dapi.binance.com", "binance_delivery", catalog.KindHTTP},
	} {
		if exchange, kind, _ := catalog.Embedded().Lookup(c.host); exchange != c.exchange || kind != c.kind {
			t.Errorf("%s is %s %s in the catalogue, want %s %s", c.host, exchange, kind, c.exchange, c.kind)
		}
	}
}

// The kind of a connection: what the host serves; only where that is both or
// unknown the listener's kind, then what the client says, else http.
func TestKind(t *testing.T) {
	r := load(t, `
listen:
  - 127.0.0.1:7000
  - {address: 127.0.0.1:7001, kind: websocket}
  - {address: 127.0.0.1:7002, kind: http}
default: {http: europe, websocket: asia}
exchanges:
  venue: {hosts: {websocket: [ws.venue.example], http: [api.venue.example]}, http: europe, websocket: asia}
  other: {hosts: [any.venue.example], http: europe, websocket: asia}
`)
	const plain, ws, rest = "127.0.0.1:7000", "127.0.0.1:7001", "127.0.0.1:7002"
	say := func(listener string, k catalog.Kind) router.Hint { return router.Hint{Listener: listener, Kind: k} }
	const unsaid, saysHTTP, saysWS, saysBoth = catalog.KindUnknown, catalog.KindHTTP, catalog.KindWebsocket, catalog.KindBoth
	for _, c := range []struct {
		name, host string
		hint       router.Hint
		want       string
	}{
		{"http host", httpHost, say(plain, unsaid), "binance http europe"},
		{"http host, the client says websocket", httpHost, say(plain, saysWS), "binance http europe"},
		{"http host, the listener says websocket", httpHost, say(ws, saysWS), "binance http europe"},
		{"websocket host", websocketHost, say(plain, unsaid), "binance websocket asia"},
		{"websocket host, the client says http", websocketHost, say(plain, saysHTTP), "binance websocket asia"},
		{"websocket host, the listener says http", websocketHost, say(rest, saysHTTP), "binance websocket asia"},
		{"both, nothing said", bothHost, say(plain, unsaid), "gateio http europe"},
		{"both, the client says websocket", bothHost, say(plain, saysWS), "gateio websocket asia"},
		{"both, the client says http", bothHost, say(plain, saysHTTP), "gateio http europe"},
		{"both, the listener says websocket", bothHost, say(ws, unsaid), "gateio websocket asia"},
		{"both, the listener goes before the client: websocket", bothHost, say(ws, saysHTTP), "gateio websocket asia"},
		{"both, the listener goes before the client: http", bothHost, say(rest, saysWS), "gateio http europe"},
		{"both says nothing", bothHost, say(plain, saysBoth), "gateio http europe"},
		{"unknown host, nothing said", "example.org", say("", unsaid), "- http europe"},
		{"unknown host, the client says websocket", "example.org", say("", saysWS), "- websocket asia"},
		{"unknown host, the listener says websocket", "example.org", say(ws, unsaid), "- websocket asia"},
		{"unknown host, an unknown listener says nothing", "example.org", say("127.0.0.1:9", saysWS), "- websocket asia"},
		{"address, the client says websocket", "192.0.2.1", say(plain, saysWS), "- websocket asia"},
		{"address, the listener says websocket", "192.0.2.1", say(ws, unsaid), "- websocket asia"},
		{"the user's websocket host", "ws.venue.example", say(rest, saysHTTP), "venue websocket asia"},
		{"the user's http host", "api.venue.example", say(ws, saysWS), "venue http europe"},
		{"the user's host of both, nothing said", "any.venue.example", say(plain, unsaid), "other http europe"},
		{"the user's host of both, the client says websocket", "any.venue.example", say(plain, saysWS), "other websocket asia"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := found(t, r, c.host, c.hint); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// What a listener uses beats all but the routes that refuse.
func TestListenerUse(t *testing.T) {
	r := load(t, `
listen:
  - 127.0.0.1:7000
  - {address: 127.0.0.1:7001, use: {pool: asia, timeout_seconds: 9}}
  - {address: 127.0.0.1:7002, use: direct}
  - {address: 127.0.0.1:7003, use: reject}
default: reject
exchanges: {binance: europe, kraken: reject}
routes:
  - {hosts: [bad.example, 198.51.100.0/24], use: reject}
  - {hosts: [good.example, "*.bad.example", 203.0.113.0/24], use: europe}
  - {hosts: ["*.example"], use: reject}
`)
	const plain, pool, direct, closed = "127.0.0.1:7000", "127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"
	for _, c := range []struct{ name, host, listener, want string }{
		{"without use the rules stand", httpHost, plain, "binance http europe"},
		{"beats the entry", httpHost, pool, "binance http asia"},
		{"beats an entry that says reject", "api.kraken.com", pool, "kraken http asia"},
		{"beats the default", "host.test", pool, "- http asia"},
		{"beats a route that lets out", "good.example", pool, "- http asia"},
		{"a route that refuses wins", "bad.example", pool, "refused: target bad.example is refused: routes[0] bad.example says reject"},
		{"only the first route that matches counts", "x.bad.example", pool, "- http asia"},
		{"a later route that refuses wins too", "other.example", pool, "refused: target other.example is refused: routes[2] *.example says reject"},
		{"serves addresses", "192.0.2.1", pool, "- http asia"},
		{"beats a CIDR that lets out", "203.0.113.9", pool, "- http asia"},
		{"a CIDR that refuses wins", "198.51.100.9", pool, "refused: target 198.51.100.9 is refused: routes[0] 198.51.100.0/24 says reject"},
		{"direct", httpHost, direct, "binance http direct"},
		{"direct for an address", "192.0.2.1", direct, "- http direct"},
		{"direct, a route that refuses wins", "bad.example", direct, "refused: target bad.example is refused: routes[0] bad.example says reject"},
		{"reject", httpHost, closed, "refused: target api.binance.com is refused: listener 127.0.0.1:7003 use says reject"},
		{"reject beats a route that lets out", "good.example", closed, "refused: target good.example is refused: listener 127.0.0.1:7003 use says reject"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := found(t, r, c.host, router.Hint{Listener: c.listener}); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	got, err := r.Route(httpHost, 443, router.Hint{Listener: pool})
	if err != nil || got.Timeout.Seconds() != 9 || got.Source != "listen[1].use" {
		t.Errorf("got %+v, %v, want the timeout and the source of the listener's use", got, err)
	}
}

// Promise (routing): on a listener with unlisted: reject nothing leaves but what
// an exchange's entry or a route lists, whatever its use and default say.
func TestListenerRejectsUnlistedHosts(t *testing.T) {
	const at = "127.0.0.1:1"
	refused := func(host string) string {
		return "refused: target " + host + " is refused: no entry under exchanges and no route lists it, and listener " + at + " unlisted is reject"
	}
	for _, c := range []struct {
		name, file, host, want string
	}{
		{"an exchange with an entry", "use: asia, unlisted: reject}]\nexchanges: {binance: europe}", "api.binance.com", "binance http asia"},
		{"the kind that has no entry", "use: asia, unlisted: reject}]\nexchanges: {binance: {http: europe}}", "stream.binance.com", refused("stream.binance.com")},
		{"an exchange without an entry", "use: asia, unlisted: reject}]\nexchanges: {binance: europe}", "api.kraken.com", refused("api.kraken.com")},
		{"an unknown host", "use: asia, unlisted: reject}]\nexchanges: {binance: europe}", "example.org", refused("example.org")},
		{"a host that the catalogue lacks", "use: asia, unlisted: reject}]\nexchanges: {binance: europe}", "new.binance.com", refused("new.binance.com")},
		{"a host of a venue", "use: asia, unlisted: reject}]\nexchanges: {venue: {hosts: [v.example], http: europe}}", "v.example", "venue http asia"},
		{"a route", "use: asia, unlisted: reject}]\nroutes: [{hosts: [a.example], use: europe}]", "a.example", "- http asia"},
		{"a route for *", "use: asia, unlisted: reject}]\nroutes: [{hosts: ['*'], use: europe}]", "a.example", "- http asia"},
		{"an address with a route", "use: asia, unlisted: reject}]\nroutes: [{hosts: [52.0.0.0/8], use: europe}]", "52.1.2.3", "- http asia"},
		{"an address without", "use: asia, unlisted: reject}]", "52.1.2.3", refused("52.1.2.3")},
		{"an entry that refuses", "use: asia, unlisted: reject}]\nexchanges: {binance: reject}", "api.binance.com", "refused: target api.binance.com is refused: exchanges.binance says reject"},
		{"without use", "unlisted: reject}]\ndefault: direct\nexchanges: {binance: europe}", "api.binance.com", "binance http europe"},
		{"without use, unlisted", "unlisted: reject}]\ndefault: direct\nexchanges: {binance: europe}", "example.org", refused("example.org")},
		{"unlisted: use", "use: asia, unlisted: use}]\ndefault: reject", "example.org", "- http asia"},
		{"the default", "use: asia}]\ndefault: reject", "example.org", "- http asia"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := load(t, "listen: [{address: '"+at+"', "+c.file)
			if got := found(t, r, c.host, router.Hint{Listener: at}); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

package router_test

import (
	"testing"

	"proxyd/internal/catalog"
	"proxyd/internal/router"
)

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

package router_test

import "testing"

// Which outbound a host has, as docs/configuration.md promises it.
func TestPrecedence(t *testing.T) {
	for _, c := range []struct{ name, file, host, want string }{
		{"nothing written: direct", ``, "example.org", "- http direct"},
		{"nothing written: direct, exchanges too", ``, "api.binance.com", "binance http direct"},
		{"default", `default: asia`, "example.org", "- http asia"},
		{"default serves exchanges without an entry", `default: asia`, "stream.binance.com", "binance websocket asia"},
		{"default by kind: http", `default: {http: asia, websocket: europe}`, "api.binance.com", "binance http asia"},
		{"default by kind: websocket", `default: {http: asia, websocket: europe}`, "stream.binance.com", "binance websocket europe"},
		{"default of one kind leaves the other direct", `default: {http: asia}`, "stream.binance.com", "binance websocket direct"},
		{"default says direct", `default: direct`, "example.org", "- http direct"},
		{"default says reject", `default: reject`, "example.org",
			"refused: target example.org is refused: nothing lists it and default is reject"},
		{"default says reject, an exchange without an entry", `default: reject`, "api.binance.com",
			"refused: target api.binance.com is refused: exchange binance has no entry and default is reject"},

		{"the exchange's entry beats the default", "default: reject\nexchanges: {binance: asia}", "api.binance.com", "binance http asia"},
		{"an entry serves both kinds", `exchanges: {binance: asia}`, "stream.binance.com", "binance websocket asia"},
		{"an entry of its own for a kind", `exchanges: {binance: {http: europe, websocket: asia}}`, "api.binance.com", "binance http europe"},
		{"a kind without an entry falls to the default", "default: europe\nexchanges: {binance: {websocket: asia}}", "api.binance.com", "binance http europe"},
		{"a kind without an entry nor a default is direct", `exchanges: {binance: {websocket: asia}}`, "api.binance.com", "binance http direct"},
		{"a kind without an entry, default reject", "default: reject\nexchanges: {binance: {websocket: asia}}", "api.binance.com",
			"refused: target api.binance.com is refused: exchange binance has no http outbound and default is reject"},
		{"an entry that says direct beats the default", "default: asia\nexchanges: {binance: direct}", "api.binance.com", "binance http direct"},
		{"an entry that says reject", "exchanges: {binance: reject}", "api.binance.com",
			"refused: target api.binance.com is refused: exchanges.binance says reject"},
		{"an alias names the exchange", `exchanges: {binance_coinm: asia}`, "dapi.binance.com", "binance_delivery http asia"},
		{"one exchange's entry is not its neighbour's", "exchanges: {binance: asia}", "fapi.binance.com", "binance_futures http direct"},

		{"a route beats the entry", "routes: [{hosts: [api.binance.com], use: europe}]\nexchanges: {binance: asia}", "api.binance.com", "binance http europe"},
		{"a route to direct beats the entry", "routes: [{hosts: [api.binance.com], use: direct}]\nexchanges: {binance: asia}", "api.binance.com", "binance http direct"},
		{"a route serves both kinds", "routes: [{hosts: ['*.binance.com'], use: europe}]\nexchanges: {binance: asia}", "stream.binance.com", "binance websocket europe"},
		{"a route leaves other hosts alone", "routes: [{hosts: [api.binance.com], use: europe}]\nexchanges: {binance: asia}", "api1.binance.com", "binance http asia"},
		{"the first route wins, though the next is exact", "routes: [{hosts: ['*.x.example'], use: asia}, {hosts: [a.x.example], use: europe}]", "a.x.example", "- http asia"},
		{"the first route wins, though the next is longer", "routes: [{hosts: ['*.example'], use: asia}, {hosts: ['*.x.example'], use: europe}]", "a.x.example", "- http asia"},
		{"the first route wins, though it is *", "routes: [{hosts: ['*'], use: asia}, {hosts: [a.x.example], use: europe}]", "a.x.example", "- http asia"},
		{"an exact route before a wildcard", "routes: [{hosts: [a.x.example], use: europe}, {hosts: ['*.x.example'], use: asia}]", "a.x.example", "- http europe"},
		{"below the exact route", "routes: [{hosts: [a.x.example], use: europe}, {hosts: ['*.x.example'], use: asia}]", "b.a.x.example", "- http asia"},
		{"a short wildcard after a long one", "routes: [{hosts: ['*.x.example'], use: europe}, {hosts: ['*.example'], use: asia}]", "y.example", "- http asia"},
		{"a wildcard does not match its own name", "routes: [{hosts: ['*.x.example'], use: asia}]", "x.example", "- http direct"},
		{"nor a name that only ends so", "routes: [{hosts: ['*.x.example'], use: asia}]", "ax.example", "- http direct"},
		{"a wildcard matches at any depth", "routes: [{hosts: ['*.x.example'], use: asia}]", "a.b.c.x.example", "- http asia"},
		{"* matches what nothing lists", "routes: [{hosts: ['*'], use: asia}]", "localhost", "- http asia"},
		{"* beats the entries", "routes: [{hosts: ['*'], use: europe}]\nexchanges: {binance: asia}", "api.binance.com", "binance http europe"},
		{"any host of a route", "routes: [{hosts: [a.example, b.example, 10.0.0.0/8], use: asia}]", "b.example", "- http asia"},
		{"a route that says reject", "routes: [{hosts: [bad.example], use: reject}]", "bad.example",
			"refused: target bad.example is refused: routes[0] bad.example says reject"},
		{"a CIDR does not match names", "routes: [{hosts: [0.0.0.0/0, '::/0'], use: reject}]", "a.example", "- http direct"},
		{"a route's name with nothing else", "routes: [{hosts: [a.example], use: europe}]", "b.example", "- http direct"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := found(t, load(t, c.file), c.host, none); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Whose a host is: among the exchanges an exact host beats a wildcard, the
// longest wildcard wins, and the user's hosts beat the catalogue's.
func TestHostOwner(t *testing.T) {
	for _, c := range []struct{ name, file, host, want string }{
		{"exact", `exchanges: {venue: {hosts: [api.venue.example], http: europe, websocket: asia}}`, "api.venue.example", "venue http europe"},
		{"hosts by kind: websocket", `exchanges: {venue: {hosts: {http: [a.venue.example], websocket: [b.venue.example]}, http: europe, websocket: asia}}`, "b.venue.example", "venue websocket asia"},
		{"hosts by kind: http", `exchanges: {venue: {hosts: {http: [a.venue.example], websocket: [b.venue.example]}, http: europe, websocket: asia}}`, "a.venue.example", "venue http europe"},
		{"wildcard", `exchanges: {venue: {hosts: ["*.venue.example"], http: europe}}`, "x.y.venue.example", "venue http europe"},
		{"wildcard, not its own name", `exchanges: {venue: {hosts: ["*.venue.example"], http: europe}}`, "venue.example", "- http direct"},
		{"exact beats wildcard, in whatever order", `exchanges: {v1: {hosts: ["*.v.example"], http: asia}, v2: {hosts: [a.v.example], http: europe}}`, "a.v.example", "v2 http europe"},
		{"exact beats wildcard, the other order", `exchanges: {v2: {hosts: [a.v.example], http: europe}, v1: {hosts: ["*.v.example"], http: asia}}`, "a.v.example", "v2 http europe"},
		{"the longest wildcard", `exchanges: {v1: {hosts: ["*.example"], http: asia}, v2: {hosts: ["*.v.example"], http: europe}}`, "a.v.example", "v2 http europe"},
		{"the longest wildcard, the other order", `exchanges: {v2: {hosts: ["*.v.example"], http: europe}, v1: {hosts: ["*.example"], http: asia}}`, "a.v.example", "v2 http europe"},
		{"beside the longest wildcard", `exchanges: {v1: {hosts: ["*.example"], http: asia}, v2: {hosts: ["*.v.example"], http: europe}}`, "a.w.example", "v1 http asia"},
		{"the catalogue's wildcard", `exchanges: {kucoin: {websocket: asia}}`, "ws-api-spot.kucoin.com", "kucoin websocket asia"},
		{"the catalogue's exact host beats its wildcard", `exchanges: {kucoin: {websocket: asia, http: europe}}`, "api.kucoin.com", "kucoin http europe"},
		{"the user's exact host beats the catalogue's", `exchanges: {venue: {hosts: [api.binance.com], http: europe}}`, "api.binance.com", "venue http europe"},
		{"the user's wildcard beats the catalogue's exact host", `exchanges: {venue: {hosts: ["*.binance.com"], http: europe}}`, "api.binance.com", "venue http europe"},
		{"the user's wildcard beats the catalogue's longer one", `exchanges: {venue: {hosts: ["*.com"], http: europe}}`, "push9.kucoin.com", "venue http europe"},
		{"the user's wildcard beats the same one", `exchanges: {venue: {hosts: ["*.kucoin.com"], http: europe}}`, "push9.kucoin.com", "venue http europe"},
		{"the user's exact host beats the catalogue's wildcard", `exchanges: {venue: {hosts: [push9.kucoin.com], http: europe}}`, "push9.kucoin.com", "venue http europe"},
		{"beside it the catalogue stands", `exchanges: {venue: {hosts: [push9.kucoin.com], http: europe}}`, "push8.kucoin.com", "kucoin websocket direct"},
		{"the user's kind beats the catalogue's", `exchanges: {binance: {hosts: {websocket: [api.binance.com]}, websocket: asia, http: europe}}`, "api.binance.com", "binance websocket asia"},
		{"a host listed under both kinds serves both", `exchanges: {venue: {hosts: {http: [a.v.example], websocket: [a.v.example]}, http: europe, websocket: asia}}`, "a.v.example", "venue http europe"},
		{"more hosts for an exchange", `exchanges: {binance: {hosts: {websocket: ["*.binance.example"]}, websocket: asia}}`, "s1.binance.example", "binance websocket asia"},
		{"a wildcard over the exchange's own hosts leaves their kinds", `exchanges: {binance: {hosts: ["*.binance.com"], websocket: asia, http: europe}}`, "stream.binance.com", "binance websocket asia"},
		{"a route is not an owner", `routes: [{hosts: [api.binance.com], use: asia}]`, "api.binance.com", "binance http asia"},
		{"a route does not hide a wildcard's owner", "routes: [{hosts: [a.v.example], use: direct}]\nexchanges: {venue: {hosts: ['*.v.example'], http: asia}}", "a.v.example", "venue http direct"},
		{"a wildcard route does not hide an owner", "routes: [{hosts: ['*.a.v.example'], use: direct}]\nexchanges: {venue: {hosts: ['*.v.example'], http: asia}}", "x.a.v.example", "venue http direct"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := found(t, load(t, c.file), c.host, none); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

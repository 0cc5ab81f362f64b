package router_test

import (
	"errors"
	"net/netip"
	"testing"

	"proxyd/internal/router"
)

// A target that is an address has no name that a rule could be about: only
// CIDRs under routes, what a listener uses, and a default that is not direct
// serve it, and where anything is not direct it is refused.
func TestRouteAddress(t *testing.T) {
	const noName = "refused: target 52.1.2.3 has no name: this client resolved it itself"
	for _, c := range []struct{ name, file, host, want string }{
		{"nothing written", ``, "52.1.2.3", "- http direct"},
		{"all is direct", "default: direct\nexchanges: {binance: direct}\nroutes: [{hosts: [x.example], use: direct}]", "52.1.2.3", "- http direct"},
		{"the default, a pool", `default: asia`, "52.1.2.3", "- http asia"},
		{"the default, reject", `default: reject`, "52.1.2.3", "refused: target 52.1.2.3 is refused: no CIDR under routes lists it and default is reject"},
		{"the default of the kind", `default: {http: asia, websocket: direct}`, "52.1.2.3", "- http asia"},
		{"the other kind's default holds", `default: {websocket: asia}`, "52.1.2.3", noName},
		{"an exchange holds, no default", `exchanges: {binance: asia}`, "52.1.2.3", noName},
		{"an exchange holds for the other kind", `exchanges: {binance: {websocket: asia}}`, "52.1.2.3", noName},
		{"an exchange refuses", `exchanges: {binance: reject}`, "52.1.2.3", noName},
		{"an exchange holds, default direct", "default: direct\nexchanges: {binance: asia}", "52.1.2.3", noName},
		{"a route holds", `routes: [{hosts: [x.example], use: asia}]`, "52.1.2.3", noName},
		{"a route refuses", `routes: [{hosts: [x.example], use: reject}]`, "52.1.2.3", noName},
		{"a listener's use holds addresses by itself", "listen: [{address: 127.0.0.1:7000, use: asia}]", "52.1.2.3", "- http direct"},
		{"an exchange's entry beats no default that holds", "default: asia\nexchanges: {binance: europe}", "52.1.2.3", "- http asia"},
		{"IPv6", `exchanges: {binance: asia}`, "[2001:db8::1]", "refused: target 2001:db8::1 has no name: this client resolved it itself"},

		{"a CIDR", "default: asia\nroutes: [{hosts: [52.0.0.0/8], use: europe}]", "52.1.2.3", "- http europe"},
		{"a CIDR to direct", "default: asia\nroutes: [{hosts: [52.0.0.0/8], use: direct}]", "52.1.2.3", "- http direct"},
		{"beside the CIDR", "default: asia\nroutes: [{hosts: [53.0.0.0/8], use: europe}]", "52.1.2.3", "- http asia"},
		{"a single address", "default: asia\nroutes: [{hosts: [52.1.2.3], use: europe}]", "52.1.2.3", "- http europe"},
		{"an IPv6 CIDR", "default: asia\nroutes: [{hosts: ['2001:db8::/32'], use: europe}]", "2001:DB8:0::1", "- http europe"},
		{"a mapped address is its IPv4 address", "default: asia\nroutes: [{hosts: [52.0.0.0/8], use: europe}]", "::ffff:52.1.2.3", "- http europe"},
		{"a mapped CIDR is its IPv4 CIDR", "default: asia\nroutes: [{hosts: ['::ffff:52.0.0.0/104'], use: europe}]", "52.1.2.3", "- http europe"},
		{"the first route wins, though the next is longer", "routes: [{hosts: [52.0.0.0/8], use: asia}, {hosts: [52.1.0.0/16], use: europe}]", "52.1.2.3", "- http asia"},
		{"the first route wins, though the next is the address", "routes: [{hosts: [52.0.0.0/8], use: asia}, {hosts: [52.1.2.3], use: europe}]", "52.1.2.3", "- http asia"},
		{"the first route wins: the address", "routes: [{hosts: [52.1.2.3], use: asia}, {hosts: [52.0.0.0/8], use: europe}]", "52.1.2.3", "- http asia"},
		{"a long CIDR before a short one", "routes: [{hosts: [52.1.0.0/16], use: asia}, {hosts: [52.0.0.0/8], use: europe}]", "52.1.2.3", "- http asia"},
		{"names in between do not matter", "routes: [{hosts: [a.example], use: reject}, {hosts: ['*.example', 52.0.0.0/8], use: europe}]", "52.1.2.3", "- http europe"},
		{"a CIDR that refuses", "routes: [{hosts: [52.0.0.0/8], use: reject}]", "52.1.2.3", "refused: target 52.1.2.3 is refused: routes[0] 52.0.0.0/8 says reject"},

		{"* holds addresses too", "routes: [{hosts: ['*'], use: asia}]", "52.1.2.3", "- http asia"},
		{"* refuses addresses too", "routes: [{hosts: ['*'], use: reject}]", "52.1.2.3", "refused: target 52.1.2.3 is refused: routes[0] * says reject"},
		{"* to direct lets no address past another rule", "routes: [{hosts: ['*'], use: direct}]\nexchanges: {binance: asia}", "52.1.2.3", noName},
		{"* to direct alone", "routes: [{hosts: ['*'], use: direct}]", "52.1.2.3", "- http direct"},
		{"a CIDR behind * to direct", "routes: [{hosts: ['*'], use: direct}, {hosts: [52.0.0.0/8], use: asia}]", "52.1.2.3", "- http asia"},
		{"a CIDR behind * that holds", "routes: [{hosts: ['*'], use: asia}, {hosts: [52.0.0.0/8], use: europe}]", "52.1.2.3", "- http asia"},
		{"a CIDR before * that holds", "routes: [{hosts: [52.0.0.0/8], use: europe}, {hosts: ['*'], use: asia}]", "52.1.2.3", "- http europe"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := found(t, load(t, c.file), c.host, none); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A redirected client knows of no proxy, so no remedy of its own is named.
func TestRouteAddressOfRedirectedClient(t *testing.T) {
	for _, c := range []struct{ name, file, text string }{
		{"default reject", "default: reject", "target 52.1.2.3 is refused: no CIDR under routes lists it, default is reject, and its client has sent nothing"},
		{"an exchange holds", "exchanges: {binance: asia}", "target 52.1.2.3 has no name: its client has sent nothing"},
	} {
		_, err := load(t, c.file).Route("52.1.2.3", 443, router.Hint{Nameless: "its client has sent nothing"})
		denied, ok := errors.AsType[*router.Denied](err)
		if !ok || denied.Text != c.text || denied.Hint != "list the CIDR under routes" {
			t.Errorf("%s: got %v, want %s", c.name, err, c.text)
		}
	}
}

func TestListsAddress(t *testing.T) {
	r := load(t, "listen: [127.0.0.1:7000, {address: 127.0.0.1:7001, use: asia}]\nroutes: [{hosts: [52.9.0.0/16], use: reject}, {hosts: [52.0.0.0/8, '2001:db8::/32'], use: direct}, {hosts: ['*'], use: asia}, {hosts: [53.0.0.0/8], use: direct}]")
	for _, c := range []struct {
		ip, listener string
		want         bool
	}{
		{"52.1.2.3", "127.0.0.1:7000", true},
		{"::ffff:52.1.2.3", "127.0.0.1:7000", true},
		{"2001:db8::1", "127.0.0.1:7000", true},
		{"52.9.2.3", "127.0.0.1:7000", true},
		{"53.1.2.3", "127.0.0.1:7000", false}, // * comes first
		{"9.9.9.9", "127.0.0.1:7000", false},
		{"52.1.2.3", "127.0.0.1:7001", false}, // its use decides
		{"52.9.2.3", "127.0.0.1:7001", true},
	} {
		if got := r.ListsAddress(netip.MustParseAddr(c.ip), c.listener); got != c.want {
			t.Errorf("%s at %s: %v, want %v", c.ip, c.listener, got, c.want)
		}
	}
}

// enabled: false sends what is proxied direct and lets nothing out that was
// refused.
func TestRouteWhenDisabled(t *testing.T) {
	for _, c := range []struct{ name, file, host, want string }{
		{"an entry", `exchanges: {binance: asia}`, httpHost, "binance http direct"},
		{"the default", `default: asia`, "example.org", "- http direct"},
		{"a route", `routes: [{hosts: [x.example], use: asia}]`, "x.example", "- http direct"},
		{"an entry that says reject", `exchanges: {binance: reject}`, httpHost, "refused: target api.binance.com is refused: exchanges.binance says reject"},
		{"a default that says reject", `default: reject`, "example.org", "refused: target example.org is refused: nothing lists it and default is reject"},
		{"a route that says reject", `routes: [{hosts: [x.example], use: reject}]`, "x.example", "refused: target x.example is refused: routes[0] x.example says reject"},
		{"an address, nothing refused", "default: asia\nexchanges: {binance: europe}", "52.1.2.3", "- http direct"},
		{"an address, * that held", "routes: [{hosts: ['*'], use: asia}]", "52.1.2.3", "- http direct"},
		{"an address does not get past a refused exchange", "default: asia\nexchanges: {binance: reject}", "52.1.2.3",
			"refused: target 52.1.2.3 has no name: this client resolved it itself"},
		{"nor by a * that held", "routes: [{hosts: ['*.x.example'], use: reject}, {hosts: ['*'], use: asia}]", "52.1.2.3",
			"refused: target 52.1.2.3 has no name: this client resolved it itself"},
		{"an address, a default that says reject", `default: reject`, "52.1.2.3", "refused: target 52.1.2.3 is refused: no CIDR under routes lists it and default is reject"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := found(t, load(t, "enabled: false\n"+c.file), c.host, none); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

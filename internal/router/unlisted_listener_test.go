package router_test

import (
	"testing"

	"proxyd/internal/router"
)

// Promise (routing): on a listener with unlisted: reject nothing leaves but what
// an exchange's entry or a route lists, whatever its use and default say.
func TestListenerRefusesWhatIsUnlisted(t *testing.T) {
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

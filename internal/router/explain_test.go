package router_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/router"
)

// explained writes an explanation out, one field a line.
func explained(x router.Explanation) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	line("exchange", x.Target.Exchange)
	line("host", x.Host)
	if x.KindFrom != "" {
		line("kind", x.Target.Kind.String()+" ("+x.KindFrom+")")
	}
	line("rule", x.Rule)
	line("source", x.Source)
	if x.Pool != nil {
		line("pool", x.Pool.Name())
	}
	for _, w := range x.Warnings {
		line("warning", w)
	}
	if x.Err != nil {
		line("refused", x.Err.Error())
	}
	return b.String()
}

func TestExplain(t *testing.T) {
	r := load(t, `
listen: [127.0.0.1:7000, {address: 127.0.0.1:7001, kind: websocket}, {address: 127.0.0.1:7002, use: europe}]
exchanges:
  binance: {http: direct, websocket: asia}
  gateio: {websocket: asia}
  kucoin: reject
  venue: {hosts: {websocket: ["*.v.example"]}, websocket: europe}
routes:
  - {hosts: [secret.example, 10.1.0.0/16], use: reject}
  - {hosts: ["*.corp.example"], use: direct}
`)
	for _, c := range []struct {
		name, host string
		hint       router.Hint
		want       string
	}{
		{"a host of one kind", "Stream.Binance.com.", none, `
exchange: binance
host: stream.binance.com
kind: websocket (the catalogue's for stream.binance.com)
rule: exchange binance (catalogue host stream.binance.com, websocket) exchanges.binance.websocket
source: exchanges.binance.websocket
pool: asia
`},
		{"a host of both kinds", bothHost, none, `
exchange: gateio
host: api.gateio.ws
kind: http (assumed: nothing says websocket)
rule: exchange gateio has no http outbound and no default is set
pool: direct
warning: api.gateio.ws serves both kinds, which have different outbounds (http: DIRECT (no default), websocket: asia): ` + toldApart + `
warning: gateio.http: DIRECT (no default)
`},
		{"a host of both kinds, by username", bothHost, websocket, `
exchange: gateio
host: api.gateio.ws
kind: websocket (asked for)
rule: exchange gateio (catalogue host api.gateio.ws, websocket) exchanges.gateio.websocket
source: exchanges.gateio.websocket
pool: asia
warning: api.gateio.ws serves both kinds, which have different outbounds (http: DIRECT (no default), websocket: asia): ` + toldApart + `
`},
		{"a host of both kinds, by listener", bothHost, router.Hint{Listener: "127.0.0.1:7001"}, `
exchange: gateio
host: api.gateio.ws
kind: websocket (the kind of listener 127.0.0.1:7001)
rule: exchange gateio (catalogue host api.gateio.ws, websocket) exchanges.gateio.websocket
source: exchanges.gateio.websocket
pool: asia
warning: api.gateio.ws serves both kinds, which have different outbounds (http: DIRECT (no default), websocket: asia): ` + toldApart + `
`},
		{"the catalogue's wildcard, refused", "push9.kucoin.com", none, `
exchange: kucoin
host: *.kucoin.com
kind: websocket (the catalogue's for *.kucoin.com)
rule: exchange kucoin (catalogue host *.kucoin.com, websocket) exchanges.kucoin
source: exchanges.kucoin
refused: target push9.kucoin.com is refused: exchanges.kucoin says reject
`},
		{"the user's wildcard", "s1.v.example", none, `
exchange: venue
host: *.v.example
kind: websocket (the configuration's for *.v.example)
rule: exchange venue (host *.v.example, websocket) exchanges.venue.websocket
source: exchanges.venue.websocket
pool: europe
`},
		{"one of a family without an entry", "fapi.binance.com", none, `
exchange: binance_futures
host: fapi.binance.com
kind: http (the catalogue's for fapi.binance.com)
rule: exchange binance_futures has no entry and no default is set
pool: direct
warning: binance_futures has no entry: DIRECT (no default); add binance_futures: {http: direct, websocket: asia}
warning: binance_futures.http: DIRECT (no default)
`},
		{"a host of no exchange", "example.org", none, `
kind: http (assumed: nothing says websocket)
rule: nothing matches and no default is set
pool: direct
warning: unlisted host: DIRECT (no default)
`},
		{"a route", "git.corp.example", none, `
kind: http (assumed: nothing says websocket)
rule: routes[1] *.corp.example
source: routes[1].use
pool: direct
`},
		{"a route that refuses, past a listener's use", "secret.example", router.Hint{Listener: "127.0.0.1:7002"}, `
kind: http (assumed: nothing says websocket)
rule: routes[0] secret.example
source: routes[0].use
refused: target secret.example is refused: routes[0] secret.example says reject
`},
		{"a listener's use", bothHost, router.Hint{Listener: "127.0.0.1:7002"}, `
exchange: gateio
host: api.gateio.ws
kind: http (assumed: nothing says websocket)
rule: listener 127.0.0.1:7002 use
source: listen[2].use
pool: europe
`},
		{"an address", "52.1.2.3", websocket, `
kind: websocket (asked for)
rule: an address without a name
refused: target 52.1.2.3 has no name: this client resolved it itself
`},
		{"an address in a CIDR", "10.1.2.3", none, `
kind: http (assumed: nothing says websocket)
rule: routes[0] 10.1.0.0/16
source: routes[0].use
refused: target 10.1.2.3 is refused: routes[0] 10.1.0.0/16 says reject
`},
		{"no host at all", "a b", none, `
refused: host "a b" has a space in it
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(strings.TrimPrefix(c.want, "\n"), explained(r.Explain(c.host, 443, c.hint))); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// What Explain says when everything is switched off, or where defaults differ.
func TestExplainDisabledOrDifferingDefaults(t *testing.T) {
	for _, c := range []struct{ name, file, host, want string }{
		{"disabled", "enabled: false\nexchanges: {bitkub: asia}", "api.bitkub.com", `
exchange: bitkub
host: api.bitkub.com
kind: http (assumed: nothing says websocket)
rule: exchange bitkub (catalogue host api.bitkub.com, http) exchanges.bitkub, direct because enabled is false
source: exchanges.bitkub
pool: direct
`},
		{"defaults that differ, a host of no exchange", "default: {http: europe, websocket: asia}", "example.org", `
kind: http (assumed: nothing says websocket)
rule: default.http
source: default.http
pool: europe
warning: example.org is unknown, and the kinds have different outbounds (http: europe, websocket: asia): ` + toldApart + `
`},
		{"a family behind a default that refuses", "default: reject\nexchanges: {binance: asia}", "dapi.binance.com", `
exchange: binance_delivery
host: dapi.binance.com
kind: http (the catalogue's for dapi.binance.com)
rule: default (exchange binance_delivery has no entry)
source: default
warning: binance_delivery has no entry: default (reject); add binance_delivery: asia
refused: target dapi.binance.com is refused: exchange binance_delivery has no entry and default is reject
`},
		{"a password in the outbound does not show", "default: direct\nexchanges: {bitkub: {http: 'http://user:s3cret@one.example:3128'}}", "api.bitkub.com", `
exchange: bitkub
host: api.bitkub.com
kind: http (assumed: nothing says websocket)
rule: exchange bitkub (catalogue host api.bitkub.com, http) exchanges.bitkub.http
source: exchanges.bitkub.http
pool: exchanges.bitkub.http
warning: api.bitkub.com serves both kinds, which have different outbounds (http: exchanges.bitkub.http, websocket: direct): ` + toldApart + `
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(strings.TrimPrefix(c.want, "\n"), explained(load(t, c.file).Explain(c.host, 443, none))); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

package admin

import (
	"strings"
	"testing"

	"proxyd/internal/router"
)

// A refused host has what to do beside it: for one of no exchange, the entry to add.
func TestRouteSaysWhatToDoAboutARefusal(t *testing.T) {
	t.Parallel()
	r := snapshot(t, "default: reject\npools: {asia: {proxies: [\"http://proxy.example:3128\"]}}\nexchanges: {kraken: asia}\n")
	for host, want := range map[string]string{
		"ws.newvenue.example": "list it under exchanges, as http or websocket, such as my_venue: {hosts: {websocket: [HOST]}, pool: asia}, or under routes",
		"ws.okx.com":          `add "okx: direct" (or a pool, or a proxy's URL) under exchanges`,
		"api.kraken.com":      "",
	} {
		if got := Explain(r, host, router.Hint{}, nil); got.Hint != want || (got.Refused == "") != (want == "") {
			t.Errorf("%s: %q, %q, want %q", host, got.Refused, got.Hint, want)
		}
	}
}

// What no member will be asked for is shown as refused, with the line that lets
// it through.
func TestRouteShowsWhatTheGuardRefuses(t *testing.T) {
	r := snapshot(t, `
default: http://127.0.0.1:3128
exchanges: {kraken: direct, binance: "http://proxy.example:3128"}
routes:
  - {hosts: [10.0.0.0/8], use: direct}
  - {hosts: [169.254.0.0/16, 198.51.100.1], use: direct}
  - {hosts: [box.example, 127.0.0.2], use: "http://localhost:3129"}
  - {hosts: ["*.localhost", 127.0.0.0/8], use: {pool: {proxies: [{url: direct, enabled: false}, "http://proxy.example:1"]}}}
`)
	for host, want := range map[string]string{
		"localhost:8878":     "add allow_private: [",
		"[::1]:80":           `add allow_private: ["::1/128"]`,
		"169.254.169.254:80": "metadata service",
		"metadata.goog:80":   "metadata service",
		"10.1.2.3:443":       "", // a route says direct
		"127.0.0.2:443":      "", // a route names it
		"127.0.0.3:443":      "", // another machine's
		"box.example":        "",
		"example.org":        "",
		"api.kraken.com":     "",
		"api.binance.com":    "",
	} {
		if got := Explain(r, host, router.Hint{}, nil).Refused; (got != "") != (want != "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

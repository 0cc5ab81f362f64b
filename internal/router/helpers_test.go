package router_test

import (
	"errors"
	"testing"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
	"proxyd/internal/testkit/routertest"
)

// pools is what the tables below name as outbounds.
const pools = `
pools:
  asia: {proxies: ["socks5://tokyo.example:1080"]}
  europe: {proxies: ["http://fra.example:3128"]}
`

// load builds the router of a file with the pools asia and europe.
func load(t testing.TB, text string) *router.Router {
	t.Helper()
	c := testkit.Config(t, pools+text)
	return build(t, c)
}

func build(t testing.TB, c *config.Config) *router.Router {
	t.Helper()
	return routertest.Of(t, c, nil)
}

// found is a look-up's outcome as the tables write it: "EXCHANGE KIND POOL",
// "-" for no exchange, or "refused: TEXT", or "bad: TEXT".
func found(t testing.TB, r *router.Router, host string, h router.Hint) string {
	t.Helper()
	return outcome(t, r, host, 443, h)
}

func outcome(t testing.TB, r *router.Router, host string, port uint16, h router.Hint) string {
	t.Helper()
	got, err := r.Route(host, port, h)
	var denied *router.Denied
	var bad *router.BadTarget
	switch {
	case errors.As(err, &denied):
		return "refused: " + denied.Text
	case errors.As(err, &bad):
		return "bad: " + bad.Error()
	case err != nil:
		t.Fatalf("Route(%q) gives a %T: %v", host, err, err)
	case got.Pool == nil || got.Rule == "" || got.Timeout <= 0 || got.Target.Port != port:
		t.Fatalf("Route(%q) lacks something: %+v", host, got)
	}
	exchange := got.Target.Exchange
	if exchange == "" {
		exchange = "-"
	}
	return exchange + " " + got.Target.Kind.String() + " " + got.Pool.Name()
}

var (
	none      = router.Hint{}
	websocket = router.Hint{Kind: catalog.KindWebsocket}
)

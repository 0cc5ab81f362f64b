// Package routertest makes routers for the tests of what uses them.
package routertest

import (
	"net/netip"
	"testing"

	"proxyd/internal/config"
	"proxyd/internal/router"
	"proxyd/internal/testkit"
	"proxyd/internal/upstream"
)

// New returns the router of a configuration in YAML, for a proxyd that listens nowhere.
// Its Set carries on from prev, which is nil for a first one.
func New(t testing.TB, yaml string, prev *upstream.Set) *router.Router {
	t.Helper()
	return Of(t, testkit.Config(t, yaml), prev)
}

// Of is New for a configuration that is loaded.
func Of(t testing.TB, c *config.Config, prev *upstream.Set) *router.Router {
	t.Helper()
	set, err := upstream.NewSet(c, prev, func(netip.AddrPort) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	r, err := router.New(c, set)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

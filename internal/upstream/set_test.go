package upstream

import (
	"net/netip"
	"testing"
)

// What the configuration allows: allow_private, and the CIDRs of direct routes,
// not those of other routes.
func TestGuardConfigured(t *testing.T) {
	g := load(t, `
allow_private: [10.1.0.0/16, "fd00:1::/32"]
routes:
  - {hosts: [10.2.0.0/16, "*.corp.example"], use: direct}
  - {hosts: [10.3.0.0/16], use: reject}
  - {hosts: [10.4.0.0/16], use: "http://px.example:3128"}
`, nil).guard
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "fd00:1::7": true, "10.2.0.0": true, "10.3.0.1": false, "10.4.0.1": false,
		"10.5.0.1": false, "fd00:2::7": false, "64:ff9b::a01:203": false, "127.0.0.1": false,
	} {
		t.Run(addr, func(t *testing.T) {
			if e := g.CheckDirect(netip.AddrPortFrom(netip.MustParseAddr(addr), 443), false); (e == nil) != want {
				t.Errorf("got %v", e)
			}
		})
	}
}

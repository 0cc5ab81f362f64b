// Package transparent reads what a redirected connection says of its destination:
// the address that its client connected to, which the kernel keeps, and the host
// that its first bytes name.
//
// It neither routes, dials nor answers, and changes no byte; inbound does all that.
package transparent

import (
	"errors"
	"net/netip"
)

// ErrNotRedirected is the error of a connection that netfilter has not redirected:
// it has no other destination than the listener.
var ErrNotRedirected = errors.New("the connection was not redirected here")

// unmapped returns an address and port as the rest of proxyd has them: no IPv4
// address in IPv6 form, and no zone.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

//go:build !linux

package transparent

import (
	"net"
	"net/netip"
)

// OriginalDestination returns ErrNotRedirected: only Linux redirects so.
func OriginalDestination(*net.TCPConn) (netip.AddrPort, error) {
	return netip.AddrPort{}, ErrNotRedirected
}

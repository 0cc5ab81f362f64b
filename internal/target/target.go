// Package target is the one way in which proxyd reads and normalises a
// destination: a host, a port, a host:port, or a pattern that hosts match.
// Every front end, the configuration, the router and the upstreams use it, so
// that one spelling has one meaning everywhere.
//
// It does no look-ups and knows no exchanges.
package target

import (
	"net/netip"
)

// Host is a normalised destination host: a DNS name or an IP address.
// The zero Host is no host.
type Host struct {
	Name string     // lower-case ASCII without a trailing dot; for an address its canonical text, without brackets
	IP   netip.Addr // set when the host is an address; never an IPv4-mapped IPv6 one, never with a zone
}

// IsIP reports whether the host is an address rather than a name.
func (h Host) IsIP() bool { return h.IP.IsValid() }

// String returns the host's name.
func (h Host) String() string { return h.Name }

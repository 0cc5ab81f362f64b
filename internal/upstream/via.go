package upstream

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Two daemons on one machine may be each other's upstream by mistake. A request
// would then loop until its time is over. So a CONNECT to an HTTP upstream on this
// machine carries a Via line (RFC 9110 section 7.6.3) with a marker of this process,
// and those that came with the request. It is not sent to remote proxies, which
// would learn what runs here.

const (
	hopName    = "proxyd-"
	hopPrefix  = "1.1 " + hopName
	hopLength  = len(hopPrefix) + 8
	hopMaximum = 8 // markers passed on; a chain that long is a loop already
)

// Hops returns the markers of proxyd processes in a Via header's value, in the form
// of Target.Hops. Everything else is dropped.
func Hops(via string) string {
	var found []string
	for part := range strings.SplitSeq(via, ",") {
		part = strings.TrimSpace(part)
		if len(part) == hopLength && strings.HasPrefix(part, hopPrefix) && isHex(part[len(hopPrefix):]) && len(found) < hopMaximum {
			found = append(found, part)
		}
	}
	return strings.Join(found, ", ")
}

// HopToken returns the marker of this process, as in `Via: 1.1 TOKEN`. It is the
// same for all sets built from one another.
func (s *Set) HopToken() string { return hopName + s.shared.token }

// via returns the value of the Via line for a hop on this machine.
func (s *Set) via(t Target) string {
	if t.Hops == "" {
		return hopPrefix + s.shared.token
	}
	return t.Hops + ", " + hopPrefix + s.shared.token
}

func isHex(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// isOurAddress reports whether an address is one of this machine's.
func isOurAddress(ip netip.Addr) bool {
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(addrs, func(a net.Addr) bool { // unknown: be careful
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == ip.Unmap()
	})
}

// isBeside reports whether the far end of a connection is a process on this
// machine: at a loopback address, or at the very address that we come from.
func isBeside(c net.Conn) bool {
	far, ok1 := c.RemoteAddr().(*net.TCPAddr)
	near, ok2 := c.LocalAddr().(*net.TCPAddr)
	return ok1 && ok2 && (far.IP.IsLoopback() || far.IP.Equal(near.IP))
}

package upstream

import (
	"net/netip"
	"slices"
	"strconv"

	"proxyd/internal/config"
	"proxyd/internal/target"
)

// guard keeps direct connections away from what they must not reach by
// accident. It is asked about the address that is really dialled.
type guard struct {
	allow []netip.Prefix // private addresses that the configuration allows
	own   func(netip.AddrPort) bool
}

// newGuard collects what the configuration allows: allow_private, and the
// CIDRs of routes that say direct.
func newGuard(c *config.Config, own func(netip.AddrPort) bool) *guard {
	g := &guard{own: own, allow: slices.Clone(c.AllowPrivate)}
	for _, r := range c.Routes {
		if r.Way.Action != config.Direct {
			continue
		}
		for _, p := range r.Hosts {
			if p.Kind == target.CIDR {
				g.allow = append(g.allow, p.Prefix)
			}
		}
	}
	return g
}

// metadata are the clouds' metadata services, which hand out credentials.
var metadataAddrs = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("169.254.170.2"), netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("192.0.0.192"), netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd20:ce::254"),
}

var metadataNames = []string{"metadata.google.internal", "metadata.goog", "metadata", "instance-data", "instance-data.ec2.internal"}

// special are the ranges that are not the public internet, beside those that
// netip names itself.
var special = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "an unspecified address"},
	{netip.MustParsePrefix("100.64.0.0/10"), "a carrier's private address"},
	{netip.MustParsePrefix("192.0.0.0/24"), "a reserved address"},
	{netip.MustParsePrefix("198.18.0.0/15"), "a benchmarking address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},
	{netip.MustParsePrefix("fec0::/10"), "a site-local address"},
}

// check gives nil if a direct connection may go to a, else a denied error that
// says what to add. trusted is Target.Trusted.
func (g *guard) check(a netip.AddrPort, trusted bool) *Error {
	ip := a.Addr().Unmap()
	for _, real := range []netip.Addr{ip, embedded(ip)} {
		switch {
		case !real.IsValid():
		case slices.Contains(metadataAddrs, real):
			return fault(ClassDenied, "%s is a cloud's metadata service, which is never proxied", ip).with(nil, "have the client keep it to itself: NO_PROXY=169.254.169.254")
		case g.own != nil && g.own(netip.AddrPortFrom(real, a.Port())):
			return fault(ClassDenied, "%s is proxyd itself", a).with(nil, "a connection would loop; check the target, or NO_PROXY of the client")
		}
	}
	if trusted || slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return nil
	}
	what := private(ip)
	if hidden := embedded(ip); what == "" && hidden.IsValid() {
		what = "an IPv6 form that hides " + hidden.String()
	}
	if what == "" {
		return nil
	}
	cidr := netip.PrefixFrom(ip, ip.BitLen()).String()
	if ip.Is6() { // "::1/128" is no YAML without quotes
		cidr = strconv.Quote(cidr)
	}
	hint := "to allow it, add allow_private: [" + cidr + "]"
	if ip.IsLoopback() {
		hint = "have the client keep local addresses to itself (NO_PROXY=localhost,127.0.0.1,::1), or add allow_private: [" + cidr + "]"
	}
	return fault(ClassDenied, "%s is %s, which direct connections do not reach", ip, what).with(nil, hint)
}

// notOurselves refuses an upstream that is proxyd itself. nil if it is not.
func (g *guard) notOurselves(addrs []netip.Addr, port uint16) error {
	for _, a := range addrs {
		if at := netip.AddrPortFrom(a.Unmap(), port); g.own != nil && g.own(at) {
			return fault(ClassDenied, "proxy_loop_detected: the upstream %s is proxyd itself", at).with(nil, "a connection would go round; check the upstream's address")
		}
	}
	return nil
}

// private says what kind of not-public address ip is, "" if it is public.
func private(ip netip.Addr) string {
	switch {
	case ip.IsUnspecified():
		return "an unspecified address"
	case ip.IsLoopback():
		return "this machine"
	case ip.IsPrivate():
		return "a private address"
	case ip.IsLinkLocalUnicast():
		return "a link-local address"
	case ip.IsMulticast():
		return "a multicast address"
	}
	for _, s := range special {
		if s.prefix.Contains(ip) {
			return s.what
		}
	}
	return ""
}

func embedded(ip netip.Addr) netip.Addr {
	if v4, ok := target.Embedded(ip); ok {
		return v4
	}
	return netip.Addr{}
}

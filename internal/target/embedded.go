package target

import "net/netip"

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291 section 2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765
)

// Embedded returns the IPv4 address within an IPv6 address that a gateway or
// tunnel would translate to it: NAT64, 6to4, Teredo (the client's), ISATAP,
// IPv4-compatible, -translated and -mapped ones.
func Embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.IsValid() || a.Is4() {
		return netip.Addr{}, false
	}
	if a.Is4In6() {
		return a.Unmap(), true
	}
	a = a.WithZone("")
	b := a.As16()
	switch {
	case nat64.Contains(a), translated.Contains(a):
		return v4(b[12], b[13], b[14], b[15]), true
	case nat64Local.Contains(a):
		return local(b), true
	case sixToFour.Contains(a):
		return v4(b[2], b[3], b[4], b[5]), true
	case teredo.Contains(a):
		return v4(^b[12], ^b[13], ^b[14], ^b[15]), true
	case b[8]&^0x03 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP (RFC 5214 section 6.1), whatever the prefix
		return v4(b[12], b[13], b[14], b[15]), true
	case compatible.Contains(a) && !a.IsUnspecified() && a != netip.IPv6Loopback():
		return v4(b[12], b[13], b[14], b[15]), true
	}
	return netip.Addr{}, false
}

// local decodes an address of the local-use NAT64 block. RFC 8215 leaves the
// length of a site's prefix open. In all forms of RFC 6052 section 2.2, what
// follows the IPv4 address is zero, which tells them apart.
func local(b [16]byte) netip.Addr {
	zeroFrom := 16
	for zeroFrom > 0 && b[zeroFrom-1] == 0 {
		zeroFrom--
	}
	switch {
	case zeroFrom <= 11:
		return v4(b[6], b[7], b[9], b[10]) // a /48
	case zeroFrom <= 12:
		return v4(b[7], b[9], b[10], b[11]) // a /56
	case zeroFrom <= 13:
		return v4(b[9], b[10], b[11], b[12]) // a /64
	default:
		return v4(b[12], b[13], b[14], b[15]) // a /96
	}
}

func v4(a, b, c, d byte) netip.Addr { return netip.AddrFrom4([4]byte{a, b, c, d}) }

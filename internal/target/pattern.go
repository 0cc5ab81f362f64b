package target

import (
	"errors"
	"net/netip"
	"strings"
)

// PatternKind says how a Pattern matches.
type PatternKind uint8

// The kinds of pattern.
const (
	Exact    PatternKind = iota + 1 // one name
	Wildcard                        // *.x: any depth below x, not x itself
	CIDR                            // addresses in Prefix; a single address is a full-length prefix
	Any                             // *: everything
)

// Pattern is what hosts are matched against.
type Pattern struct {
	Kind   PatternKind
	Name   string       // the name, for Exact; the part below which to match, for Wildcard
	Prefix netip.Prefix // for CIDR
}

// ParsePattern parses a pattern: a name, *.name, an address, a CIDR or *.
func ParsePattern(s string) (Pattern, error) {
	if s == "" {
		return Pattern{}, errors.New("the host is empty")
	}
	if s == "*" {
		return Pattern{Kind: Any}, nil
	}
	if rest, ok := strings.CutPrefix(s, "*."); ok {
		h, err := ParseHost(rest)
		switch {
		case err != nil:
			return Pattern{}, err
		case h.IsIP():
			return Pattern{}, newSyntaxError("host", s, "is a wildcard before an address: write a CIDR")
		}
		return Pattern{Kind: Wildcard, Name: h.Name}, nil
	}
	switch {
	case strings.Contains(s, "://"):
		return Pattern{}, newSyntaxError("host", s, "is a URL: write the host alone")
	case strings.Contains(s, "*"):
		return Pattern{}, newSyntaxError("host", s, "has a * that does not stand for whole labels: write *.name")
	case s[0] == '.' && len(s) > 1:
		return Pattern{}, newSyntaxError("host", s, "begins with a dot: write *.name for what is below the name")
	case strings.Contains(s, "/"):
		return parseCIDR(s)
	}
	h, err := ParseHost(s)
	if err != nil {
		if _, _, split := ParseHostPort(s); split == nil {
			return Pattern{}, newSyntaxError("host", s, "has a port: write the host alone")
		}
		return Pattern{}, err
	}
	if h.IsIP() {
		return Pattern{Kind: CIDR, Prefix: netip.PrefixFrom(h.IP, h.IP.BitLen())}, nil
	}
	return Pattern{Kind: Exact, Name: h.Name}, nil
}

// parseCIDR parses address/bits. No bit beyond the length may be set.
func parseCIDR(s string) (Pattern, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return Pattern{}, newSyntaxError("host", s, "is not a CIDR such as 10.1.0.0/16, nor a host")
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if m := p.Masked(); m != p {
		return Pattern{}, newSyntaxError("host", s, "has bits set beyond its length: write "+m.String())
	}
	return Pattern{Kind: CIDR, Prefix: p}, nil
}

// Covers reports whether p matches every host that name stands for: a
// normalised name or address, or "*." and a name for all names below it. Names
// are matched by names, addresses by CIDRs; Any matches both.
func (p Pattern) Covers(name string) bool {
	switch p.Kind {
	case Exact:
		return name == p.Name
	case Wildcard:
		below, wild := strings.CutPrefix(name, "*.")
		return wild && below == p.Name || isBelow(below, p.Name)
	case CIDR:
		ip, err := netip.ParseAddr(name)
		return err == nil && p.Prefix.Contains(ip)
	case Any:
		return name != ""
	default:
		return false
	}
}

// isBelow reports whether name has at least one label more than parent.
func isBelow(name, parent string) bool {
	n := len(name) - len(parent)
	return n > 1 && name[n-1] == '.' && name[n:] == parent
}

// String returns the pattern as ParsePattern reads it, a single address without
// a length.
func (p Pattern) String() string {
	switch p.Kind {
	case Exact:
		return p.Name
	case Wildcard:
		return "*." + p.Name
	case CIDR:
		if p.Prefix.IsSingleIP() {
			return p.Prefix.Addr().String()
		}
		return p.Prefix.String()
	case Any:
		return "*"
	default:
		return ""
	}
}

// Package target reads and normalises destinations: a host, a port, a
// host:port, or a pattern that hosts match.
// Every front end, the configuration, the router and the upstreams use it, so
// that one spelling has one meaning everywhere.
//
// It does no look-ups and knows no exchanges.
package target

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// The longest a name and one of its labels may be (RFC 1035 section 2.3.4; the
// name without its trailing dot).
const (
	maxName  = 253
	maxLabel = 63
)

// maxInput bounds the work on names that are not ASCII: four bytes of UTF-8
// for each byte of the longest name, and some.
const maxInput = 1024

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

// ParseHost parses and normalises a host: case, one trailing dot, IDNA (UTS 46,
// non-transitional), brackets around an IPv6 address, IPv4-mapped addresses.
// Parsing the result again returns it unchanged.
//
// It refuses whatever another parser might read differently: zones, user
// information, names whose last label is a number (resolvers read 127.1,
// 2130706433 and 0x7f.1 as 127.0.0.1), and every byte that is not a letter, a
// digit, a hyphen or an underscore. The error is a sentence that a client may
// see.
func ParseHost(s string) (Host, error) {
	switch {
	case s == "":
		return Host{}, errors.New("the target has no host")
	case len(s) > maxInput:
		return Host{}, newSyntaxError("host", s, "is too long: a name has at most 253 bytes")
	case s[0] == '[':
		return parseBrackets(s)
	}
	shape, at := scan(s)
	switch shape {
	case plain:
		return Host{Name: s}, nil
	case colon:
		return parseV6(s, s)
	case foreign:
		return parseForeign(s)
	case bad:
		return Host{}, newSyntaxError("host", s, badByte(s[at]))
	default:
		return parseASCII(s, s)
	}
}

// shape is what the first look at a host shows.
type shape uint8

const (
	plain   shape = iota // a normalised name: nothing is left to do
	ascii                // only letters, digits, '-', '_', '.': needs a closer look
	colon                // an IPv6 address, or nothing
	foreign              // bytes beyond ASCII
	bad                  // a byte that no host has
)

// scan looks at each byte once. It returns plain only for names that parseASCII
// would return unchanged. For bad, at is the index of the bad byte.
func scan(s string) (sh shape, at int) {
	start, digits := 0, true // of the label at hand
	closer, hasColon := len(s) > maxName, false
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', c == '_':
			digits = false
		case '0' <= c && c <= '9':
		case c == '-':
			digits = false
			if i == start {
				closer = true
			}
		case c == '.':
			if !plainLabel(s[start:i]) {
				closer = true
			}
			start, digits = i+1, true
		case 'A' <= c && c <= 'Z':
			closer = true
		case c == ':':
			hasColon = true
		case c >= utf8.RuneSelf:
			// A worse byte may follow: it decides.
			for j := i; j < len(s); j++ {
				if s[j] <= ' ' || s[j] == 0x7f {
					return bad, j
				}
			}
			return foreign, 0
		default:
			return bad, i
		}
	}
	switch {
	case hasColon:
		return colon, 0
	case closer, digits, !plainLabel(s[start:]), hexNumber(s[start:]):
		return ascii, 0
	}
	return plain, 0
}

// plainLabel reports whether a lower-case label needs no closer look.
func plainLabel(l string) bool {
	return l != "" && len(l) <= maxLabel && l[len(l)-1] != '-' && !strings.HasPrefix(l, "xn--")
}

// parseBrackets reads "[v6]".
func parseBrackets(s string) (Host, error) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return Host{}, newSyntaxError("host", s, "has no closing bracket at its end")
	}
	if !strings.Contains(inner, ":") {
		return Host{}, newSyntaxError("host", s, "is not an IPv6 address: only those stand in brackets")
	}
	return parseV6(inner, s)
}

// parseV6 reads an IPv6 address; s is what was written.
func parseV6(addr, s string) (Host, error) {
	if strings.Contains(addr, "%") {
		return Host{}, newSyntaxError("host", s, "has a zone, which means nothing to others")
	}
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return Host{}, newSyntaxError("host", s, "is not an IPv6 address")
	}
	return addrHost(ip), nil
}

// addrHost returns the host of an address without a zone.
func addrHost(ip netip.Addr) Host {
	ip = ip.Unmap()
	return Host{Name: ip.String(), IP: ip}
}

// lookup maps as browsers and resolvers do before they look a name up. What is
// left of STD 3 is checked by parseASCII, which allows the underscore.
var lookup = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.CheckJoiners(true),
	idna.CheckHyphens(false),
	idna.StrictDomainName(false),
	idna.Transitional(false),
)

// parseForeign reads a name with bytes beyond ASCII.
func parseForeign(s string) (Host, error) {
	if !utf8.ValidString(s) {
		return Host{}, newSyntaxError("host", s, "is neither ASCII nor UTF-8")
	}
	name, err := lookup.ToASCII(s)
	if err != nil {
		return Host{}, newSyntaxError("host", s, "is not a valid internationalised name")
	}
	for i := range len(name) {
		if !hostByte(name[i]) {
			return Host{}, newSyntaxError("host", s, badByte(name[i]))
		}
	}
	if name == "" {
		return Host{}, newSyntaxError("host", s, "is empty")
	}
	return parseASCII(name, s)
}

// parseASCII reads a name or an IPv4 address that consists of host bytes; s is
// what was written.
func parseASCII(name, s string) (Host, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" {
		return Host{}, newSyntaxError("host", s, "is empty")
	}
	if len(name) > maxName {
		return Host{}, newSyntaxError("host", s, "is too long: a name has at most 253 bytes")
	}
	last := name
	for rest, more := name, true; more; {
		last, rest, more = strings.Cut(rest, ".")
		if why := badLabel(last); why != "" {
			return Host{}, newSyntaxError("host", s, why)
		}
	}
	if allDigits(last) || hexNumber(last) {
		ip, err := netip.ParseAddr(name)
		if err != nil {
			return Host{}, newSyntaxError("host", s, "ends in a number but is not an IPv4 address of four decimal numbers")
		}
		return addrHost(ip), nil
	}
	return Host{Name: name}, nil
}

// badLabel returns what is wrong with a label, "" if it is valid.
func badLabel(l string) string {
	switch {
	case l == "":
		return "has an empty label"
	case len(l) > maxLabel:
		return "has a label of more than 63 bytes"
	case l[0] == '-' || l[len(l)-1] == '-':
		// xn--example- is such a label too: punycode of ASCII alone.
		return "has a label that begins or ends with a hyphen"
	case strings.HasPrefix(l, "xn--"):
		return badPunycode(l)
	}
	return ""
}

// badPunycode returns what is wrong with a label that begins with xn--, "" if
// it is valid. The label must be the only spelling of a name that is not ASCII;
// otherwise two spellings would be the same name to some programs only.
func badPunycode(l string) string {
	const what = "has a label that is not valid punycode"
	u, err := lookup.ToUnicode(l)
	if err != nil {
		return what
	}
	foreign := false
	for i := range len(u) {
		foreign = foreign || u[i] >= utf8.RuneSelf
	}
	if !foreign {
		return what
	}
	if back, err := lookup.ToASCII(u); err != nil || back != l {
		return what
	}
	return ""
}

func allDigits(l string) bool {
	for i := range len(l) {
		if l[i] < '0' || l[i] > '9' {
			return false
		}
	}
	return l != ""
}

// hexNumber reports whether inet_aton would read the label as 0x….
func hexNumber(l string) bool {
	if len(l) < 2 || l[0] != '0' || l[1] != 'x' {
		return false
	}
	for i := 2; i < len(l); i++ {
		if c := l[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func hostByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || c == '-' || c == '_' || c == '.'
}

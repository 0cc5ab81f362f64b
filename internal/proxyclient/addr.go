package proxyclient

import (
	"strconv"

	"proxyd/internal/target"
)

// Addr is a target as a proxy is asked for it, normalised where it came in.
type Addr struct {
	target.Host
	Port uint16
}

// String returns "host:port", with brackets around an IPv6 address.
func (a Addr) String() string { return string(a.appendTo(nil)) }

// appendTo appends "host:port". It uses only normalised parts, never text as a
// client wrote it.
func (a Addr) appendTo(b []byte) []byte {
	switch {
	case a.IP.Is6():
		b = append(b, '[')
		b = a.IP.AppendTo(b)
		b = append(b, ']')
	case a.IsIP():
		b = a.IP.AppendTo(b)
	default:
		b = append(b, a.Name...)
	}
	b = append(b, ':')
	return strconv.AppendUint(b, uint64(a.Port), 10)
}

// IsValid reports whether a may be put into a handshake. A normalised address
// always may; this is the last check before it is sent.
func (a Addr) IsValid() bool {
	if a.Port == 0 {
		return false
	}
	if a.IsIP() {
		return true
	}
	if a.Name == "" || len(a.Name) > 253 {
		return false
	}
	for i := 0; i < len(a.Name); i++ {
		switch c := a.Name[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

package target

import (
	"errors"
	"strings"
)

// ParsePort parses a port: 1 to 65535, digits only, no leading zero. Other
// parsers have read 86536 as 21000, and accept "+80".
func ParsePort(s string) (uint16, error) {
	switch {
	case s == "":
		return 0, errors.New("the target has no port")
	case !allDigits(s):
		return 0, newSyntaxError("port", s, "is not a number")
	case s == "0":
		return 0, newSyntaxError("port", s, "is not between 1 and 65535")
	case s[0] == '0':
		return 0, newSyntaxError("port", s, "has a leading zero")
	case len(s) > 5:
		return 0, newSyntaxError("port", s, "is not between 1 and 65535")
	}
	n := 0
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
	}
	if n > 65535 {
		return 0, newSyntaxError("port", s, "is not between 1 and 65535")
	}
	return uint16(n), nil
}

// SplitHostPort splits host:port at its last colon and parses the port. The
// host is returned as written, brackets included, so that ParseHost still sees
// them.
func SplitHostPort(s string) (host string, port uint16, err error) {
	i := strings.LastIndexByte(s, ':')
	switch {
	case s == "":
		return "", 0, errors.New("the target is empty")
	case strings.IndexByte(s, '@') >= 0:
		return "", 0, newSyntaxError("target", s, badByte('@'))
	case i < 0, strings.IndexByte(s[i:], ']') >= 0:
		return "", 0, newSyntaxError("target", s, "has no port")
	case i == 0:
		return "", 0, newSyntaxError("target", s, "has no host")
	case i == len(s)-1:
		return "", 0, newSyntaxError("target", s, "has no port")
	}
	port, err = ParsePort(s[i+1:])
	if err != nil {
		return "", 0, err
	}
	return s[:i], port, nil
}

// ParseHostPort parses the authority of a CONNECT request (RFC 9110 section
// 7.1): a host and a port and nothing else. An IPv6 address may lack its
// brackets, as some clients send it; the last number is then the port.
func ParseHostPort(s string) (Host, uint16, error) {
	text, port, err := SplitHostPort(s)
	if err != nil {
		return Host{}, 0, err
	}
	h, err := ParseHost(text)
	if err != nil {
		return Host{}, 0, err
	}
	return h, port, nil
}

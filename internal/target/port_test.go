package target

import (
	"net"
	"strconv"
	"strings"
	"testing"
)

func TestParseHostPort(t *testing.T) {
	tests := []struct {
		name, in, host string
		port           uint16
	}{
		{"name", "api.binance.com:443", "api.binance.com", 443},
		{"case and dot", "LOCALHOST.:9443", "localhost", 9443},
		{"lowest port", "a:1", "a", 1},
		{"highest port", "a:65535", "a", 65535},
		{"IPv4", "203.0.113.9:80", "203.0.113.9", 80},
		{"IPv6 in brackets", "[2001:db8::1]:443", "2001:db8::1", 443},
		{"IPv6 bare", "2001:db8::1:443", "2001:db8::1", 443},
		{"IPv6 bare, full", "1:2:3:4:5:6:7:8:443", "1:2:3:4:5:6:7:8", 443},
		{"mapped", "[::ffff:127.0.0.1]:80", "127.0.0.1", 80},
		{"IDNA", "bücher.example:80", "xn--bcher-kva.example", 80},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, port, err := ParseHostPort(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if h.Name != tt.host || port != tt.port {
				t.Errorf("got %s, %d; want %s, %d", h, port, tt.host, tt.port)
			}
		})
	}
}

func TestParseHostPortRefuses(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"TGT-01", "2130706433:80", "ends in a number"},
		{"TGT-02", "0177.0.0.1:80", "ends in a number"},
		{"TGT-03", "0x7f.1:80", "ends in a number"},
		{"TGT-04", "127.1:80", "ends in a number"},
		{"TGT-05", "0:80", "ends in a number"},
		{"TGT-11", "[fe80::1%25eth0]:443", "zone"},
		{"TGT-12", "localhost..:80", "empty label"},
		{"TGT-13 address", "[127.0.0.1]:80", "only those stand in brackets"},
		{"TGT-13 name", "[localhost]:80", "only those stand in brackets"},
		{"TGT-15 colon in the user's part", "a:80@127.0.0.1:80", "user information"},
		{"TGT-15 password", "user:pw@h:443", "user information"},
		{"TGT-15 no port behind", "user:pw@h", "user information"},
		{"TGT-15 empty user", "@h:443", "user information"},
		{"TGT-16 fragment", "127.0.0.1:80#@evil.example", "user information"},
		{"TGT-16 backslash", `evil.example\:80`, "slash"},
		{"TGT-16 fragment behind the port", "h:80#f", "is not a number"},
		{"TGT-17 none", "h", "no port"},
		{"TGT-17 zero", "h:0", "between 1 and 65535"},
		{"TGT-17 65536", "h:65536", "between 1 and 65535"},
		{"TGT-17 65536 and 21000", "h:86536", "between 1 and 65535"},
		{"TGT-17 minus", "h:-1", "is not a number"},
		{"TGT-17 plus", "h:+21000", "is not a number"},
		{"TGT-17 leading zero", "h:021000", "leading zero"},
		{"TGT-17 zeros", "h:00", "leading zero"},
		{"TGT-17 empty", "h:", "no port"},
		{"TGT-17 letter", "h:21000x", "is not a number"},
		{"TGT-17 40 digits", "h:" + strings.Repeat("9", 40), "between 1 and 65535"},
		{"TGT-17 2^64 and 443", "h:18446744073709552059", "between 1 and 65535"},
		{"TGT-17 space", "h: 80", "is not a number"},
		{"TGT-17 space behind", "h:80 ", "is not a number"},
		{"TGT-17 other digits", "h:８０", "is not a number"},
		{"TGT-17 service name", "h:https", "is not a number"},
		{"IPv6 in brackets without a port", "[::1]", "no port"},
		{"IPv6 bare without a port", "2001:db8::1", "not an IPv6 address"},
		{"two ports", "h:80:80", "not an IPv6 address"},
		{"no host", ":443", "no host"},
		{"nothing", "", "empty"},
		{"colon", ":", "no host"},
		{"slash", "h:80/", "is not a number"},
		{"scheme", "http://h:80", "slash"},
		{"scheme without a port", "http://h", "is not a number"},
		{"TGT-20 CRLF", "h\r\nX: y:80", "control character"},
		{"TGT-20 CRLF in the port", "h:80\r\n", "is not a number"},
		{"TGT-21", "xn--example-.com:443", "hyphen"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, port, err := ParseHostPort(tt.in)
			if err == nil {
				t.Fatalf("taken as %s, %d; want an error", h, port)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want %q in it", err, tt.want)
			}
			if strings.Contains(tt.in, "@") && strings.Contains(err.Error(), "pw") {
				t.Errorf("the password is repeated: %q", err)
			}
			checkSentence(t, err)
		})
	}
}

func TestSplitHostPort(t *testing.T) {
	tests := []struct {
		in, host string
		port     uint16
	}{
		{"h:80", "h", 80},
		{"H.:80", "H.", 80},
		{"[localhost]:80", "[localhost]", 80}, // what brackets stand around is ParseHost's to judge
		{"::1:80", "::1", 80},
	}
	for _, tt := range tests {
		host, port, err := SplitHostPort(tt.in)
		if err != nil || host != tt.host || port != tt.port {
			t.Errorf("%s: got %q, %d, %v; want %q, %d", tt.in, host, port, err, tt.host, tt.port)
		}
	}
}

// FuzzParseHostPort holds that an authority is read whole or not at all, and
// that what was read, written out again, is read the same.
func FuzzParseHostPort(f *testing.F) {
	for _, s := range []string{"h:80", "[::1]:443", "a:80@127.0.0.1:80", "h:86536", "2001:db8::1:443", "h:021", "[localhost]:1", "h: 80", "bücher.example:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, port, err := ParseHostPort(s)
		if err != nil {
			checkSentence(t, err)
			return
		}
		if port == 0 || strings.ContainsAny(s, "@/\\#? \r\n\t") {
			t.Fatalf("%q read as %s, %d", s, h, port)
		}
		again, port2, err := ParseHostPort(net.JoinHostPort(h.Name, strconv.Itoa(int(port))))
		if err != nil || again != h || port2 != port {
			t.Fatalf("%q read as %s, %d, and that as %s, %d, %v", s, h, port, again, port2, err)
		}
		if !strings.HasSuffix(s, ":"+strconv.Itoa(int(port))) {
			t.Fatalf("%q read with port %d", s, port)
		}
	})
}

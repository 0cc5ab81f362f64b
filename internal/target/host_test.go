package target

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseHostAccepts(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	name253 := strings.Join([]string{label63, label63, label63, strings.Repeat("b", 61)}, ".")
	tests := []struct {
		name, in, want string
		ip             string // "" for a name
	}{
		{"plain name", "api.binance.com", "api.binance.com", ""},
		{"upper case", "STREAM.Exchange.TEST", "stream.exchange.test", ""},
		{"TGT-12 trailing dot", "localhost.", "localhost", ""},
		{"TGT-12 case", "LOCALHOST", "localhost", ""},
		{"one label", "tokyo", "tokyo", ""},
		{"underscore", "_feed.my_venue.example", "_feed.my_venue.example", ""},
		{"two hyphens inside", "r3---sn-4g5.example", "r3---sn-4g5.example", ""},
		{"digits in front", "1.2.3.example", "1.2.3.example", ""},
		{"digits and letters last", "a.1b", "a.1b", ""},
		{"0x and more than hex last", "a.0xg", "a.0xg", ""},
		{"TGT-23 label of 63", label63 + ".example", label63 + ".example", ""},
		{"TGT-23 name of 253", name253, name253, ""},
		{"TGT-23 name of 253 and the dot", name253 + ".", name253, ""},
		{"IDNA", "bücher.example", "xn--bcher-kva.example", ""},
		{"IDNA upper case", "BÜCHER.example.", "xn--bcher-kva.example", ""},
		{"IDNA punycode kept", "xn--bcher-kva.example", "xn--bcher-kva.example", ""},
		{"IDNA punycode case", "XN--BCHER-KVA.Example", "xn--bcher-kva.example", ""},
		{"IDNA not transitional", "straße.example", "xn--strae-oqa.example", ""},
		{"IDNA decomposed", "bu\u0308cher.example", "xn--bcher-kva.example", ""},
		{"IDNA full stops", "api。binance．com｡", "api.binance.com", ""},
		{"IDNA full width", "ａｐｉ.binance.com", "api.binance.com", ""},
		{"IDNA underscore", "_x.bücher.example", "_x.xn--bcher-kva.example", ""},
		{"IPv4", "203.0.113.9", "203.0.113.9", "203.0.113.9"},
		{"TGT-05 unspecified", "0.0.0.0", "0.0.0.0", "0.0.0.0"},
		{"TGT-12 address with a dot", "127.0.0.1.", "127.0.0.1", "127.0.0.1"},
		{"full-width IPv4 is the address", "１２７.0.0.1", "127.0.0.1", "127.0.0.1"},
		{"IPv6 in brackets", "[2001:DB8::1]", "2001:db8::1", "2001:db8::1"},
		{"IPv6 bare", "2001:db8:0:0::1", "2001:db8::1", "2001:db8::1"},
		{"IPv6 loopback", "[::1]", "::1", "::1"},
		{"TGT-07 mapped", "[::ffff:127.0.0.1]", "127.0.0.1", "127.0.0.1"},
		{"TGT-08 mapped in hex", "[::ffff:7f00:1]", "127.0.0.1", "127.0.0.1"},
		{"mapped bare", "::ffff:7f00:1", "127.0.0.1", "127.0.0.1"},
		{"TGT-09 NAT64 stays itself", "[64:ff9b::7f00:1]", "64:ff9b::7f00:1", "64:ff9b::7f00:1"},
		{"TGT-26 metadata over IPv6", "[fd00:ec2::254]", "fd00:ec2::254", "fd00:ec2::254"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := Host{Name: tt.want}
			if tt.ip != "" {
				want.IP = netip.MustParseAddr(tt.ip)
			}
			got, err := ParseHost(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
			if again, err := ParseHost(got.Name); err != nil || again != got {
				t.Errorf("read again: %v, %v; want the same", again, err)
			}
			if got.IsIP() != (tt.ip != "") || got.String() != tt.want {
				t.Errorf("IsIP %v, String %q", got.IsIP(), got)
			}
		})
	}
}

func TestParseHostRefuses(t *testing.T) {
	const number = "ends in a number but is not an IPv4 address of four decimal numbers"
	label63 := strings.Repeat("a", 63)
	tests := []struct {
		name, in, want string // want: part of the sentence
	}{
		{"TGT-01 one number", "2130706433", number},
		{"TGT-02 octal", "0177.0.0.1", number},
		{"TGT-03 hex", "0x7f.1", number},
		{"TGT-03 hex alone", "0x7f000001", number},
		{"TGT-03 hex last", "127.0.0.0x1", number},
		{"TGT-03 hex upper case", "0X7F.0.0.0X1", number},
		{"TGT-03 0x alone", "a.0x", number},
		{"TGT-04 short form", "127.1", number},
		{"TGT-05 zero", "0", number},
		{"TGT-05 zeros", "00.0.0.0", number},
		{"number with a dot", "2130706433.", number},
		{"five numbers", "127.0.0.1.1", number},
		{"too great", "127.0.0.256", number},
		{"name that ends in a number", "api.example.1", number},
		{"full-width number", "２１３０７０６４３３", number},
		{"TGT-11 zone", "[fe80::1%25eth0]", "zone"},
		{"TGT-11 zone bare", "fe80::1%eth0", "zones"},
		{"TGT-11 zone of a mapped address", "[::ffff:127.0.0.1%1]", "zone"},
		{"TGT-12 two dots", "localhost..", "empty label"},
		{"TGT-12 address with two dots", "127.0.0.1..", "empty label"},
		{"TGT-13 IPv4 in brackets", "[127.0.0.1]", "only those stand in brackets"},
		{"TGT-13 name in brackets", "[localhost]", "only those stand in brackets"},
		{"bracket left open", "[::1", "no closing bracket"},
		{"bracket closed early", "[::1]x", "no closing bracket"},
		{"bracket and dot", "[::1].", "no closing bracket"},
		{"bracket never opened", "::1]", "bracket"},
		{"brackets twice", "[[::1]]", "is not an IPv6 address"},
		{"brackets empty", "[]", "only those stand in brackets"},
		{"bracket alone", "[", "no closing bracket"},
		{"IPv6 with a dot", "::1.", "is not an IPv6 address"},
		{"TGT-15 userinfo", "user:pw@h", "user information"},
		{"TGT-16 fragment", "h#f", "'#'"},
		{"TGT-16 backslash", `evil.example\`, "slash"},
		{"TGT-16 query", "h?x", "'?'"},
		{"port", "a:80", "is not an IPv6 address"},
		{"TGT-20 header", "h\r\nX: y", "control character"},
		{"TGT-20 log line", "h\nFAKE LOG", "control character"},
		{"TGT-20 space", "a b", "space"},
		{"TGT-20 space in front", " a", "space"},
		{"TGT-20 slash", "a/b", "slash"},
		{"TGT-20 at", "a@b", "user information"},
		{"TGT-20 address and port", "[127.0.0.1]:9", "no closing bracket"},
		{"TGT-20 not UTF-8", "b\xfccher.example", "neither ASCII nor UTF-8"},
		{"TGT-20 control byte behind the foreign one", "bü\r\n", "control character"},
		{"TGT-20 NUL", "a\x00b", "control character"},
		{"TGT-20 DEL", "a\x7f", "control character"},
		{"TGT-20 not valid IDNA", "\u2488com", "internationalised"},
		{"TGT-20 maps to a slash", "a\u2100.example", "slash"},
		{"TGT-20 maps to a colon", "a\uff1a80", "colon"},
		{"percent escape", "a%2eb", "percent"},
		{"star", "*.example", "*"},
		{"TGT-21 punycode of ASCII", "xn--example-.com", "hyphen"},
		{"TGT-21 punycode of nothing", "xn--.com", "hyphen"},
		{"TGT-21 punycode of ASCII without the hyphen", "xn--80.com", "punycode"},
		{"TGT-21 punycode of a decomposed name", "xn--bucher-xyd.com", "punycode"},
		{"TGT-21 punycode of full-width letters", "xn--mi7cqau.binance.com", "punycode"},
		{"TGT-21 punycode of a soft hyphen", "xn--ab-5da.com", "punycode"},
		{"TGT-21 not punycode", "xn--0000.example.xn--zzzzzzzzz99999", "punycode"},
		{"TGT-23 label of 64", label63 + "a.example", "more than 63"},
		{"TGT-23 name of 254", strings.Join([]string{label63, label63, label63, strings.Repeat("b", 62)}, "."), "too long"},
		{"TGT-23 name of 255", strings.Join([]string{label63, label63, label63, label63}, "."), "too long"},
		{"TGT-23 endless", strings.Repeat("a.", 40000), "too long"},
		{"TGT-23 endless IDNA", strings.Repeat("ü.", 400), "too long"},
		{"IDNA label too long", strings.Repeat("ü", 80) + ".example", "63"},
		{"hyphen in front", "-a.example", "hyphen"},
		{"hyphen at the end", "a-.example", "hyphen"},
		{"dot", ".", "empty"},
		{"dot in front", ".example", "empty label"},
		{"soft hyphen alone", "\u00ad", "empty"},
		{"nothing", "", "no host"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, err := ParseHost(tt.in)
			if err == nil {
				t.Fatalf("taken as %+v, want an error", h)
			}
			if h != (Host{}) {
				t.Errorf("an error and %+v", h)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want %q in it", err, tt.want)
			}
			checkSentence(t, err)
		})
	}
}

// checkSentence holds what a client may be shown.
func checkSentence(t *testing.T, err error) {
	t.Helper()
	s := err.Error()
	if len(s) > 200 {
		t.Errorf("%d bytes long: %s", len(s), s)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			t.Errorf("byte %q in %q", s[i], s)
		}
	}
}

func TestParseHostFastPath(t *testing.T) {
	for _, in := range []string{"stream.binance.com", "a", "fstream-auth.my_venue.example"} {
		if n := testing.AllocsPerRun(100, func() { ParseHost(in) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", in, n)
		}
	}
	for _, in := range []string{"STREAM.binance.com", "203.0.113.9", "[2001:db8::1]"} {
		if n := testing.AllocsPerRun(100, func() { ParseHost(in) }); n > 1 {
			t.Errorf("%s: %v allocations, want the name's alone", in, n)
		}
	}
}

// FuzzParseHost holds, for any bytes: no panic, one meaning (what was read is
// read as itself), nothing but host bytes in it, and no name that a resolver
// would take for an address.
func FuzzParseHost(f *testing.F) {
	for _, s := range []string{
		"api.binance.com", "LOCALHOST.", "2130706433", "0x7f.1", "127.0.0.1.", "[::ffff:7f00:1]", "fe80::1%eth0",
		"xn--example-.com", "xn--bcher-kva.example", "bücher。example", "１２７.0.0.1", "a\u2100", "h\r\nX: y", "[127.0.0.1]", "\u00ad.a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHost(s)
		if err != nil {
			checkSentence(t, err)
			return
		}
		if again, err := ParseHost(h.Name); err != nil || again != h {
			t.Fatalf("%q read as %+v, and that as %+v, %v", s, h, again, err)
		}
		if h.IsIP() {
			if h.IP.Is4In6() || h.IP.Zone() != "" || h.IP.String() != h.Name {
				t.Fatalf("%q read as %+v", s, h)
			}
			return
		}
		if len(h.Name) == 0 || len(h.Name) > maxName {
			t.Fatalf("%q read as a name of %d bytes", s, len(h.Name))
		}
		last := h.Name[strings.LastIndexByte(h.Name, '.')+1:]
		if allDigits(last) || hexNumber(last) {
			t.Fatalf("%q read as the name %q, which resolvers read as an address", s, h.Name)
		}
		for i := range len(h.Name) {
			if c := h.Name[i]; !hostByte(c) || 'A' <= c && c <= 'Z' {
				t.Fatalf("%q read as %q", s, h.Name)
			}
		}
		if up, err := ParseHost(strings.ToUpper(h.Name) + "."); err != nil || up != h {
			t.Fatalf("%q in upper case with a dot read as %+v, %v", h.Name, up, err)
		}
	})
}

func BenchmarkParseHost(b *testing.B) {
	for _, in := range []string{"stream.binance.com", "STREAM.binance.com", "203.0.113.9", "[2001:db8::1]", "bücher.example"} {
		b.Run(in, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ParseHost(in)
			}
		})
	}
}

func ExampleParseHost() {
	h, _ := ParseHost("STREAM.Binance.com.")
	_, err := ParseHost("127.1")
	fmt.Println(h)
	fmt.Println(err)
	// Output:
	// stream.binance.com
	// host "127.1" ends in a number but is not an IPv4 address of four decimal numbers
}

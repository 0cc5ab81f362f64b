package target

import (
	"net/netip"
	"testing"
)

func TestEmbedded(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"TGT-09 NAT64", "64:ff9b::7f00:1", "127.0.0.1"},
		{"TGT-09 6to4", "2002:7f00:1::", "127.0.0.1"},
		{"TGT-09 Teredo", "2001:0:0:0:0:0:80ff:fffe", "127.0.0.1"},
		{"TGT-09 compatible", "::127.0.0.1", "127.0.0.1"},
		{"mapped", "::ffff:127.0.0.1", "127.0.0.1"},
		{"translated", "::ffff:0:127.0.0.1", "127.0.0.1"},
		{"local NAT64 /96", "64:ff9b:1::10.1.2.3", "10.1.2.3"},
		{"local NAT64 /96 of another site", "64:ff9b:1:fffe::10.1.2.3", "10.1.2.3"},
		{"local NAT64 /48", "64:ff9b:1:0a01:0002:0300::", "10.1.2.3"},
		{"local NAT64 /56", "64:ff9b:1:aa0a:0001:0203::", "10.1.2.3"},
		{"local NAT64 /64", "64:ff9b:1:aaaa:000a:0102:0300:0", "10.1.2.3"},
		{"NAT64 with a zone", "64:ff9b::7f00:1%1", "127.0.0.1"},
		{"IPv4 itself", "127.0.0.1", ""},
		{"unspecified", "::", ""},
		{"loopback", "::1", ""},
		{"global", "2001:db8::7f00:1", ""},
		{"link-local", "fe80::7f00:1", ""},
		{"beside NAT64", "64:ff9b:2::7f00:1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Embedded(netip.MustParseAddr(tt.in))
			want := netip.Addr{}
			if tt.want != "" {
				want = netip.MustParseAddr(tt.want)
			}
			if got != want || ok != (tt.want != "") {
				t.Errorf("got %v, %v; want %v", got, ok, want)
			}
		})
	}
	if _, ok := Embedded(netip.Addr{}); ok {
		t.Error("no address hides one")
	}
}

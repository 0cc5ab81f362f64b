package dialer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"proxyd/internal/failure"
	"proxyd/internal/target"
)

// guarded returns a guard that allows the prefixes and knows own as proxyd's listeners.
func guarded(allow []string, own ...string) *Guard {
	var prefixes []netip.Prefix
	for _, p := range allow {
		prefixes = append(prefixes, netip.MustParsePrefix(p))
	}
	return NewGuard(prefixes, func(a netip.AddrPort) bool { return slices.Contains(own, a.String()) })
}

// spelled is an address as the border reads what a client wrote, or "" when
// the border refuses it: which is as good.
func spelled(t testing.TB, s string) netip.Addr {
	t.Helper()
	h, err := target.ParseHost(s)
	if err != nil {
		return netip.Addr{}
	}
	if !h.IsIP() {
		t.Fatalf("%q is the name %s", s, h.Name)
	}
	return h.IP
}

// Every spelling of an address that is not the public internet (attacks.md, TGT).
func TestGuardRefuses(t *testing.T) {
	tests := []struct{ name, host, what string }{
		{"this machine", "127.0.0.1", "this machine"},
		{"all of it", "127.255.255.254", "this machine"},
		{"one number", "2130706433", ""},
		{"octal", "0177.0.0.1", ""},
		{"hexadecimal", "0x7f.1", ""},
		{"short", "127.1", ""},
		{"zero", "0", ""},
		{"unspecified", "0.0.0.0", "an unspecified address"},
		{"this network", "0.1.2.3", "an unspecified address"},
		{"mapped", "[::ffff:127.0.0.1]", "this machine"},
		{"mapped, hexadecimal", "[::ffff:7f00:1]", "this machine"},
		{"IPv6", "[::1]", "this machine"},
		{"IPv6, long", "[0:0:0:0:0:0:0:1]", "this machine"},
		{"IPv6, unspecified", "[::]", "an unspecified address"},
		{"a trailing dot", "127.0.0.1.", "this machine"},
		{"NAT64", "[64:ff9b::7f00:1]", "an IPv6 form that hides 127.0.0.1"},
		{"NAT64 of a public address", "[64:ff9b::808:808]", "an IPv6 form that hides 8.8.8.8"},
		{"local NAT64, /96", "[64:ff9b:1::7f00:1]", "an IPv6 form that hides 127.0.0.1"},
		{"local NAT64, /48", "[64:ff9b:1:0a00:0:100::]", "an IPv6 form that hides 10.0.0.1"},
		{"6to4", "[2002:7f00:1::]", "an IPv6 form that hides 127.0.0.1"},
		{"Teredo", "[2001:0:0:0:0:0:80ff:fffe]", "an IPv6 form that hides 127.0.0.1"},
		{"IPv4-compatible", "[::127.0.0.1]", "an IPv6 form that hides 127.0.0.1"},
		{"ISATAP", "[2620:1::5efe:7f00:1]", "an IPv6 form that hides 127.0.0.1"},
		{"ISATAP of a global address", "[2620:1::200:5efe:a00:1]", "an IPv6 form that hides 10.0.0.1"},
		{"IPv4-translated", "[::ffff:0:127.0.0.1]", "an IPv6 form that hides 127.0.0.1"},
		{"a zone", "[fe80::1%25eth0]", ""},
		{"private, 10", "10.1.2.3", "a private address"},
		{"private, 172", "172.31.255.255", "a private address"},
		{"private, 192", "192.168.0.1", "a private address"},
		{"private, mapped", "[::ffff:10.1.2.3]", "a private address"},
		{"unique local", "[fd12:3456::1]", "a private address"},
		{"link-local", "169.254.1.1", "a link-local address"},
		{"link-local, IPv6", "[fe80::1]", "a link-local address"},
		{"site-local", "[fec0::1]", "a site-local address"},
		{"multicast", "224.0.0.1", "a multicast address"},
		{"multicast, IPv6", "[ff02::1]", "a multicast address"},
		{"carrier", "100.64.0.1", "a carrier's private address"},
		{"benchmarks", "198.19.255.255", "a benchmarking address"},
		{"documentation", "192.0.2.1", "an address for documentation"},
		{"documentation, 2", "198.51.100.255", "an address for documentation"},
		{"documentation, 3", "203.0.113.0", "an address for documentation"},
		{"documentation, IPv6", "[2001:db8::1]", "an address for documentation"},
		{"documentation, IPv6, 2", "[3fff:fff::1]", "an address for documentation"},
		{"reserved", "240.0.0.1", "a reserved address"},
		{"broadcast", "255.255.255.255", "a reserved address"},
		{"protocol assignments", "192.0.0.8", "a reserved address"},
	}
	g := guarded(nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ip := spelled(t, tt.host)
			if ip.IsValid() != (tt.what != "") {
				t.Fatalf("the border reads %q as %v", tt.host, ip)
			}
			if tt.what == "" {
				return
			}
			e := g.CheckDirect(netip.AddrPortFrom(ip, 443), false)
			ip = ip.Unmap()
			want := fmt.Sprintf("%s is %s, which direct connections do not reach", ip, tt.what)
			if e == nil || e.Class != failure.Denied || e.Text != want {
				t.Fatalf("got %+v, want %q", e, want)
			}
			prefix := netip.PrefixFrom(ip, ip.BitLen()).String()
			if fakeV4.Contains(ip) {
				prefix = fakeV4.String()
			}
			line := "add allow_private: [" + prefix + "]"
			if ip.Is6() {
				line = fmt.Sprintf("add allow_private: [%q]", prefix)
			}
			if !strings.Contains(e.Hint, line) {
				t.Errorf("the hint is %q, want %q in it", e.Hint, line)
			}
			if guarded([]string{prefix}).CheckDirect(netip.AddrPortFrom(ip, 443), false) != nil {
				t.Errorf("the hint's line does not allow it: %q", e.Hint)
			}
			if g.CheckDirect(netip.AddrPortFrom(ip, 443), true) != nil {
				t.Error("a route that names the host and says direct is not enough")
			}
		})
	}
}

// The public internet is free, up to the very edges.
func TestGuardAllows(t *testing.T) {
	g := guarded(nil)
	for _, a := range []string{
		"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255",
		"172.15.255.255", "172.32.0.0", "192.0.1.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
		"2606:4700::1111", "2001:4860:4860::8888", "2003::1", "64:ff9a::1", "64:ff9b:2::1",
	} {
		t.Run(a, func(t *testing.T) {
			if e := g.CheckDirect(netip.AddrPortFrom(netip.MustParseAddr(a), 443), false); e != nil {
				t.Errorf("got %v", e)
			}
		})
	}
}

// What hands out a machine's credentials is never reached, whatever is allowed.
func TestGuardMetadata(t *testing.T) {
	g := guarded([]string{"0.0.0.0/0", "::/0", "169.254.0.0/16"})
	for _, a := range []string{
		"169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
		"168.63.129.16", "169.254.170.23", "fd00:ec2::23", "fd00:c1::a9fe:a9fe", "fe80::a9fe:a9fe", "169.254.169.252", "64:ff9b::a83f:8110",
		"::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::169.254.169.254", "::ffff:0:169.254.169.254", "64:ff9b:1::a9fe:a9fe",
	} {
		t.Run(a, func(t *testing.T) {
			for _, trusted := range []bool{false, true} {
				e := g.CheckDirect(netip.AddrPortFrom(netip.MustParseAddr(a), 80), trusted)
				if e == nil || e.Class != failure.Denied || !strings.Contains(e.Text, "metadata service, which is never proxied") || !strings.Contains(e.Hint, "NO_PROXY=169.254.169.254") {
					t.Errorf("trusted %v: got %+v", trusted, e)
				}
			}
		})
	}
	if e := g.CheckDirect(netip.MustParseAddrPort("169.254.169.253:80"), false); e != nil {
		t.Errorf("the address beside it: %v", e)
	}
}

// Our own listeners are never reached, in any spelling and whatever is allowed.
func TestGuardOwnListeners(t *testing.T) {
	g := guarded([]string{"0.0.0.0/0", "::/0"}, "127.0.0.1:8877", "[::1]:8877")
	tests := []struct {
		addr string
		own  bool
	}{
		{"127.0.0.1:8877", true},
		{"[::ffff:127.0.0.1]:8877", true},
		{"[64:ff9b::7f00:1]:8877", true},
		{"[2002:7f00:1::]:8877", true},
		{"[::127.0.0.1]:8877", true},
		{"[::1]:8877", true},
		{"127.0.0.1:8878", false},
		{"[::2]:8877", false},
		{"10.0.0.1:8877", false},
	}
	for _, tt := range tests {
		t.Run(tt.addr, func(t *testing.T) {
			e := g.CheckDirect(netip.MustParseAddrPort(tt.addr), true)
			if (e != nil) != tt.own {
				t.Fatalf("got %v", e)
			}
			if e != nil && (e.Class != failure.Denied || !strings.Contains(e.Text, "is proxyd itself")) {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// special holds the whole of IANA's registries, so that a range which is added
// there can be found missing here: iana.org/assignments, iana-ipv4- and
// iana-ipv6-special-registry, as of 2025-10, with their column "globally
// reachable".
func TestGuardKnowsTheSpecialRegistries(t *testing.T) {
	for prefix, global := range map[string]bool{
		"0.0.0.0/8": false, "10.0.0.0/8": false, "100.64.0.0/10": false, "127.0.0.0/8": false, "169.254.0.0/16": false, "172.16.0.0/12": false,
		"192.0.0.0/29": false, "192.0.0.8/32": false, "192.0.0.170/32": false, "192.0.0.171/32": false, "192.0.2.0/24": false, "192.31.196.0/24": true,
		"192.52.193.0/24": true, "192.88.99.0/24": false, "192.168.0.0/16": false, "192.175.48.0/24": true, "198.18.0.0/15": false, "198.51.100.0/24": false,
		"203.0.113.0/24": false, "240.0.0.0/4": false, "255.255.255.255/32": false,
		"::1/128": false, "::/128": false, "64:ff9b:1::/48": false, "100::/64": false, "100:0:0:1::/64": false, "2001:2::/48": false, "2001:10::/28": false,
		"2001:3::/32": true, "2001:4:112::/48": true, "2001:20::/28": true, "2001:30::/28": true, "2001:1::1/128": true, "2620:4f:8000::/48": true,
		"2001:db8::/32": false, "3fff::/20": false, "5f00::/16": false, "fc00::/7": false, "fe80::/10": false,
		// Globally reachable there, and refused here for the address that they hide.
		"64:ff9b::/96": false, "2001::/32": false, "2002::/16": false,
	} {
		p := netip.MustParsePrefix(prefix)
		for _, ip := range []netip.Addr{p.Addr(), lastAddr(p)} {
			if public := private(ip) == "" && !embedded(ip).IsValid(); public != global {
				t.Errorf("%s of %s: public %v, want %v", ip, prefix, public, global)
			}
		}
	}
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

// Every metadata address says where it is documented.
func TestGuardMetadataSources(t *testing.T) {
	for _, m := range metadata {
		if p := netip.MustParsePrefix(m.prefix); m.cloud == "" || !strings.Contains(m.source, "/") || p != p.Masked() {
			t.Errorf("%+v", m)
		}
	}
}

package upstream

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"proxyd/internal/config"
	"proxyd/internal/failure"
)

// The exact bytes that an upstream gets: a name as a name, an address as an
// address, and the credentials to the last byte.
func TestWire(t *testing.T) {
	const (
		http   = "HTTP/1.1 200 OK\r\n\r\n"
		none   = "\x05\x00"
		wants  = "\x05\x02"
		reply  = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
		reply4 = "\x00\x5a\x00\x00\x00\x00\x00\x00"
	)
	basic := func(pair string) string { return base64.StdEncoding.EncodeToString([]byte(pair)) }
	v4, v6, mapped := at("192.0.2.7:443"), at("[2001:db8::a]:80"), at("[::ffff:192.0.2.7]:443")
	longName := Target{Host: strings.Repeat("abcdefg.", 31) + "exmpl", Port: 65535} // 253 bytes
	one, most := strings.Repeat("u", 1), strings.Repeat("p", 255)
	tests := []struct {
		name   string
		scheme config.Scheme
		to     Target
		cred   *credentials
		steps  []step
	}{
		{"http, a name", config.SchemeHTTP, venue, nobody, []step{{askVenue, http}}},
		{"http, IPv4", config.SchemeHTTP, v4, nobody, []step{{"CONNECT 192.0.2.7:443 HTTP/1.1\r\nHost: 192.0.2.7:443\r\n\r\n", http}}},
		{"http, IPv6", config.SchemeHTTP, v6, nobody, []step{{"CONNECT [2001:db8::a]:80 HTTP/1.1\r\nHost: [2001:db8::a]:80\r\n\r\n", http}}},
		{"http, a login", config.SchemeHTTP, venue, login("user", "pass word:@/é"), []step{{
			strings.TrimSuffix(askVenue, "\r\n") + "Proxy-Authorization: Basic " + basic("user:pass word:@/é") + "\r\n\r\n", http,
		}}},
		{"http, an empty password", config.SchemeHTTP, venue, login("key", ""), []step{{
			strings.TrimSuffix(askVenue, "\r\n") + "Proxy-Authorization: Basic " + basic("key:") + "\r\n\r\n", http,
		}}},
		{"http, a long login", config.SchemeHTTP, venue, login("u", strings.Repeat("p", 4000)), []step{{
			strings.TrimSuffix(askVenue, "\r\n") + "Proxy-Authorization: Basic " + basic("u:"+strings.Repeat("p", 4000)) + "\r\n\r\n", http,
		}}},
		{"socks5, IPv4", config.SchemeSOCKS5, v4, nobody, []step{{"\x05\x01\x00", none}, {"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb", reply}}},
		{"socks5h, IPv4 in IPv6", config.SchemeSOCKS5H, mapped, nobody, []step{{"\x05\x01\x00", none}, {"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb", reply}}},
		{"socks5, IPv6", config.SchemeSOCKS5, v6, nobody, []step{{"\x05\x01\x00", none}, {"\x05\x01\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x0a\x00\x50", reply}}},
		{"socks5, the longest name", config.SchemeSOCKS5, longName, nobody, []step{{"\x05\x01\x00", none}, {"\x05\x01\x00\x03\xfd" + longName.Host + "\xff\xff", reply}}},
		{"socks5, a user of 1 and a password of 255", config.SchemeSOCKS5, v4, login(one, most), []step{
			{"\x05\x02\x00\x02", wants},
			{"\x01\x01" + one + "\xff" + most, "\x01\x00"},
			{"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb", reply},
		}},
		{"socks5, a user of 255 and a password of 1", config.SchemeSOCKS5, v4, login(most, one), []step{
			{"\x05\x02\x00\x02", wants},
			{"\x01\xff" + most + "\x01" + one, "\x01\x00"},
			{"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb", reply},
		}},
		{"socks5, any bytes in a login", config.SchemeSOCKS5, v4, login("a\xffb", "é: %41"), []step{
			{"\x05\x02\x00\x02", wants},
			{"\x01\x03a\xffb\x07é: %41", "\x01\x00"},
			{"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb", reply},
		}},
		{"socks5, a user without a password", config.SchemeSOCKS5, v4, login("key", ""), []step{
			{"\x05\x02\x00\x02", wants},
			{"\x01\x03key\x00", "\x01\x00"},
			{"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb", reply},
		}},
		{"socks4, IPv4", config.SchemeSOCKS4, v4, nobody, []step{{"\x04\x01\x01\xbb\xc0\x00\x02\x07\x00", reply4}}},
		{"socks4, a user", config.SchemeSOCKS4, mapped, login("bot", ""), []step{{"\x04\x01\x01\xbb\xc0\x00\x02\x07bot\x00", reply4}}},
		{"socks4a, a name and the longest user", config.SchemeSOCKS4A, venue, login(most, ""), []step{{"\x04\x01\x24\xe3\x00\x00\x00\x01" + most + "\x00" + venue.Host + "\x00", reply4}}},
		{"socks4a, IPv4", config.SchemeSOCKS4A, v4, nobody, []step{{"\x04\x01\x01\xbb\xc0\x00\x02\x07\x00", reply4}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, heard := converse(t, tt.steps...)
			if _, fault := shake(conn, tt.scheme, tt.to, tt.cred); fault != nil {
				t.Fatal(fault)
			}
			want := conversation{steps: tt.steps}.heard()
			if got := heard(); got != want {
				t.Errorf("it was sent\n%q, want\n%q", got, want)
			}
		})
	}
}

// What SOCKS has no room for is refused before a byte of it is sent.
func TestLoginTooLong(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, tt := range []struct {
		scheme config.Scheme
		cred   *credentials
	}{
		{config.SchemeSOCKS5, login(long, "p")},
		{config.SchemeSOCKS5, login("u", long)},
		{config.SchemeSOCKS4A, login(long, "")},
	} {
		t.Run(fmt.Sprintf("%s, %d bytes", tt.scheme, len(tt.cred.user.Reveal())), func(t *testing.T) {
			conn, heard := converse(t)
			_, fault := shake(conn, tt.scheme, venue, tt.cred)
			if fault == nil || fault.Class != failure.UpstreamAuth || strings.Contains(fault.Text, "xxx") {
				t.Errorf("got %+v", fault)
			}
			if got := heard(); got != "" {
				t.Errorf("it was sent %q", got)
			}
		})
	}
}

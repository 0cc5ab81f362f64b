package proxyclient

import (
	"fmt"
	"strings"
	"testing"

	"proxyd/internal/config"
	"proxyd/internal/failure"
)

// What a SOCKS5 reply means, by RFC 1928 and by what servers do in fact.
func TestSOCKS5ReplyClass(t *testing.T) {
	tests := []struct {
		code   byte
		want   failure.Class
		unsure bool
	}{
		{1, failure.TargetUnreachable, true},
		{2, failure.UpstreamDenied, false},
		{3, failure.TargetUnreachable, false},
		{4, failure.TargetUnreachable, false},
		{5, failure.TargetRefused, false},
		{6, failure.TargetTimeout, true},
		{7, failure.UpstreamDenied, false},
		{8, failure.UpstreamDenied, false},
		{9, failure.UpstreamProtocol, false},
		{0x5a, failure.UpstreamProtocol, false},
		{255, failure.UpstreamProtocol, false},
	}
	for _, tt := range tests {
		for _, form := range []struct{ name, rest string }{{"whole", "\x00\x01\x00\x00\x00\x00\x00\x00"}, {"two bytes", ""}} {
			t.Run(fmt.Sprint(tt.code, " ", form.name), func(t *testing.T) {
				conn, _ := converse(t, step{"\x05\x01\x00", "\x05\x00"}, step{"\x05\x01\x00\x03", "\x05" + string([]byte{tt.code}) + form.rest})
				_, e := shake(conn, config.SchemeSOCKS5, exchange, noLogin)
				if e == nil || e.Class != tt.want || e.Unsure != tt.unsure {
					t.Errorf("got %+v, want %s, unsure %v", e, tt.want, tt.unsure)
				}
			})
		}
	}
}

// Everything that may go wrong before the request.
func TestSOCKS5Greeting(t *testing.T) {
	plain, with := "\x05\x01\x00", "\x05\x02\x00\x02"
	sent := step{"\x01\x01u\x02pw", ""}
	tests := []struct {
		name       string
		cred       *Credentials
		steps      []step
		want       failure.Class
		text, hint string
	}{
		{"no login, refused", noLogin, []step{{plain, "\x05\xff"}}, failure.UpstreamAuth, "wants a user and a password", "put them into its URL"},
		{"no login, wants one", noLogin, []step{{plain, "\x05\x02"}}, failure.UpstreamAuth, "wants a user and a password", "put them into its URL"},
		{"login, refused", login("u", "pw"), []step{{with, "\x05\xff"}}, failure.UpstreamAuth, "takes neither user and password nor none", "no other SOCKS5 method"},
		{"login, rejected", login("u", "pw"), []step{{with, "\x05\x02"}, {sent.hear, "\x01\x01"}}, failure.UpstreamAuth, "rejected the user or the password", "check both"},
		{"login, rejected by version 5", login("u", "pw"), []step{{with, "\x05\x02"}, {sent.hear, "\x05\xff"}}, failure.UpstreamAuth, "rejected the user or the password", "check both"},
		{"login, a strange version", login("u", "pw"), []step{{with, "\x05\x02"}, {sent.hear, "\x02\x00"}}, failure.UpstreamProtocol, "garbage", ""},
		{"login, more than an answer", login("u", "pw"), []step{{with, "\x05\x02"}, {sent.hear, "\x01\x00\x00"}}, failure.UpstreamProtocol, "sent more than an answer to the SOCKS user", ""},
		{"GSSAPI", noLogin, []step{{plain, "\x05\x01"}}, failure.UpstreamProtocol, "method 1, which was not offered", ""},
		{"more than an answer", noLogin, []step{{plain, "\x05\x00\x05\x00\x00\x01"}}, failure.UpstreamProtocol, "sent more than an answer to the SOCKS greeting", ""},
		{"SOCKS4", noLogin, []step{{plain, "\x00\x5b\x00\x00\x00\x00\x00\x00"}}, failure.UpstreamProtocol, "looks like SOCKS4", "check the scheme and the port"},
		{"HTTP", noLogin, []step{{plain, "HTTP/1.1 400 Bad Request\r\n\r\n"}}, failure.UpstreamProtocol, "looks like HTTP", "write http:// in its URL"},
		{"SSH, which speaks first", noLogin, []step{{"", "SSH-2.0-OpenSSH_9.6\r\n"}}, failure.UpstreamProtocol, "looks like SSH", "check the scheme and the port"},
		{"an unknown address type", noLogin, []step{{plain, "\x05\x00"}, {"\x05\x01", "\x05\x00\x00\x02\x00\x00"}}, failure.UpstreamProtocol, "unknown address type, 2", ""},
		{"a reply of another version", noLogin, []step{{plain, "\x05\x00"}, {"\x05\x01", "\x04\x00\x00\x01\x00\x00\x00\x00\x00\x00"}}, failure.UpstreamProtocol, "garbage", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, _ := converse(t, tt.steps...)
			_, e := shake(conn, config.SchemeSOCKS5, exchange, tt.cred)
			if e == nil || e.Class != tt.want || !strings.Contains(e.Text, tt.text) || !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("got %+v\nwant %s, %q, hint %q", e, tt.want, tt.text, tt.hint)
			}
		})
	}
}

// A server may choose no authentication although a login was offered. It does not get it then.
func TestSOCKS5LoginNotWanted(t *testing.T) {
	conn, heard := converse(t, step{"\x05\x02\x00\x02", "\x05\x00"}, step{"\x05\x01\x00\x03", "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"})
	if _, e := shake(conn, config.SchemeSOCKS5, exchange, login("user", "secret")); e != nil {
		t.Fatal(e)
	}
	if got := heard(); strings.Contains(got, "secret") || strings.Contains(got, "user") {
		t.Errorf("it was sent %q", got)
	}
}

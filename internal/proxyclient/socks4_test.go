package proxyclient

import (
	"fmt"
	"testing"

	"proxyd/internal/config"
	"proxyd/internal/failure"
)

func TestSOCKS4ReplyClass(t *testing.T) {
	tests := []struct {
		say    string
		want   failure.Class
		unsure bool
	}{
		{"\x00\x5b\x00\x00\x00\x00\x00\x00", failure.TargetUnreachable, true},
		{"\x00\x5b", failure.TargetUnreachable, true},
		{"\x00\x5c\x00\x00\x00\x00\x00\x00", failure.UpstreamAuth, false},
		{"\x00\x5d\x00\x00\x00\x00\x00\x00", failure.UpstreamAuth, false},
		{"\x00\x5e\x00\x00\x00\x00\x00\x00", failure.UpstreamProtocol, false},
		{"\x00\x00\x00\x00\x00\x00\x00\x00", failure.UpstreamProtocol, false},
		{"\x04\x5a\x00\x00\x00\x00\x00\x00", failure.UpstreamProtocol, false},
		{"\x05\xff", failure.UpstreamProtocol, false},
		{"HTTP/1.1 400 Bad Request\r\n\r\n", failure.UpstreamProtocol, false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%q", tt.say), func(t *testing.T) {
			conn, _ := converse(t, step{"\x04\x01", tt.say})
			_, e := shake(conn, config.SchemeSOCKS4A, exchange, noLogin)
			if e == nil || e.Class != tt.want || e.Unsure != tt.unsure {
				t.Errorf("got %+v, want %s, unsure %v", e, tt.want, tt.unsure)
			}
		})
	}
}

// SOCKS4 has room for IPv4 addresses only, and 0.0.0.x says that a name follows.
func TestSOCKS4CannotCarry(t *testing.T) {
	for _, addr := range []string{"[2001:db8::1]:443", "0.0.0.0:443", "0.0.0.9:443"} {
		t.Run(addr, func(t *testing.T) {
			conn, heard := converse(t)
			_, e := shake(conn, config.SchemeSOCKS4A, address(addr), noLogin)
			if e == nil || e.Class != failure.UpstreamDenied || e.Text != "cannot carry "+addr+": socks4a has IPv4 addresses only" {
				t.Errorf("got %+v", e)
			}
			if got := heard(); got != "" {
				t.Errorf("it was sent %q", got)
			}
		})
	}
}

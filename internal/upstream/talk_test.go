package upstream

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// How a far end can fail a handshake without a word, and where: before it has
// the whole request it is to blame, afterwards it may be the target.
func TestBrokenHandshake(t *testing.T) {
	t.Parallel()
	socks := step{"\x05\x01\x00", "\x05\x00"}
	with := step{"\x05\x02\x00\x02", "\x05\x02"}
	pair := "\x01\x01u\x02pw"
	name := "\x05\x01\x00\x03\x14" + venue.Host + "\x24\xe3"
	tests := []struct {
		name   string
		scheme config.Scheme
		cred   *credentials
		steps  []step
		end    string // what the far end does then
		want   failure.Class
		unsure bool
		text   string
	}{
		{"http, FIN", config.SchemeHTTP, nobody, []step{{askVenue, ""}}, "close", failure.UpstreamProtocol, false, "closed the connection at the CONNECT reply"},
		{"http, FIN within", config.SchemeHTTP, nobody, []step{{askVenue, "HTTP/1.1 200 OK\r\n"}}, "close", failure.UpstreamProtocol, false, "closed the connection in the middle of the CONNECT reply"},
		{"http, reset", config.SchemeHTTP, nobody, []step{{askVenue, ""}}, "reset", failure.UpstreamProtocol, false, "reset the connection at the CONNECT reply"},
		{"http, silence", config.SchemeHTTP, nobody, []step{{askVenue, ""}}, "hang", failure.TargetTimeout, true, "accepted TCP, then silent at the CONNECT reply for "},
		{"http, silence within", config.SchemeHTTP, nobody, []step{{askVenue, "HTTP/1.1 2"}}, "hang", failure.TargetTimeout, true, "sent only a part of the CONNECT reply in "},
		{"socks5, FIN", config.SchemeSOCKS5, nobody, []step{{socks.hear, ""}}, "close", failure.UpstreamProtocol, false, "closed the connection at the SOCKS greeting"},
		{"socks5, silence", config.SchemeSOCKS5, nobody, []step{{socks.hear, ""}}, "hang", failure.UpstreamTimeout, false, "accepted TCP, then silent at the SOCKS greeting for "},
		{"socks5, silence within", config.SchemeSOCKS5, nobody, []step{{socks.hear, "\x05"}}, "hang", failure.UpstreamTimeout, false, "sent only a part of the SOCKS greeting in "},
		{"socks5 login, FIN", config.SchemeSOCKS5, login("u", "pw"), []step{with, {pair, ""}}, "close", failure.UpstreamProtocol, false, "closed the connection at the SOCKS user and password"},
		{"socks5 login, silence", config.SchemeSOCKS5, login("u", "pw"), []step{with, {pair, ""}}, "hang", failure.UpstreamTimeout, false, "accepted TCP, then silent at the SOCKS user and password for "},
		{"socks5 reply, FIN", config.SchemeSOCKS5, nobody, []step{socks, {name, ""}}, "close", failure.UpstreamProtocol, false, "closed the connection at the SOCKS reply"},
		{"socks5 reply, reset", config.SchemeSOCKS5, nobody, []step{socks, {name, ""}}, "reset", failure.UpstreamProtocol, false, "reset the connection at the SOCKS reply"},
		{"socks5 reply, silence", config.SchemeSOCKS5, nobody, []step{socks, {name, ""}}, "hang", failure.TargetTimeout, true, "accepted TCP, then silent at the SOCKS reply for "},
		{"socks4a, FIN within", config.SchemeSOCKS4A, nobody, []step{{"\x04\x01\x24\xe3\x00\x00\x00\x01\x00" + venue.Host + "\x00", "\x00\x5a"}}, "close", failure.UpstreamProtocol, false, "closed the connection in the middle of the SOCKS4 reply"},
		{"socks4a, silence", config.SchemeSOCKS4A, nobody, []step{{"\x04\x01\x24\xe3\x00\x00\x00\x01\x00" + venue.Host + "\x00", ""}}, "hang", failure.TargetTimeout, true, "accepted TCP, then silent at the SOCKS4 reply for "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conn := farEnd(t, tt.end, tt.steps)
			if tt.end == "hang" {
				_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
			}
			_, fault := shake(conn, tt.scheme, venue, tt.cred)
			if fault == nil || fault.Class != tt.want || fault.Unsure != tt.unsure || !strings.HasPrefix(fault.Text, tt.text) {
				t.Errorf("got %+v\nwant %s, unsure %v, %q", fault, tt.want, tt.unsure, tt.text)
			}
		})
	}
}

// farEnd is a connection to one that takes these turns and ends so.
func farEnd(t *testing.T, end string, steps []step) net.Conn {
	t.Helper()
	far := testkit.NewTCP(t, func(c net.Conn) {
		for _, s := range steps {
			if _, err := io.ReadFull(c, make([]byte, len(s.hear))); err != nil {
				return
			}
			_, _ = c.Write([]byte(s.say))
		}
		switch end {
		case "reset":
			testkit.Reset(c)
		case "hang":
			testkit.Hang(c)
		}
	})
	conn, err := net.Dial("tcp", far.Addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// What speaks where a proxy should is named, so that the URL can be mended.
func TestGarbageIsNamed(t *testing.T) {
	tests := []struct {
		scheme config.Scheme
		say    string
		text   string
		hint   string
	}{
		{config.SchemeHTTP, "\x15\x03\x01\x00\x02\x02\x46", "that looks like TLS", "write https:// in its URL"},
		{config.SchemeHTTP, "\x05\xff", "that looks like SOCKS5", "write socks5:// in its URL"},
		{config.SchemeHTTP, "\x00[\x00\x00", "that looks like SOCKS4", "check the scheme and the port"},
		{config.SchemeHTTP, "SSH-2.0-x\r\n", "that looks like SSH", "check the scheme and the port"},
		{config.SchemeHTTP, "<html>", "that looks like HTML", "check the scheme and the port"},
		{config.SchemeHTTP, "220 mail.example ESMTP\r\n", "that looks like a mail or FTP server", "check the scheme and the port"},
		{config.SchemeHTTP, "RFB 003.008\n", "that looks like VNC", "check the scheme and the port"},
		{config.SchemeHTTP, askVenue, "that looks like our own request sent back", "check the scheme and the port"},
		{config.SchemeHTTP, "HTTP/2 200\r\n\r\n", "that looks like HTTP", "check the scheme and the port"},
		{config.SchemeHTTP, "ICY 200 OK\r\n\r\n", "answered with garbage", "check the scheme and the port"},
		{config.SchemeHTTP, "\x00\x00\x12\x04\x00\x00\x00\x00\x00", "answered with garbage", "check the scheme and the port"},
		{config.SchemeSOCKS5, "HTTP/1.1 400 Bad\r\n\r\n", "that looks like HTTP", "write http:// in its URL"},
		{config.SchemeSOCKS4A, "HTTP/1.1 400 Bad\r\n\r\n", "that looks like HTTP", "write http:// in its URL"},
		{config.SchemeSOCKS4A, "\x05\xff", "that looks like SOCKS5", "check the scheme and the port"},
	}
	for _, tt := range tests {
		t.Run(string(tt.scheme)+" "+tt.say, func(t *testing.T) {
			conn, _ := converse(t, step{"", tt.say})
			_, fault := shake(conn, tt.scheme, venue, nobody)
			if fault == nil || fault.Class != failure.UpstreamProtocol || !strings.Contains(fault.Text, tt.text) || !strings.Contains(fault.Hint, tt.hint) {
				t.Errorf("got %+v\nwant %q, hint %q", fault, tt.text, tt.hint)
			}
		})
	}
}

// A server that waits for us, having said a first wrong byte, is known at once.
func TestGarbageAtTheFirstByte(t *testing.T) {
	for _, tt := range []struct {
		scheme config.Scheme
		say    string
	}{{config.SchemeHTTP, "+"}, {config.SchemeHTTP, "HTTP/1.1 2x"}, {config.SchemeSOCKS5, "S"}, {config.SchemeSOCKS4A, "\x05"}} {
		t.Run(string(tt.scheme), func(t *testing.T) {
			conn, _ := converse(t, step{"", tt.say})
			if _, fault := shake(conn, tt.scheme, venue, nobody); fault == nil || fault.Class != failure.UpstreamProtocol {
				t.Errorf("got %+v", fault)
			}
		})
	}
}

// The end of a budget ends a handshake; its last moment is no success.
func TestEndOfBudget(t *testing.T) {
	conn, _ := converse(t)
	ctx, cancel := context.WithCancel(context.Background())
	stop := interruptOn(ctx, conn)
	cancel()
	_, fault := shake(conn, config.SchemeSOCKS5, venue, nobody)
	if fault = settle(stop, fault); fault == nil || fault.Class != failure.UpstreamTimeout {
		t.Errorf("got %+v", fault)
	}
	if fault = settle(func() bool { return false }, nil); fault == nil || fault.Class != failure.UpstreamTimeout {
		t.Errorf("a success in the last moment: %+v", fault)
	}
	if fault = settle(func() bool { return true }, nil); fault != nil {
		t.Errorf("a success in time: %+v", fault)
	}
}

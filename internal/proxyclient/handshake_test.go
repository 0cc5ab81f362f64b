package proxyclient

import (
	"context"
	"encoding/base64"
	"fmt"
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
	name := "\x05\x01\x00\x03\x14" + exchange.Name + "\x24\xe3"
	tests := []struct {
		name   string
		scheme config.Scheme
		cred   *Credentials
		steps  []step
		end    string // what the far end does then
		want   failure.Class
		unsure bool
		text   string
	}{
		{"http, FIN", config.SchemeHTTP, noLogin, []step{{askVenue, ""}}, "close", failure.UpstreamProtocol, false, "closed the connection at the CONNECT reply"},
		{"http, FIN within", config.SchemeHTTP, noLogin, []step{{askVenue, "HTTP/1.1 200 OK\r\n"}}, "close", failure.UpstreamProtocol, false, "closed the connection in the middle of the CONNECT reply"},
		{"http, reset", config.SchemeHTTP, noLogin, []step{{askVenue, ""}}, "reset", failure.UpstreamProtocol, false, "reset the connection at the CONNECT reply"},
		{"http, silence", config.SchemeHTTP, noLogin, []step{{askVenue, ""}}, "hang", failure.TargetTimeout, true, "accepted TCP, then silent at the CONNECT reply for "},
		{"http, silence within", config.SchemeHTTP, noLogin, []step{{askVenue, "HTTP/1.1 2"}}, "hang", failure.TargetTimeout, true, "sent only a part of the CONNECT reply in "},
		{"socks5, FIN", config.SchemeSOCKS5, noLogin, []step{{socks.hear, ""}}, "close", failure.UpstreamProtocol, false, "closed the connection at the SOCKS greeting"},
		{"socks5, silence", config.SchemeSOCKS5, noLogin, []step{{socks.hear, ""}}, "hang", failure.UpstreamTimeout, false, "accepted TCP, then silent at the SOCKS greeting for "},
		{"socks5, silence within", config.SchemeSOCKS5, noLogin, []step{{socks.hear, "\x05"}}, "hang", failure.UpstreamTimeout, false, "sent only a part of the SOCKS greeting in "},
		{"socks5 login, FIN", config.SchemeSOCKS5, login("u", "pw"), []step{with, {pair, ""}}, "close", failure.UpstreamProtocol, false, "closed the connection at the SOCKS user and password"},
		{"socks5 login, silence", config.SchemeSOCKS5, login("u", "pw"), []step{with, {pair, ""}}, "hang", failure.UpstreamTimeout, false, "accepted TCP, then silent at the SOCKS user and password for "},
		{"socks5 reply, FIN", config.SchemeSOCKS5, noLogin, []step{socks, {name, ""}}, "close", failure.UpstreamProtocol, false, "closed the connection at the SOCKS reply"},
		{"socks5 reply, reset", config.SchemeSOCKS5, noLogin, []step{socks, {name, ""}}, "reset", failure.UpstreamProtocol, false, "reset the connection at the SOCKS reply"},
		{"socks5 reply, silence", config.SchemeSOCKS5, noLogin, []step{socks, {name, ""}}, "hang", failure.TargetTimeout, true, "accepted TCP, then silent at the SOCKS reply for "},
		{"socks4a, FIN within", config.SchemeSOCKS4A, noLogin, []step{{"\x04\x01\x24\xe3\x00\x00\x00\x01\x00" + exchange.Name + "\x00", "\x00\x5a"}}, "close", failure.UpstreamProtocol, false, "closed the connection in the middle of the SOCKS4 reply"},
		{"socks4a, silence", config.SchemeSOCKS4A, noLogin, []step{{"\x04\x01\x24\xe3\x00\x00\x00\x01\x00" + exchange.Name + "\x00", ""}}, "hang", failure.TargetTimeout, true, "accepted TCP, then silent at the SOCKS4 reply for "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conn := farEnd(t, tt.end, tt.steps)
			if tt.end == "hang" {
				_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
			}
			_, e := shake(conn, tt.scheme, exchange, tt.cred)
			if e == nil || e.Class != tt.want || e.Unsure != tt.unsure || !strings.HasPrefix(e.Text, tt.text) {
				t.Errorf("got %+v\nwant %s, unsure %v, %q", e, tt.want, tt.unsure, tt.text)
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
			_, e := shake(conn, tt.scheme, exchange, noLogin)
			if e == nil || e.Class != failure.UpstreamProtocol || !strings.Contains(e.Text, tt.text) || !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("got %+v\nwant %q, hint %q", e, tt.text, tt.hint)
			}
		})
	}
}

// A server that has sent one wrong byte and waits for us is recognised immediately.
func TestGarbageAtTheFirstByte(t *testing.T) {
	for _, tt := range []struct {
		scheme config.Scheme
		say    string
	}{{config.SchemeHTTP, "+"}, {config.SchemeHTTP, "HTTP/1.1 2x"}, {config.SchemeSOCKS5, "S"}, {config.SchemeSOCKS4A, "\x05"}} {
		t.Run(string(tt.scheme), func(t *testing.T) {
			conn, _ := converse(t, step{"", tt.say})
			if _, e := shake(conn, tt.scheme, exchange, noLogin); e == nil || e.Class != failure.UpstreamProtocol {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// The end of a budget ends a handshake; its last moment is no success.
func TestHandshakeDeadline(t *testing.T) {
	conn, _ := converse(t)
	ctx, cancel := context.WithCancel(context.Background())
	stop := interruptOn(ctx, conn)
	cancel()
	_, e := shake(conn, config.SchemeSOCKS5, exchange, noLogin)
	if e = settle(stop, e); e == nil || e.Class != failure.UpstreamTimeout {
		t.Errorf("got %+v", e)
	}
	if e = settle(func() bool { return false }, nil); e == nil || e.Class != failure.UpstreamTimeout {
		t.Errorf("a success in the last moment: %+v", e)
	}
	if e = settle(func() bool { return true }, nil); e != nil {
		t.Errorf("a success in time: %+v", e)
	}
}

// cutting delivers what it reads in pieces that end at these offsets.
type cutting struct {
	net.Conn
	at   []int
	seen int
}

// Read stops at the next cut.
func (c *cutting) Read(p []byte) (int, error) {
	for _, cut := range c.at {
		if left := cut - c.seen; left > 0 {
			p = p[:min(len(p), left)]
			break
		}
	}
	n, err := c.Conn.Read(p)
	c.seen += n
	return n, err
}

// successes are whole conversations that open a tunnel, in several wordings.
func successes() []conversation {
	name := string([]byte{5, 1, 0, 3, byte(len(exchange.Name))}) + exchange.Name + "\x24\xe3"
	head := "CONNECT stream.venue.example:9443 HTTP/1.1\r\nHost: stream.venue.example:9443\r\n\r\n"
	ask4a := "\x04\x01\x24\xe3\x00\x00\x00\x01\x00" + exchange.Name + "\x00"
	return []conversation{
		{"http", config.SchemeHTTP, noLogin, []step{{head, "HTTP/1.1 200 OK\r\n\r\n"}}},
		{"http with fields", config.SchemeHTTP, noLogin, []step{{head, "HTTP/1.0 299 \r\nContent-Length: 0\r\nA:b\r\n\r\n"}}},
		{"http with bare line feeds", config.SchemeHTTP, noLogin, []step{{head, "HTTP/1.1 200 OK\nVia: x\n\n"}}},
		{"http without a reason", config.SchemeHTTP, noLogin, []step{{head, "HTTP/1.1 200\r\n\r\n"}}},
		{"http after interim answers", config.SchemeHTTP, noLogin, []step{{head, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"}}},
		{"socks4a", config.SchemeSOCKS4A, noLogin, []step{{ask4a, "\x00\x5a\x12\x34\x01\x02\x03\x04"}}},
		{"socks5", config.SchemeSOCKS5, noLogin, []step{{"\x05\x01\x00", "\x05\x00"}, {name, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"}}},
		{"socks5 with a bound IPv6 address", config.SchemeSOCKS5, noLogin, []step{
			{"\x05\x01\x00", "\x05\x00"},
			{name, "\x05\x00\x00\x04" + "0123456789abcdef" + "\x00\x00"},
		}},
		{"socks5 with a bound name", config.SchemeSOCKS5H, noLogin, []step{
			{"\x05\x01\x00", "\x05\x00"},
			{name, "\x05\x00\x00\x03\x09localhost\x00\x00"},
		}},
		{"socks5 with an empty bound name", config.SchemeSOCKS5, noLogin, []step{
			{"\x05\x01\x00", "\x05\x00"},
			{name, "\x05\x00\x00\x03\x00\x00\x00"},
		}},
		{"socks5 with a login", config.SchemeSOCKS5, login("u", "pw"), []step{
			{"\x05\x02\x00\x02", "\x05\x02"},
			{"\x01\x01u\x02pw", "\x01\x00"},
			{name, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		}},
	}
}

type conversation struct {
	name   string
	scheme config.Scheme
	cred   *Credentials
	steps  []step
}

func (c conversation) heard() (all string) {
	for _, s := range c.steps {
		all += s.hear
	}
	return all
}

func (c conversation) said() (n int) {
	for _, s := range c.steps {
		n += len(s.say)
	}
	return n
}

// An upstream's words may come in any pieces, and what it says behind them
// belongs to the target: not a byte of it may be lost.
func TestSuccessInAnyPieces(t *testing.T) {
	const early = "\x16\x03\x01 the target speaks first\r\n\r\n"
	for _, c := range successes() {
		t.Run(c.name, func(t *testing.T) {
			last := &c.steps[len(c.steps)-1]
			whole := c.said()
			last.say += early
			check := func(cuts []int) {
				t.Helper()
				conn, heard := converse(t, c.steps...)
				k, e := shake(&cutting{conn, cuts, 0}, c.scheme, exchange, c.cred)
				if e != nil {
					t.Fatalf("cut at %v: %v", cuts, e)
				}
				rest := make([]byte, len(early))
				n := copy(rest, k.rest())
				if _, err := io.ReadFull(conn, rest[n:]); err != nil || string(rest) != early {
					t.Fatalf("cut at %v: behind the reply came %q, %v", cuts, rest, err)
				}
				if got := heard(); got != c.heard() {
					t.Errorf("cut at %v: it was sent\n%q, want\n%q", cuts, got, c.heard())
				}
			}
			var each []int
			for i := 1; i <= whole+len(early); i++ {
				each = append(each, i)
				check([]int{i})
			}
			check(each)
			check(nil)
		})
	}
}

// A conversation that ends too early is an error at every byte, never a tunnel.
func TestSuccessCutShort(t *testing.T) {
	for _, c := range successes() {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.said() {
				var steps []step
				left := i
				for _, s := range c.steps {
					if s.say = s.say[:min(left, len(s.say))]; left >= 0 {
						steps = append(steps, s)
					}
					left -= len(s.say)
				}
				conn, _ := converse(t, steps...)
				k, e := shake(&ending{conn, i}, c.scheme, exchange, c.cred)
				if e == nil || e.Class != failure.UpstreamProtocol {
					t.Fatalf("the end after %d bytes: %v, have %q", i, e, fmt.Sprint(k.have))
				}
			}
		})
	}
}

// ending returns a number of bytes and then the end.
type ending struct {
	net.Conn
	left int
}

// Read ends early.
func (e *ending) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.Conn.Read(p[:min(len(p), e.left)])
	e.left -= n
	return n, err
}

// The exact bytes that an upstream gets: a name as a name, an address as an
// address, and the credentials to the last byte.
func TestHandshakeBytes(t *testing.T) {
	const (
		http   = "HTTP/1.1 200 OK\r\n\r\n"
		none   = "\x05\x00"
		wants  = "\x05\x02"
		reply  = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
		reply4 = "\x00\x5a\x00\x00\x00\x00\x00\x00"
	)
	basic := func(pair string) string { return base64.StdEncoding.EncodeToString([]byte(pair)) }
	v4, v6, mapped := address("192.0.2.7:443"), address("[2001:db8::a]:80"), address("[::ffff:192.0.2.7]:443")
	longName := hostname(strings.Repeat("abcdefg.", 31)+"exmpl", 65535) // 253 bytes
	one, most := strings.Repeat("u", 1), strings.Repeat("p", 255)
	tests := []struct {
		name   string
		scheme config.Scheme
		to     Addr
		cred   *Credentials
		steps  []step
	}{
		{"http, a name", config.SchemeHTTP, exchange, noLogin, []step{{askVenue, http}}},
		{"http, IPv4", config.SchemeHTTP, v4, noLogin, []step{{"CONNECT 192.0.2.7:443 HTTP/1.1\r\nHost: 192.0.2.7:443\r\n\r\n", http}}},
		{"http, IPv6", config.SchemeHTTP, v6, noLogin, []step{{"CONNECT [2001:db8::a]:80 HTTP/1.1\r\nHost: [2001:db8::a]:80\r\n\r\n", http}}},
		{"http, a login", config.SchemeHTTP, exchange, login("user", "pass word:@/é"), []step{{
			strings.TrimSuffix(askVenue, "\r\n") + "Proxy-Authorization: Basic " + basic("user:pass word:@/é") + "\r\n\r\n", http,
		}}},
		{"http, an empty password", config.SchemeHTTP, exchange, login("key", ""), []step{{
			strings.TrimSuffix(askVenue, "\r\n") + "Proxy-Authorization: Basic " + basic("key:") + "\r\n\r\n", http,
		}}},
		{"http, a long login", config.SchemeHTTP, exchange, login("u", strings.Repeat("p", 4000)), []step{{
			strings.TrimSuffix(askVenue, "\r\n") + "Proxy-Authorization: Basic " + basic("u:"+strings.Repeat("p", 4000)) + "\r\n\r\n", http,
		}}},
		{"socks5, IPv4", config.SchemeSOCKS5, v4, noLogin, []step{{"\x05\x01\x00", none}, {"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb", reply}}},
		{"socks5h, IPv4 in IPv6", config.SchemeSOCKS5H, mapped, noLogin, []step{{"\x05\x01\x00", none}, {"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb", reply}}},
		{"socks5, IPv6", config.SchemeSOCKS5, v6, noLogin, []step{{"\x05\x01\x00", none}, {"\x05\x01\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x0a\x00\x50", reply}}},
		{"socks5, the longest name", config.SchemeSOCKS5, longName, noLogin, []step{{"\x05\x01\x00", none}, {"\x05\x01\x00\x03\xfd" + longName.Name + "\xff\xff", reply}}},
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
		{"socks4, IPv4", config.SchemeSOCKS4, v4, noLogin, []step{{"\x04\x01\x01\xbb\xc0\x00\x02\x07\x00", reply4}}},
		{"socks4, a user", config.SchemeSOCKS4, mapped, login("bot", ""), []step{{"\x04\x01\x01\xbb\xc0\x00\x02\x07bot\x00", reply4}}},
		{"socks4a, a name and the longest user", config.SchemeSOCKS4A, exchange, login(most, ""), []step{{"\x04\x01\x24\xe3\x00\x00\x00\x01" + most + "\x00" + exchange.Name + "\x00", reply4}}},
		{"socks4a, IPv4", config.SchemeSOCKS4A, v4, noLogin, []step{{"\x04\x01\x01\xbb\xc0\x00\x02\x07\x00", reply4}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, heard := converse(t, tt.steps...)
			if _, e := shake(conn, tt.scheme, tt.to, tt.cred); e != nil {
				t.Fatal(e)
			}
			want := conversation{steps: tt.steps}.heard()
			if got := heard(); got != want {
				t.Errorf("it was sent\n%q, want\n%q", got, want)
			}
		})
	}
}

// What SOCKS has no room for is refused before a byte of it is sent.
func TestCredentialsTooLong(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, tt := range []struct {
		scheme config.Scheme
		cred   *Credentials
	}{
		{config.SchemeSOCKS5, login(long, "p")},
		{config.SchemeSOCKS5, login("u", long)},
		{config.SchemeSOCKS4A, login(long, "")},
	} {
		t.Run(fmt.Sprintf("%s, %d bytes", tt.scheme, len(tt.cred.user.Reveal())), func(t *testing.T) {
			conn, heard := converse(t)
			_, e := shake(conn, tt.scheme, exchange, tt.cred)
			if e == nil || e.Class != failure.UpstreamAuth || strings.Contains(e.Text, "xxx") {
				t.Errorf("got %+v", e)
			}
			if got := heard(); got != "" {
				t.Errorf("it was sent %q", got)
			}
		})
	}
}

package upstream

import (
	"fmt"
	"io"
	"net"
	"testing"

	"proxyd/internal/config"
	"proxyd/internal/failure"
)

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

// successes are whole conversations that open a way, in several wordings.
func successes() []conversation {
	name := string([]byte{5, 1, 0, 3, byte(len(venue.Host))}) + venue.Host + "\x24\xe3"
	head := "CONNECT stream.venue.example:9443 HTTP/1.1\r\nHost: stream.venue.example:9443\r\n\r\n"
	ask4a := "\x04\x01\x24\xe3\x00\x00\x00\x01\x00" + venue.Host + "\x00"
	return []conversation{
		{"http", config.SchemeHTTP, nobody, []step{{head, "HTTP/1.1 200 OK\r\n\r\n"}}},
		{"http with fields", config.SchemeHTTP, nobody, []step{{head, "HTTP/1.0 299 \r\nContent-Length: 0\r\nA:b\r\n\r\n"}}},
		{"http with bare line feeds", config.SchemeHTTP, nobody, []step{{head, "HTTP/1.1 200 OK\nVia: x\n\n"}}},
		{"http without a reason", config.SchemeHTTP, nobody, []step{{head, "HTTP/1.1 200\r\n\r\n"}}},
		{"http after interim answers", config.SchemeHTTP, nobody, []step{{head, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"}}},
		{"socks4a", config.SchemeSOCKS4A, nobody, []step{{ask4a, "\x00\x5a\x12\x34\x01\x02\x03\x04"}}},
		{"socks5", config.SchemeSOCKS5, nobody, []step{{"\x05\x01\x00", "\x05\x00"}, {name, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"}}},
		{"socks5 with a bound IPv6 address", config.SchemeSOCKS5, nobody, []step{
			{"\x05\x01\x00", "\x05\x00"},
			{name, "\x05\x00\x00\x04" + "0123456789abcdef" + "\x00\x00"},
		}},
		{"socks5 with a bound name", config.SchemeSOCKS5H, nobody, []step{
			{"\x05\x01\x00", "\x05\x00"},
			{name, "\x05\x00\x00\x03\x09localhost\x00\x00"},
		}},
		{"socks5 with an empty bound name", config.SchemeSOCKS5, nobody, []step{
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
	cred   *credentials
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
				k, fault := shake(&cutting{conn, cuts, 0}, c.scheme, venue, c.cred)
				if fault != nil {
					t.Fatalf("cut at %v: %v", cuts, fault)
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

// A conversation that ends too early is a fault at every byte, never a way.
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
				k, fault := shake(&ending{conn, i}, c.scheme, venue, c.cred)
				if fault == nil || fault.Class != failure.UpstreamProtocol {
					t.Fatalf("the end after %d bytes: %v, have %q", i, fault, fmt.Sprint(k.have))
				}
			}
		})
	}
}

// ending gives so many bytes and then the end.
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

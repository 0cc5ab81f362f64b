package transparent

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// extension returns one of a ClientHello.
func extension(kind uint16, value string) []byte {
	b := binary.BigEndian.AppendUint16(nil, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

func serverNameOf(host string) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(host)+3))
	b = append(b, nameTypeHost)
	b = binary.BigEndian.AppendUint16(b, uint16(len(host)))
	return extension(extensionServerName, string(append(b, host...)))
}

// message returns a ClientHello without its record.
func message(extensions ...[]byte) []byte {
	b := append([]byte{3, 3}, make([]byte, 32)...)
	b = append(b, 32)
	b = append(b, make([]byte, 32)...)
	b = append(b, 0, 4, 0x0a, 0x0a, 0x13, 0x01) // the first one is GREASE (RFC 8701)
	b = append(b, 1, 0)
	all := slices.Concat(extensions...)
	if len(extensions) > 0 {
		b = binary.BigEndian.AppendUint16(b, uint16(len(all)))
		b = append(b, all...)
	}
	return append([]byte{messageClientHello, byte(len(b) >> 16), byte(len(b) >> 8), byte(len(b))}, b...)
}

// records spreads a message over records of at most size bytes.
func records(m []byte, size int) (b []byte) {
	for part := range slices.Chunk(m, size) {
		b = append(b, recordHandshake, 3, 1)
		b = binary.BigEndian.AppendUint16(b, uint16(len(part)))
		b = append(b, part...)
	}
	return b
}

// helloOf returns what Go's client sends first.
func helloOf(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		near.SetDeadline(time.Now().Add(5 * time.Second))
		_ = tls.Client(near, c).Handshake() // ends with far
	}()
	b := make([]byte, 64<<10)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

var (
	grease    = extension(0x3a3a, "\x00")
	keyShares = extension(51, strings.Repeat("k", 1300)) // a hybrid key share fills a segment
	ech       = extension(0xfe0d, strings.Repeat("e", 300))
)

// opening is the first bytes of a connection, and what is to be found in them.
type opening struct {
	name  string
	bytes []byte
	want  First
}

func tlsTo(host string) First { return First{Speaks: TLS, Host: host} }

func openings(t testing.TB) []opening {
	const host = "stream.binance.com"
	httpTo := func(host string) First { return First{Speaks: HTTP, Host: host} }
	no := func(s Speaks, why string) First { return First{Speaks: s, Why: why} }
	list := []opening{
		{"Go's client", helloOf(t, &tls.Config{ServerName: host}), tlsTo(host)},
		{"Go's client with TLS 1.2", helloOf(t, &tls.Config{ServerName: host, MaxVersion: tls.VersionTLS12}), tlsTo(host)},
		{"Go's client to an address", helloOf(t, &tls.Config{ServerName: "203.0.113.7"}), unnamed},
		{"GREASE first", records(message(grease, serverNameOf(host), grease), 1<<14), tlsTo(host)},
		{"the name behind hybrid key shares", records(message(grease, keyShares, serverNameOf(host)), 1<<14), tlsTo(host)},
		{"the name before them", records(message(serverNameOf(host), keyShares), 1<<14), tlsTo(host)},
		{"spread over records", records(message(keyShares, serverNameOf(host)), 100), tlsTo(host)},
		{"a record for each byte", records(message(serverNameOf(host)), 1), tlsTo(host)},
		{"encrypted: the outer name", records(message(ech, serverNameOf("public.example")), 1<<14), tlsTo("public.example")},
		{"no name", records(message(grease, keyShares), 1<<14), unnamed},
		{"no extensions", records(message(), 1<<14), unnamed},
		{"an empty list of extensions", records(message([]byte{}), 1<<14), unnamed},
		{"an empty name", records(message(serverNameOf("")), 1<<14), malformed},
		{"a name that goes beyond its extension", records(message(extension(0, "\x00\x05\x00\x00\x09ab")), 1<<14), malformed},
		{"a name of another type", records(message(extension(0, "\x00\x04\x07\x00\x01a")), 1<<14), unnamed},
		{"the end of a handshake in the middle", append(records(message(serverNameOf(host))[:60], 1<<14), 0x15, 3, 3, 0, 2, 1, 0), malformed},
		{"a ServerHello", []byte{0x16, 3, 3, 0, 4, 2, 0, 0, 0}, neither},
		{"an empty record", []byte{0x16, 3, 3, 0, 0}, neither},
		{"a record of SSL 2", []byte{0x80, 0x2e, 1, 3, 1}, neither},
		{"plain HTTP", []byte("GET /api/v3/time HTTP/1.1\r\nHost: api.binance.com\r\nAccept: */*\r\n\r\nnext"), httpTo("api.binance.com")},
		{"plain HTTP with a port, without CR", []byte("GET / HTTP/1.0\nhost:api.binance.com:8080 \n\n"), httpTo("api.binance.com")},
		{"plain HTTP to an IPv6 address", []byte("GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n"), httpTo("[2001:db8::1]")},
		{"OPTIONS *", []byte("OPTIONS * HTTP/1.1\r\nHost: api.binance.com\r\n\r\n"), httpTo("api.binance.com")},
		{"something that is no port", []byte("GET / HTTP/1.1\r\nHost: user:secret@a.example\r\n\r\n"), httpTo("user:secret@a.example")},
		{"a port that is empty", []byte("GET / HTTP/1.1\r\nHost: a.example:\r\n\r\n"), httpTo("a.example")},
		{"two hosts", []byte("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n"), no(HTTP, "its request has more than one Host")},
		{"no host", []byte("GET / HTTP/1.0\r\nAccept: */*\r\n\r\n"), no(HTTP, "its request has no Host")},
		{"a folded host", []byte("GET / HTTP/1.1\r\nHost:\r\n a.example\r\n\r\n"), no(HTTP, "its request has no Host")},
		{"CONNECT", []byte("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"), no(HTTP, "its request is one to a proxy")},
		{"a whole URL", []byte("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n"), no(HTTP, "its request is one to a proxy")},
		{"HTTP/2 in clear", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), neither},
		{"SSH", []byte("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), neither},
		{"AMQP", []byte("AMQP\x00\x00\x09\x01"), neither},
		{"PostgreSQL", []byte("\x00\x00\x00\x08\x04\xd2\x16\x2f"), neither},
	}
	return slices.DeleteFunc(list, func(o opening) bool { return len(o.bytes) == 0 })
}

// TestFirstBytesSplitAtEveryByte holds that the outcome does not depend on how the
// bytes come: at every byte Look either waits, or has the outcome of the whole.
//
// Promise (routing): A redirected connection goes where its ClientHello or its Host names, in however many pieces that comes
func TestFirstBytesSplitAtEveryByte(t *testing.T) {
	t.Parallel()
	for _, o := range openings(t) {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			got, done := Look(o.bytes, false)
			if !done || got != o.want {
				t.Fatalf("got %+v, done %v; want %+v", got, done, o.want)
			}
			for i := range o.bytes {
				if part, done := Look(o.bytes[:i], false); done && part != o.want {
					t.Errorf("after %d of %d bytes %+v, want %+v", i, len(o.bytes), part, o.want)
				}
				if _, done := Look(o.bytes[:i], true); !done {
					t.Errorf("%d bytes are the last, and more are wanted", i)
				}
			}
		})
	}
}

// TestNameBeforeKeySharesNeedsOneSegment holds that what follows the name is not
// waited for.
func TestNameBeforeKeySharesNeedsOneSegment(t *testing.T) {
	t.Parallel()
	b := records(message(serverNameOf("a.example"), keyShares, keyShares), 1<<14)
	if got, done := Look(b[:1300], false); !done || got != tlsTo("a.example") {
		t.Errorf("got %+v, done %v", got, done)
	}
}

func TestFirstBytesThatEndEarly(t *testing.T) {
	t.Parallel()
	hello := records(message(keyShares, serverNameOf("a.example")), 1<<14)
	for _, tt := range []struct {
		name, bytes string
		want        First
	}{
		{"nothing", "", First{Why: "its client has sent nothing"}},
		{"a part of a hello", string(hello[:700]), cutHello},
		{"a head without end, with its host", "GET / HTTP/1.1\r\nHost: a.example\r\nCookie: " + strings.Repeat("c", 100), First{Speaks: HTTP, Host: "a.example"}},
		{"a head that ends in its host", "GET / HTTP/1.1\r\nHost: a.exam", First{Speaks: HTTP, Why: "its request has no Host"}},
		{"a part of a request line", "GET /api", neither},
	} {
		if got, done := Look([]byte(tt.bytes), true); !done || got != tt.want {
			t.Errorf("%s: got %+v, done %v; want %+v", tt.name, got, done, tt.want)
		}
	}
}

// FuzzFirst holds for any bytes what TestFirstBytesSplitAtEveryByte holds for some.
func FuzzFirst(f *testing.F) {
	for _, o := range openings(f) {
		f.Add(o.bytes, uint16(len(o.bytes)/2))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		before := string(b)
		whole, done := Look(b, false)
		part, early := Look(b[:min(int(at), len(b))], false)
		switch {
		case early && (!done || part != whole):
			t.Errorf("%+v after %d bytes, %+v after all %d", part, at, whole, len(b))
		case done && (whole.Host == "") == (whole.Why == ""):
			t.Errorf("host %q, and why there is none: %q", whole.Host, whole.Why)
		case !done && whole != First{}:
			t.Errorf("not done, and %+v", whole)
		}
		last, done := Look(b, true)
		if !done || (last.Host == "") == (last.Why == "") {
			t.Errorf("the last bytes, and %+v, done %v", last, done)
		}
		if string(b) != before {
			t.Error("the bytes are not as they were")
		}
	})
}

package testkit

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Conn is a client's connection. Every step has Patience as its deadline, and
// the test fails when a step does.
type Conn struct {
	*net.TCPConn
	t testing.TB
	r *bufio.Reader
}

// Dial connects to an address.
func Dial(t testing.TB, addr string) *Conn {
	t.Helper()
	d := net.Dialer{Timeout: Patience}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(Patience))
	return &Conn{c.(*net.TCPConn), t, bufio.NewReader(c)}
}

// Read reads what has come, beginning with what is buffered.
func (c *Conn) Read(p []byte) (int, error) { return c.r.Read(p) }

// Send writes text in one segment.
func (c *Conn) Send(text string) {
	c.t.Helper()
	_ = c.SetDeadline(time.Now().Add(Patience))
	if _, err := c.TCPConn.Write([]byte(text)); err != nil {
		c.t.Fatalf("sending %q: %v", clip(text), err)
	}
}

// Expect reads exactly text.
func (c *Conn) Expect(text string) {
	c.t.Helper()
	_ = c.SetDeadline(time.Now().Add(Patience))
	got := make([]byte, len(text))
	n, err := io.ReadFull(c.r, got)
	if string(got[:n]) != text {
		c.t.Fatalf("got %q (%v), want %q", clip(string(got[:n])), err, clip(text))
	}
}

// ReadAll reads until the peer's FIN; a reset is returned as the error.
func (c *Conn) ReadAll() (string, error) {
	_ = c.SetDeadline(time.Now().Add(Patience))
	b, err := io.ReadAll(c.r)
	return string(b), err
}

// ExpectEOF wants the peer's FIN, with nothing before it.
func (c *Conn) ExpectEOF() {
	c.t.Helper()
	if got, err := c.ReadAll(); err != nil || got != "" {
		c.t.Fatalf("got %q and %v, want the end", clip(got), err)
	}
}

// CloseWrite sends a FIN.
func (c *Conn) CloseWrite() { _ = c.TCPConn.CloseWrite() }

// Reset closes with a RST.
func (c *Conn) Reset() { Reset(c.TCPConn) }

// Reply is how a proxy answered a request for a tunnel.
type Reply struct {
	OK     bool
	Closed bool        // the connection ended without a whole answer
	Status int         // HTTP
	Reason string      // HTTP: the reason phrase
	Header http.Header // HTTP
	Body   string      // HTTP
	Head   string      // HTTP: the bytes of the head
	Code   byte        // SOCKS: REP; 0xff when no method, or no credentials, suited
	Raw    []byte      // SOCKS: the bytes of the last message
	Took   time.Duration
}

// String returns the reply for messages of tests.
func (r Reply) String() string {
	switch {
	case r.Closed:
		return "closed without an answer"
	case r.Status > 0:
		return fmt.Sprintf("%d %s %v %q", r.Status, r.Reason, r.Header, r.Body)
	}
	return fmt.Sprintf("SOCKS code %d (% x)", r.Code, r.Raw)
}

// Ask is what a client wants of a proxy.
type Ask struct {
	Protocol       Protocol
	Target         string // host:port
	User, Password string // sent when User is set (and, with SOCKS5, offered)
	Early          string // sent in the same segment as the last message of the request
	Header         string // HTTP: more lines, each ending with \r\n
}

// Protocol is the protocol that a client speaks to the proxy.
type Protocol string

// The protocols.
const (
	CONNECT11 Protocol = "CONNECT 1.1"
	CONNECT10 Protocol = "CONNECT 1.0" // without any header field
	SOCKS5    Protocol = "SOCKS5"
	SOCKS4    Protocol = "SOCKS4" // the target has to be an IPv4 address
	SOCKS4A   Protocol = "SOCKS4a"
)

// HTTP reports whether the protocol's answers are HTTP's.
func (p Protocol) HTTP() bool { return p == CONNECT10 || p == CONNECT11 }

// Open asks the proxy at addr for a tunnel, and reads its answer to the last
// byte and no further; after a refusal it reads on to the end.
func Open(t testing.TB, addr string, a Ask) (*Conn, Reply) {
	t.Helper()
	c := Dial(t, addr)
	start := time.Now()
	r := c.Ask(a)
	r.Took = time.Since(start)
	return c, r
}

// Ask asks on a connection that is open already.
func (c *Conn) Ask(a Ask) Reply {
	c.t.Helper()
	switch a.Protocol {
	case SOCKS5:
		return c.askSOCKS5(a)
	case SOCKS4, SOCKS4A:
		return c.askSOCKS4(a)
	}
	return c.askHTTP(a)
}

func (c *Conn) askHTTP(a Ask) Reply {
	c.t.Helper()
	head := "CONNECT " + a.Target + " HTTP/1.0\r\n"
	if a.Protocol == CONNECT11 {
		head = "CONNECT " + a.Target + " HTTP/1.1\r\nHost: " + a.Target + "\r\n"
	}
	if a.User != "" {
		head += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(a.User+":"+a.Password)) + "\r\n"
	}
	c.Send(head + a.Header + "\r\n" + a.Early)
	return c.ReadHTTP(http.MethodConnect)
}

// ReadHTTP reads the answer to a request of this method. A refused CONNECT's
// body is read, a success has none.
func (c *Conn) ReadHTTP(method string) Reply {
	c.t.Helper()
	_ = c.SetDeadline(time.Now().Add(Patience))
	head, err := readHead(c.r)
	if err != nil {
		if head != "" || isTimeout(err) {
			c.t.Fatalf("half an answer: %q, %v", clip(head), err)
		}
		return Reply{Closed: true}
	}
	rep := Reply{Head: head}
	connected := method == http.MethodConnect && strings.HasPrefix(head, "HTTP/1.1 200 ")
	body := io.Reader(c.r)
	if connected {
		body = strings.NewReader("")
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader(head), oneByOne{body})), &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("no HTTP answer: %q: %v", clip(head), err)
	}
	defer resp.Body.Close()
	rep.Status, rep.Header = resp.StatusCode, resp.Header
	_, rep.Reason, _ = strings.Cut(resp.Status, " ")
	rep.OK = rep.Status == http.StatusOK
	if !connected && rep.Status != http.StatusSwitchingProtocols {
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			c.t.Fatalf("body of %q: %v", clip(head), err)
		}
		rep.Body = string(b)
	}
	return rep
}

// oneByOne keeps a buffered reader above it from reading past a message's end.
type oneByOne struct{ r io.Reader }

// Read reads at most a byte.
func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }

func (c *Conn) askSOCKS5(a Ask) Reply {
	c.t.Helper()
	method := byte(0)
	if a.User != "" {
		method = 2
	}
	c.Send(string([]byte{5, 1, method}))
	chosen, ok := c.take(2)
	if !ok {
		return Reply{Closed: true}
	}
	if chosen[0] != 5 || chosen[1] != method {
		return Reply{Code: 0xff, Raw: chosen}
	}
	if method == 2 {
		c.Send("\x01" + short(a.User) + short(a.Password))
		status, ok := c.take(2)
		if !ok {
			return Reply{Closed: true}
		}
		if status[1] != 0 {
			return Reply{Code: 0xff, Raw: status}
		}
	}
	c.Send("\x05\x01\x00" + socks5Address(a.Target) + a.Early)
	raw, ok := c.take(4)
	if !ok {
		return Reply{Closed: true}
	}
	more := map[byte]int{1: 6, 4: 18}[raw[3]]
	if more == 0 {
		c.t.Fatalf("SOCKS5 reply % x: the bound address is neither IPv4 nor IPv6", raw)
	}
	rest, ok := c.take(more)
	if !ok {
		return Reply{Closed: true}
	}
	raw = append(raw, rest...)
	return Reply{OK: raw[1] == 0, Code: raw[1], Raw: raw}
}

func (c *Conn) askSOCKS4(a Ask) Reply {
	c.t.Helper()
	host, port := split(a.Target)
	msg := []byte{4, 1}
	msg = binary.BigEndian.AppendUint16(msg, number(port))
	if a.Protocol == SOCKS4 {
		msg = append(msg, net.ParseIP(host).To4()...)
	} else {
		msg = append(msg, 0, 0, 0, 1)
	}
	msg = append(append(msg, a.User...), 0)
	if a.Protocol == SOCKS4A {
		msg = append(append(msg, host...), 0)
	}
	c.Send(string(msg) + a.Early)
	raw, ok := c.take(8)
	if !ok {
		return Reply{Closed: true}
	}
	return Reply{OK: raw[1] == 90, Code: raw[1], Raw: raw}
}

// take reads n bytes; false when the connection ends first.
func (c *Conn) take(n int) ([]byte, bool) {
	c.t.Helper()
	_ = c.SetDeadline(time.Now().Add(Patience))
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		if isTimeout(err) {
			c.t.Fatalf("no answer within %v", Patience)
		}
		return nil, false
	}
	return b, true
}

// socks5Address returns ATYP, address and port; an address goes as one, all
// else as a name.
func socks5Address(target string) string {
	host, port := split(target)
	b := append([]byte{3}, short(host)...)
	if ip := net.ParseIP(host); ip != nil {
		b = append([]byte{4}, ip...)
		if v4 := ip.To4(); v4 != nil {
			b = append([]byte{1}, v4...)
		}
	}
	return string(binary.BigEndian.AppendUint16(b, number(port)))
}

func short(s string) string { return string([]byte{byte(len(s))}) + s }

func number(port string) uint16 {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		panic(err)
	}
	return uint16(n)
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}

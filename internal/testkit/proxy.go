package testkit

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"
)

// ProxyOptions configure a fake upstream proxy. The zero value is a well-behaved
// HTTP proxy without authentication that knows no host but loopback addresses.
type ProxyOptions struct {
	Scheme         string            // http (default), https, socks4, socks4a, socks5; a socks4 one refuses names
	User, Password string            // wanted from clients when User is set; SOCKS4 compares the user alone
	Hosts          map[string]string // where a target leads: "host:port", "host" or "*" to an address
	TLS            *tls.Config       // for https
	Fault          *Fault            // what it does wrong; SetFault changes it
	Early          string            // sent in the same segment as the success
	Split          bool              // successes and methods go out byte by byte
	Success        string            // HTTP: the success instead of "HTTP/1.1 200 OK" and a blank line
}

// Proxy is a fake upstream proxy.
type Proxy struct {
	*server
	Addr string

	o   ProxyOptions
	ctx context.Context

	mu   sync.Mutex
	asks []Asked
}

// Asked is what a proxy was asked, as it was sent.
type Asked struct {
	Protocol       string // connect, http, socks4, socks4a, socks5
	Method         string // HTTP
	Host           string // as sent
	Port           string
	ATYP           byte   // SOCKS5: 1 IPv4, 3 name, 4 IPv6
	Methods        []byte // SOCKS5: those that were offered
	User, Password string
	HasAuth        bool
	Head           string // HTTP: the bytes of the head
	Header         http.Header
	TLS            *tls.ConnectionState // https
}

// NewProxy starts a fake upstream proxy.
func NewProxy(t testing.TB, o ProxyOptions) *Proxy {
	t.Helper()
	if o.Scheme == "" {
		o.Scheme = "http"
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{server: newServer(t, "127.0.0.1"), o: o, ctx: ctx}
	t.Cleanup(cancel) // before the server's Stop, which waits
	p.Addr = p.ln.Addr().String()
	p.serve(p.handle)
	return p
}

// URL returns the proxy's address as a configuration writes it, with the
// credentials that it wants.
func (p *Proxy) URL() string {
	u := url.URL{Scheme: p.o.Scheme, Host: p.Addr}
	if p.o.User != "" {
		u.User = url.UserPassword(p.o.User, p.o.Password)
	}
	return u.String()
}

// SetFault changes what new connections meet; nil is well-behaved again.
func (p *Proxy) SetFault(f *Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.o.Fault = f
}

// Asked returns every request so far, in the order in which they came.
func (p *Proxy) Asked() []Asked {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Asked(nil), p.asks...)
}

func (p *Proxy) note(a Asked, c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		state := t.ConnectionState()
		a.TLS = &state
	}
	p.mu.Lock()
	p.asks = append(p.asks, a)
	p.mu.Unlock()
}

// fails runs the fault of this stage and reports whether there is one. The host is
// that of the request, "" before it is known.
func (p *Proxy) fails(at Stage, c net.Conn, host string) bool {
	p.mu.Lock()
	f := p.o.Fault
	p.mu.Unlock()
	if f == nil || f.At != at || f.Host != "" && f.Host != host {
		return false
	}
	f.Do(c)
	return true
}

func (p *Proxy) handle(c net.Conn) {
	if p.fails(AtAccept, c, "") {
		return
	}
	if p.o.Scheme == "https" {
		t := tls.Server(c, p.o.TLS)
		if err := t.HandshakeContext(p.ctx); err != nil {
			return
		}
		defer t.Close()
		c = t
	}
	r := bufio.NewReader(c)
	switch p.o.Scheme {
	case "http", "https":
		p.http(c, r)
	case "socks4", "socks4a":
		p.socks4(c, r)
	default:
		p.socks5(c, r)
	}
}

var errUnknownHost = errors.New("unknown host")

// dial opens the connection to a target by the table of hosts.
func (p *Proxy) dial(host, port string) (net.Conn, error) {
	addr := net.JoinHostPort(host, port)
	for _, key := range []string{addr, host, "*"} {
		if to, ok := p.o.Hosts[key]; ok {
			return p.connect(to)
		}
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return p.connect(addr)
	}
	return nil, errUnknownHost
}

func (p *Proxy) connect(addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: Patience}
	c, err := d.DialContext(p.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if !p.track(c) {
		return nil, net.ErrClosed
	}
	return c, nil
}

// carry sends the success, and then bytes in both directions.
func (p *Proxy) carry(c, target net.Conn, r io.Reader, success string) {
	defer p.drop(target)
	p.send(c, success+p.o.Early)
	pipe(c, target, r)
}

// send writes text in one segment, or each byte in its own.
func (p *Proxy) send(c net.Conn, text string) {
	if !p.o.Split {
		_, _ = io.WriteString(c, text)
		return
	}
	for i := range len(text) {
		_, _ = io.WriteString(c, text[i:i+1])
		time.Sleep(time.Millisecond)
	}
}

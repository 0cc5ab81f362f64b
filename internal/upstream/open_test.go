package upstream

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"proxyd/internal/dialer"
	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// secured is the one pool of a file with an https upstream at addr.
func secured(t testing.TB, host, addr, options string) *Pool {
	t.Helper()
	return only(t, load(t, fmt.Sprintf("default: {url: \"https://u:p@%s:%s\", tls: {%s}}\n", host, testkit.Port(addr), options), map[string]string{"px.example": "127.0.0.1"}))
}

// An https upstream is verified against its own name, spoken to in HTTP/1.1, and
// given the credentials only inside TLS.
func TestHTTPSUpstream(t *testing.T) {
	ca := testkit.NewCA(t)
	echo := testkit.NewTCP(t, testkit.Echo)
	cert, key := ca.Files(t, "the client")
	named, byAddress := ca.Server(t, "px.example"), ca.Server(t, "127.0.0.1")
	mutual := ca.Server(t, "px.example")
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool
	newest := ca.Server(t, "px.example")
	newest.MinVersion = tls.VersionTLS13
	trust := fmt.Sprintf("ca_file: %q", ca.File)
	tests := []struct {
		name, host string
		server     *tls.Config
		options    string
		sni        string
	}{
		{"by name", "px.example", named, trust, "px.example"},
		{"by address", "127.0.0.1", byAddress, trust, ""},
		{"server_name", "127.0.0.1", named, trust + ", server_name: px.example", "px.example"},
		{"insecure", "127.0.0.1", ca.ExpiredServer(t, "other.example"), "insecure: true", ""},
		{"a client's certificate", "px.example", mutual, fmt.Sprintf("%s, cert_file: %q, key_file: %q", trust, cert, key), "px.example"},
		{"TLS 1.3 alone", "px.example", newest, trust, "px.example"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "https", User: "u", Password: "p", TLS: tt.server, Hosts: map[string]string{"*": echo.Addr}, Early: "at once"})
			for range 2 { // the second time with a session of the first
				conn := open(t, secured(t, tt.host, p.Addr, tt.options), venue)
				if got := string(conn.Early); got != "at once" {
					t.Errorf("early bytes %q", got)
				}
				if _, ok := conn.Conn.(*tls.Conn); !ok {
					t.Errorf("the connection is a %T", conn.Conn)
				}
				_ = conn.Conn.Close()
				conn.Release()
			}
			a := p.Asked()[0]
			if a.Host != venue.Host || a.User != "u" || a.Password != "p" {
				t.Errorf("asked for %s by %s:%s", a.Host, a.User, a.Password)
			}
			if a.TLS.ServerName != tt.sni || a.TLS.NegotiatedProtocol != "http/1.1" || a.TLS.Version < tls.VersionTLS12 {
				t.Errorf("SNI %q, protocol %q, version %x", a.TLS.ServerName, a.TLS.NegotiatedProtocol, a.TLS.Version)
			}
		})
	}
}

// Every failure of TLS to an upstream, with what to do.
// Without TLS the login is never sent.
func TestHTTPSUpstreamFaults(t *testing.T) {
	ca, stranger := testkit.NewCA(t), testkit.NewCA(t)
	trust := fmt.Sprintf("ca_file: %q", ca.File)
	mutual := ca.Server(t, "px.example")
	mutual.ClientAuth = tls.RequireAnyClientCert
	old := ca.Server(t, "px.example")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 //nolint:gosec // that is the test
	other := ca.Server(t, "px.example")
	other.NextProtos = []string{"imap"}
	tests := []struct {
		name, options string
		server        *tls.Config
		fault         func(net.Conn)
		want          failure.Class
		text, hint    string
	}{
		{"a strange authority", trust, stranger.Server(t, "px.example"), nil, failure.UpstreamTLS, "has a certificate of an authority that this machine does not trust", "tls.ca_file"},
		{"no ca_file", "insecure: false", ca.Server(t, "px.example"), nil, failure.UpstreamTLS, "has a certificate of an authority that this machine does not trust", "tls.ca_file"},
		{"expired", trust, ca.ExpiredServer(t, "px.example"), nil, failure.UpstreamTLS, "has a certificate that is not valid now (20", "renew it there"},
		{"another name", trust, ca.Server(t, "a.example", "b.example", "c.example", "10.0.0.1"), nil, failure.UpstreamTLS, "has a certificate for another name than px.example (it is for a.example, b.example, c.example, ...)", "tls.server_name"},
		{"old versions", trust, old, nil, failure.UpstreamTLS, "refused the TLS handshake (", "other versions"},
		{"another protocol", trust, other, nil, failure.UpstreamTLS, "refused the TLS handshake (", ""},
		{"wants a client's certificate", trust, mutual, nil, failure.UpstreamTLS, "refused the TLS handshake (", "tls.cert_file"},
		{"HTTP", trust, nil, testkit.Answer("400 Bad Request", ""), failure.UpstreamTLS, "does not speak TLS, but what looks like HTTP", "write http://"},
		{"SSH", trust, nil, testkit.Say("SSH-2.0-x\r\n"), failure.UpstreamTLS, "does not speak TLS, but what looks like SSH", "write http://"},
		{"noise", trust, nil, testkit.Say("0123456789"), failure.UpstreamTLS, "does not speak TLS", "write http://"},
		{"a reset", trust, nil, testkit.ResetAfter(10), failure.UpstreamTLS, "reset the connection in the TLS handshake", ""},
		{"an end", trust, nil, testkit.Say(""), failure.UpstreamTLS, "closed the connection in the TLS handshake", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := testkit.ProxyOptions{Scheme: "https", TLS: tt.server}
			if tt.fault != nil {
				o.Fault = testkit.On(testkit.AtAccept, tt.fault)
			}
			p := testkit.NewProxy(t, o)
			e := denied(t, secured(t, "px.example", p.Addr, tt.options), venue, testkit.Patience, tt.want)
			if !strings.HasPrefix(e.Text, tt.text) || !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("got %q, hint %q\nwant %q, hint %q", e.Text, e.Hint, tt.text, tt.hint)
			}
			if certificate := strings.HasPrefix(e.Text, "has a certificate"); certificate != (e.ProxyError == "tls_certificate_error") {
				t.Errorf("Proxy-Status error %q", e.ProxyError)
			}
			if n := len(p.Asked()); n != 0 {
				t.Errorf("it was sent %d requests", n)
			}
		})
	}
}

// Whatever goes wrong with an upstream, no form of an error holds its login.
func TestErrorsHoldNoCredentials(t *testing.T) {
	const user, password = "acct-8842", "hunter2-hunter2"
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	echo := func(text string) *testkit.Fault { return testkit.On(testkit.AtGreeting, testkit.Say(text)) }
	faults := map[string]*testkit.Fault{
		"rejects it":          nil,
		"closes":              testkit.On(testkit.AtAccept, testkit.Close),
		"closes at the login": testkit.On(testkit.AtGreeting, testkit.Close),
		"repeats it":          echo("HTTP/1.1 403 " + user + ":" + password + "\r\n" + basic + ": " + password + "\r\n\r\n"),
		"repeats it raw":      echo("\x05" + password),
		"repeats the request": echo("CONNECT x HTTP/1.1\r\nProxy-Authorization: Basic " + basic + "\r\n\r\n"),
	}
	for _, scheme := range []string{"http", "socks4a", "socks5"} {
		for name, f := range faults {
			t.Run(scheme+" "+name, func(t *testing.T) {
				p := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: scheme, User: "another", Password: "x", Fault: f})
				pair := user + ":" + password
				if scheme == "socks4a" { // has no passwords
					pair = user
				}
				s := load(t, fmt.Sprintf("default: %s://%s@%s\n", scheme, pair, p.Addr), nil)
				_, err := only(t, s).Dial(budget(t, testkit.Patience), venue)
				if err == nil {
					t.Fatal("a conn")
				}
				all := fmt.Sprintf("%v %+v %#v %s", err, err, err, only(t, s).Members()[0].URL())
				for _, secret := range []string{password, user, basic} {
					if strings.Contains(all, secret) {
						t.Errorf("%q is in %s", secret, all)
					}
				}
			})
		}
	}
}

// A direct member on which nothing answers may be to blame, as where an
// exchange drops what one local address sends: the next member is tried, and the
// first is charged once another has succeeded.
func TestSilentDirectMember(t *testing.T) {
	t.Parallel()
	hole := at(testkit.BlackHole(t))
	echo := testkit.NewTCP(t, testkit.Echo)
	opens := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": echo.Addr}})
	with := func(second string) *Set {
		return load(t, fmt.Sprintf(`attempt_seconds: 0.1
allow_private: [127.0.0.0/8]
pools: {p: {strategy: failover, proxies: [{name: a, url: "direct://127.0.0.1"}, {name: b, url: %q}]}}
default: p
`, second), nil)
	}
	s := with(opens.URL())
	stopped(s)
	for i := range 4 {
		conn := open(t, only(t, s), hole)
		conn.Release()
		if got, want := tries(conn.Tried), "a target_timeout"; i < 3 && got != want {
			t.Fatalf("request %d: tried %q, want %q", i, got, want)
		}
		if got, want := out(s), "a"; i >= 2 && got != want || i < 2 && got != "" {
			t.Fatalf("after %d requests %q is out", i+1, got)
		}
	}
	s = with("direct://127.0.0.2") // silent too: no member is charged
	stopped(s)
	for range 4 {
		_, err := only(t, s).Dial(budget(t, testkit.Patience/24), hole)
		if err == nil || !strings.Contains(err.Error(), "2 tried") {
			t.Fatal(err)
		}
	}
	if got := out(s); got != "" {
		t.Errorf("%q is out for the target's silence", got)
	}
}

// Their names are refused without a look-up.
func TestGuardMetadataNames(t *testing.T) {
	s := load(t, "allow_private: [0.0.0.0/0]\n", map[string]string{"metadata.google.internal": "127.0.0.1", "metadata": "127.0.0.1"})
	for _, host := range []string{"metadata.google.internal", "metadata"} {
		t.Run(host, func(t *testing.T) {
			e := denied(t, s.Direct(), Target{Host: host, Port: 80, Trusted: true}, testkit.Patience, failure.Denied)
			if !strings.Contains(e.Text, "metadata service") {
				t.Errorf("got %q", e.Text)
			}
		})
	}
}

// A name that this machine's name server answers with a fake address is refused
// with the cause, and the line that is printed lets all of them through.
func TestGuardNamesFakeAddresses(t *testing.T) {
	for at, line := range map[string]string{"198.18.0.5": "allow_private: [198.18.0.0/15]", "fc00::5": `allow_private: ["fc00::/18"]`} {
		s := load(t, "default: direct\n", map[string]string{"feed.example": at})
		e := denied(t, s.Direct(), Target{Host: "feed.example", Port: 443}, testkit.Patience, failure.Denied)
		if !strings.Contains(e.Hint, "fake addresses (Clash, mihomo, sing-box)") || !strings.HasSuffix(e.Hint, line) {
			t.Errorf("%s: the hint is %q, want %q", at, e.Hint, line)
		}
		if e := load(t, line+"\n", nil).guard.CheckDirect(netip.AddrPortFrom(netip.MustParseAddr(at).Next(), 443), false); e != nil {
			t.Errorf("%s: the line does not allow the next one: %v", at, e)
		}
	}
}

// An error of a look-up is this machine's or the target's.
func TestDirectDialWithoutDNS(t *testing.T) {
	for name, tt := range map[string]struct {
		err   error
		want  failure.Class
		words string
	}{
		"no name server answers": {&dialer.NoDNSError{Servers: []string{"127.0.0.1:53"}}, failure.Local, "cannot resolve the target's name: this machine's DNS (127.0.0.1:53) did not answer"},
		"there is no name":       {&net.DNSError{Err: "no such host", IsNotFound: true}, failure.TargetDNS, "does not find the target's name"},
		"the server failed":      {&net.DNSError{Err: "server misbehaving", IsTemporary: true}, failure.TargetDNS, "does not find the target's name"},
		"the time is over":       {context.DeadlineExceeded, failure.TargetTimeout, "did not resolve the target's name within"},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, "default: direct\n", nil)
			failLookups(s, tt.err)
			e := denied(t, s.Direct(), Target{Host: "feed.example", Port: 443}, testkit.Patience, tt.want)
			if !strings.Contains(e.Text, tt.words) {
				t.Errorf("it says %q, want %q", e.Text, tt.words)
			}
		})
	}
}

// On most machines localhost has two addresses. One of them is not reached, and
// nothing listens at the other: the error is the one of the first.
func TestDirectDialToATargetWithARefusedAndADeadAddress(t *testing.T) {
	t.Parallel()
	dead := netip.MustParseAddrPort(testkit.ClosedPort(t))
	s := load(t, "default: direct\nallow_private: [127.0.0.1/32]\n", nil)
	s.shared.resolver = dialer.NewResolver(func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("10.0.0.1"), dead.Addr()}, nil
	})
	e := denied(t, s.Direct(), Target{Host: "feed.example", Port: dead.Port()}, testkit.Patience, failure.Denied)
	if !strings.Contains(e.Text, "10.0.0.1 is a private address") {
		t.Errorf("it says %q", e.Text)
	}
}

// failLookups makes every look-up of s end with err.
func failLookups(s *Set, err error) {
	s.shared.resolver = dialer.NewResolver(func(context.Context, string, string) ([]netip.Addr, error) { return nil, err })
}

// A SOCKS4 upstream needs the target's address from here.
func TestSOCKS4WithoutDNS(t *testing.T) {
	t.Parallel()
	up := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks4"})
	s := load(t, "default: "+up.URL()+"\n", nil)
	failLookups(s, &dialer.NoDNSError{})
	e := denied(t, only(t, s), Target{Host: "feed.example", Port: 443}, testkit.Patience, failure.Local)
	if !strings.Contains(e.Text, "this machine's DNS") {
		t.Errorf("it says %q", e.Text)
	}
}

// An upstream is not blamed for this machine's name servers.
func TestUpstreamIsNotBlamedForDNS(t *testing.T) {
	t.Parallel()
	s := load(t, "default: http://px.example:3128\n", nil)
	failLookups(s, &dialer.NoDNSError{})
	for range 3 {
		e := denied(t, only(t, s), Target{Host: "feed.example", Port: 443}, testkit.Patience, failure.Local)
		if !strings.Contains(e.Text, "cannot resolve its name px.example: this machine's DNS") {
			t.Errorf("it says %q", e.Text)
		}
	}
	if _, _, ejected := s.Upstreams()[0].Ejected(); ejected {
		t.Error("the upstream is ejected")
	}
}

// What is asked for without link-local addresses reaches none, whatever name leads there.
func TestNoLinkLocalAddressByName(t *testing.T) {
	s := load(t, "pools: {p: {proxies: [direct]}}\n", nil)
	for _, addr := range []string{"169.254.7.7", "fe80::1", "::ffff:169.254.7.7", "64:ff9b::a9fe:707"} {
		s.shared.resolver = dialer.NewResolver(func(context.Context, string, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(addr)}, nil
		})
		_, err := s.Pool("p").Dial(t.Context(), Target{Host: "lists.example", Port: 80, Trusted: true, NoLink: true})
		if e, ok := errors.AsType[*failure.Error](err); !ok || e.Class != failure.Denied || !strings.Contains(e.Text, "link-local") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

package upstream

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"proxyd/internal/failure"
	"proxyd/internal/testkit"
	"strings"
	"testing"
)

// secured is the one pool of a file with an https upstream at addr.
func secured(t testing.TB, host, addr, options string) *Pool {
	t.Helper()
	return only(t, load(t, fmt.Sprintf("default: {url: \"https://u:p@%s:%s\", tls: {%s}}\n", host, testkit.Port(addr), options), map[string]string{"px.example": "127.0.0.1"}))
}

// An https upstream is verified against its own name, spoken to in HTTP/1.1, and
// given the login inside TLS alone.
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
				way := open(t, secured(t, tt.host, p.Addr, tt.options), venue)
				if got := string(way.Early); got != "at once" {
					t.Errorf("early bytes %q", got)
				}
				if _, ok := way.Conn.(*tls.Conn); !ok {
					t.Errorf("the way is a %T", way.Conn)
				}
				_ = way.Conn.Close()
				way.Release()
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

// Every way in which TLS to an upstream fails, in words that say what to mend.
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
func TestErrorsHoldNoLogin(t *testing.T) {
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
					t.Fatal("a way")
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

package admin

import (
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAccessThroughABrowser(t *testing.T) {
	o := wellOptions(t)
	o.Settings = func() config.Admin { return config.Admin{Hosts: []string{"Proxyd.Example"}} }
	a := serve(t, o, "")
	_, port, _ := net.SplitHostPort(a)
	for _, c := range []struct {
		name, head string
		status     int
		says       string
	}{
		{"by address", "GET / HTTP/1.1", 200, ""},
		{"by localhost", "GET / HTTP/1.1\r\nHost: localhost:" + port, 200, ""},
		{"by LOCALHOST.", "GET / HTTP/1.1\r\nHost: LOCALHOST.", 200, ""},
		{"by an IPv6 address", "GET / HTTP/1.1\r\nHost: [::1]:" + port, 200, ""},
		{"by an IPv6 address without port", "GET / HTTP/1.1\r\nHost: [::1]", 200, ""},
		{"by a listed name", "GET / HTTP/1.1\r\nHost: proxyd.example:" + port, 200, ""},
		{"by a strange name", "GET /api/v1/status HTTP/1.1\r\nHost: evil.example:" + port, 421, "admin.hosts"},
		{"by a strange name, a probe", "GET /healthz HTTP/1.1\r\nHost: evil.example", 421, "admin.hosts"},
		{"by a name that begins well", "GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example", 421, "admin.hosts"},
		{"by a name below", "GET / HTTP/1.1\r\nHost: x.localhost", 421, "admin.hosts"},
		{"by a number", "GET / HTTP/1.1\r\nHost: 127.1", 421, "admin.hosts"},
		{"by nothing", "GET / HTTP/1.0\r\nHost:", 421, "admin.hosts"},
		{"typed in", "GET / HTTP/1.1\r\nSec-Fetch-Site: none", 200, ""},
		{"refreshed", "GET / HTTP/1.1\r\nSec-Fetch-Site: same-origin", 200, ""},
		{"from another site", "GET /api/v1/status HTTP/1.1\r\nSec-Fetch-Site: cross-site", 403, "another site"},
		{"from another port", "GET /api/v1/status HTTP/1.1\r\nSec-Fetch-Site: same-site", 403, "another site"},
		{"an origin", "GET /api/v1/status HTTP/1.1\r\nOrigin: http://evil.example", 403, "another site"},
		{"no origin", "POST /-/reload HTTP/1.1\r\nX-Proxyd: 1\r\nOrigin: null", 403, "another site"},
		{"our origin", "POST /-/reload HTTP/1.1\r\nX-Proxyd: 1\r\nOrigin: http://" + a, 200, ""},
		{"our origin with TLS", "POST /-/reload HTTP/1.1\r\nX-Proxyd: 1\r\nOrigin: https://" + a, 403, "another site"},
		{"what cannot be read", "POST /-/reload?dry_run=%zz HTTP/1.1\r\nX-Proxyd: 1", 400, "the query cannot be read"},
		{"what is misspelled", "POST /-/reload?dryrun HTTP/1.1\r\nX-Proxyd: 1", 400, `"dryrun" is no parameter; there are dry_run`},
		{"what is misspelled in a drain", "POST /-/drain?upstream=osaka-1&exhange=okx HTTP/1.1\r\nX-Proxyd: 1", 400, `"exhange" is no parameter`},
		{"what stands there twice", "POST /-/drain?upstream=osaka-1&exchange=okx&exchange=kraken HTTP/1.1\r\nX-Proxyd: 1", 400, "twice"},
		{"a form", "POST /-/reload HTTP/1.1", 403, "X-Proxyd: 1"},
		{"another form", "POST /-/reload HTTP/1.1\r\nX-Proxyd: 0", 403, "X-Proxyd: 1"},
		{"a preflight", "OPTIONS /-/reload HTTP/1.1\r\nOrigin: http://evil.example", 403, "another site"},
		{"as a proxy", "CONNECT api.binance.com:443 HTTP/1.1\r\nHost: api.binance.com:443", 400, "under listen"},
		{"as a plain proxy", "GET http://api.binance.com/ HTTP/1.1", 400, "under listen"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := send(t, a, c.head)
			if got.status != c.status || !strings.Contains(got.body, c.says) || got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%d %s, want %d and %q", got.status, got.body, c.status, c.says)
			}
			if c.status >= 400 && strings.Count(got.body, "\n") != 1 {
				t.Errorf("not one line: %q", got.body)
			}
		})
	}
}

// remoteListener makes a server believe that its clients have another address:
// the check takes the address that net/http reports.
type remoteListener struct {
	net.Listener
	from net.Addr
}

type elsewhereConn struct {
	net.Conn
	from net.Addr
}

func (c elsewhereConn) RemoteAddr() net.Addr { return c.from }

func (l remoteListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return elsewhereConn{c, l.from}, nil
}

// login is the field that a browser sends after its login window.
func login(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// Promise (security): a browser logs in with the token as the password, and no
// login lets a POST through without X-Proxyd.
func TestBrowserLoginLetsNoPostThrough(t *testing.T) {
	o := wellOptions(t)
	o.Settings = func() config.Admin {
		return config.Admin{Local: "token", Token: config.NewSecret("CANARY-token")}
	}
	a := serve(t, o, "")
	mine := login("ann", "CANARY-token")
	for _, c := range []struct {
		name, head string
		status     int
		window     bool // the browser shows its login window
	}{
		{"the page", "GET / HTTP/1.1", 401, true},
		{"what is typed in", "GET /api/v1/status HTTP/1.1\r\nAccept: text/html,*/*", 401, true},
		{"what a script asks for", "GET /api/v1/status HTTP/1.1\r\nAccept: */*", 401, false},
		{"a stream", "GET /api/v1/status HTTP/1.1\r\nAccept: text/event-stream", 401, false},
		{"logged in", "GET / HTTP/1.1\r\n" + mine, 200, false},
		{"logged in, a change", "POST /-/reload HTTP/1.1\r\nX-Proxyd: 1\r\n" + mine, 200, false},
		{"logged in, a form", "POST /-/reload HTTP/1.1\r\n" + mine, 403, false},
		{"logged in, another site's stream", "GET /api/v1/status HTTP/1.1\r\nAccept: text/event-stream\r\nOrigin: http://evil.example\r\n" + mine, 403, false},
		{"logged in, another site's picture", "GET /page/icon.svg HTTP/1.1\r\nSec-Fetch-Site: cross-site\r\n" + mine, 403, false},
		{"logged in, another site's link", "GET / HTTP/1.1\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n" + mine, 403, false},
		{"logged in, by another name", "GET / HTTP/1.1\r\nHost: evil.example\r\n" + mine, 421, false},
		{"logged in, another site's change", "POST /-/reload HTTP/1.1\r\nX-Proxyd: 1\r\nOrigin: http://evil.example\r\n" + mine, 403, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := send(t, a, c.head)
			fields := got.header.Values("WWW-Authenticate")
			if got.status != c.status || slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, "Basic ") }) != c.window {
				t.Errorf("%d %q, want %d and window %v", got.status, fields, c.status, c.window)
			}
			if strings.Contains(got.body, "CANARY") || got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%v %s", got.header, got.body)
			}
			if got.status == 401 && !slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, "Proxyd nonce=") }) {
				t.Errorf("no challenge for the commands: %q", fields)
			}
		})
	}
}

func TestAccessFromOtherMachines(t *testing.T) {
	const token = "CANARY-token"
	bearer := "Authorization: Bearer " + token
	for _, c := range []struct {
		name, from string
		token      string
		path       string
		fields     []string
		status     int
		says       string
	}{
		{"a probe, allowed", "10.1.2.3:9", "", "/healthz", nil, 200, ""},
		{"readyz, allowed", "10.1.2.3:9", "", "/readyz", nil, 200, ""},
		{"metrics, allowed, mapped", "[::ffff:10.1.2.3]:9", "", "/metrics", nil, 200, ""},
		{"metrics, not allowed", "192.0.2.7:9", "", "/metrics", nil, 403, "admin.allow"},
		{"metrics, by token", "192.0.2.7:9", token, "/metrics", []string{bearer}, 200, ""},
		{"status, allowed for metrics", "10.1.2.3:9", "", "/api/v1/status", nil, 403, "admin.token"},
		{"the page", "10.1.2.3:9", token, "/", nil, 401, "Authorization: Bearer"},
		{"the page, by login", "192.0.2.7:9", token, "/", []string{login("ann", token)}, 200, "<!doctype html>"},
		{"the page, by login of any user", "192.0.2.7:9", token, "/", []string{login("", token)}, 200, "<!doctype html>"},
		{"the page's script, by login", "192.0.2.7:9", token, "/page/page.js", []string{login("ann", token)}, 200, "EventSource"},
		{"the page's script", "192.0.2.7:9", token, "/page/page.js", nil, 401, "admin.token"},
		{"status, by login", "192.0.2.7:9", token, "/api/v1/status", []string{login("ann", token)}, 200, ""},
		{"by another password", "192.0.2.7:9", token, "/", []string{login("ann", token+"x")}, 401, "any user name"},
		{"by an empty password where there is no token", "192.0.2.7:9", "", "/", []string{login("ann", "")}, 403, "admin.token"},
		{"by the token as the user", "192.0.2.7:9", token, "/", []string{login(token, "")}, 401, "any user name"},
		{"by the token in the URL", "192.0.2.7:9", token, "/?token=" + token, nil, 401, "any user name"},
		{"by token", "192.0.2.7:9", token, "/api/v1/status", []string{bearer}, 200, ""},
		{"by another token", "192.0.2.7:9", token, "/api/v1/status", []string{bearer + "x"}, 401, "admin.token"},
		{"by no token where there is none", "192.0.2.7:9", "", "/api/v1/status", []string{"Authorization: Bearer "}, 403, "admin.token"},
		{"by the token as a password", "192.0.2.7:9", token, "/api/v1/status", []string{"Authorization: Basic " + token}, 401, "Bearer"},
		{"nothing there", "10.1.2.3:9", token, "/nothing", nil, 401, "admin.token"},
		{"profiles", "10.1.2.3:9", token, "/debug/pprof/heap", nil, 401, "admin.token"},
		{"loopback", "127.0.0.9:9", token, "/api/v1/status", nil, 200, ""},
		{"loopback, passed on", "127.0.0.1:9", token, "/api/v1/status", []string{"X-Forwarded-For: 127.0.0.1"}, 401, "admin.token"},
		{"loopback, passed on for an empty address", "127.0.0.1:9", token, "/api/v1/status", []string{"X-Forwarded-For: "}, 401, "admin.token"},
		{"loopback, passed on by nginx", "127.0.0.1:9", token, "/api/v1/status", []string{"X-Real-IP: 192.0.2.7"}, 401, "admin.token"},
		{"loopback, passed on by another proxy", "127.0.0.1:9", token, "/api/v1/status", []string{"Via: 1.1 squid"}, 401, "admin.token"},
		{"allowed, passed on", "10.1.2.3:9", "", "/metrics", []string{"Forwarded: for=1.2.3.4"}, 403, "admin.allow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := wellOptions(t)
			o.Settings = func() config.Admin {
				return config.Admin{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Token: config.NewSecret(c.token), Pprof: true}
			}
			ln, err := Listen("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s, done := New(o), make(chan error, 1)
			from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.from))
			go func() { done <- s.Serve(remoteListener{ln, from}) }() // ends with Close
			defer func() { _ = s.Close(); <-done }()
			got := get(t, ln.Addr().String(), c.path, c.fields...)
			if got.status != c.status || !strings.Contains(got.body, c.says) || strings.Contains(got.body, token) {
				t.Errorf("%d %s, want %d and %q", got.status, got.body, c.status, c.says)
			}
			if (got.status == 401) != (got.header.Get("WWW-Authenticate") != "") {
				t.Errorf("WWW-Authenticate: %q", got.header.Get("WWW-Authenticate"))
			}
		})
	}
}

// Settings are asked each time: a reload changes who may.
func TestSettingsTakeEffectAtOnce(t *testing.T) {
	pprof := make(chan bool, 4)
	o := wellOptions(t)
	o.Settings = func() config.Admin { return config.Admin{Pprof: <-pprof} }
	a := serve(t, o, "")
	for _, on := range []bool{false, true, false} {
		pprof <- on
		want := 404
		if on {
			want = 200
		}
		if got := get(t, a, "/debug/pprof/goroutine?debug=1"); got.status != want {
			t.Errorf("pprof %v: %d", on, got.status)
		}
	}
	pprof <- true
	if got := get(t, a, "/debug/pprof/cmdline"); got.status != 404 {
		t.Errorf("the command line: %d %s", got.status, got.body)
	}
}

func TestUnixSocketNeedsNoToken(t *testing.T) {
	o := wellOptions(t)
	o.Settings = func() config.Admin { return config.Admin{Token: config.NewSecret("x")} }
	a := serve(t, o, "unix:"+filepath.Join(t.TempDir(), "a.sock"))
	if got := get(t, a, "/api/v1/status", "Host: anything"); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := send(t, a, "POST /-/reload HTTP/1.1\r\nHost: x"); got.status != 403 {
		t.Errorf("a POST without X-Proxyd: %d", got.status)
	}
}

// Idle connections keep no client out, and slow ones are closed in time.
func TestIdleConnectionsKeepNoClientOut(t *testing.T) {
	t.Parallel()
	a := serve(t, wellOptions(t), "")
	idle := make([]net.Conn, 3*connLimit)
	for i := range idle {
		c, err := net.Dial("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle[i] = c
	}
	if got := get(t, a, "/healthz"); got.status != 200 {
		t.Errorf("%d", got.status)
	}
	closed := 0
	for _, c := range idle[:2*connLimit] {
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err != nil && !os.IsTimeout(err) {
			closed++
		}
	}
	if closed != 2*connLimit {
		t.Errorf("%d of the first %d connections were closed", closed, 2*connLimit)
	}
	start := time.Now()
	last := idle[len(idle)-1]
	_, _ = io.WriteString(last, "GET / HT")
	_ = last.SetReadDeadline(time.Now().Add(9 * time.Second))
	if b, err := io.ReadAll(last); os.IsTimeout(err) || time.Since(start) > headTime+2*time.Second {
		t.Errorf("half a head: %v after %v: %s", err, time.Since(start), b)
	}
}

// However many come meanwhile, who is being answered keeps its connection.
func TestAnswerBeingWrittenIsNotCutOff(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	o := wellOptions(t)
	o.Reload = func(context.Context, bool) Report {
		close(begun)
		<-goOn
		return Report{Applied: true}
	}
	a, answered := serve(t, o, ""), make(chan error, 1)
	go func() { // ends with the answer
		_, err := NewClient(a, config.Secret{}).Reload(t.Context(), false)
		answered <- err
	}()
	<-begun
	for range 2 * connLimit {
		c, err := net.Dial("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if got := get(t, a, "/healthz"); got.status != 200 { // it was accepted after all of them
		t.Errorf("%d", got.status)
	}
	close(goOn)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestOversizedRequestIsRejected(t *testing.T) {
	t.Parallel()
	a := serve(t, wellOptions(t), "")
	if got := get(t, a, "/api/v1/status?x="+strings.Repeat("a", 1<<20)); got.status != 431 {
		t.Errorf("a long query: %d", got.status)
	}
	start := time.Now()
	if got := post(t, a, "/-/reload", "Content-Length: 1073741824"); got.status != 413 || !got.closed {
		t.Errorf("a body: %d %s", got.status, got.body)
	}
	if got := post(t, a, "/-/reload", "Transfer-Encoding: chunked"); got.status != 413 {
		t.Errorf("a body in chunks: %d %s", got.status, got.body)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("took %v", d)
	}
}

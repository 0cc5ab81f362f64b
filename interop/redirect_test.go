//go:build interop

package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"proxyd/internal/testkit"
)

// The addresses of this test lead nowhere but to the redirect. What feedUser opens is
// redirected by the rules of docs/any-program.md, and what loopUser opens by one that
// leaves nothing out.
const (
	feedUser  = 12345
	loopUser  = 12346
	redirects = `table inet proxyd_test {
  chain output {
    type nat hook output priority -100; policy accept;
    ip daddr 198.51.100.0/24 tcp dport 8443 redirect to :8892
    ip daddr 198.51.100.0/24 meta l4proto tcp redirect to :8879
    ip6 daddr 2001:db8:7::/48 meta l4proto tcp redirect to :8879
    meta skuid 12346 meta l4proto tcp redirect to :8879
  }
}
`
)

// redirected is a proxyd whose listeners get what the rules above redirect.
type redirected struct {
	exchange     *testkit.Exchange
	rest, stream *testkit.Proxy
	speaksFirst  *testkit.Proxy
	proxyd       *program
}

func newRedirected(t *testing.T) *redirected {
	t.Helper()
	x := &redirected{exchange: testkit.NewExchange(t)}
	hosts := map[string]string{"*": x.exchange.TLS}
	for _, host := range []string{"api.binance.com:80", "unlisted.test:80"} {
		hosts[host] = x.exchange.HTTP
	}
	first := testkit.NewTCP(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 ready\r\n")
		testkit.Hang(c)
	})
	x.rest = testkit.NewProxy(t, testkit.ProxyOptions{Hosts: hosts})
	x.stream = testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: hosts})
	x.speaksFirst = testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": first.Addr}})
	for _, line := range []string{
		"ip addr replace 198.51.100.1/32 dev lo", "ip -6 addr replace 2001:db8:7::1/128 dev lo nodad",
		"ip route replace 198.51.100.0/24 dev lo src 198.51.100.1", "ip -6 route replace 2001:db8:7::/48 dev lo src 2001:db8:7::1",
		"ip route replace 192.0.2.0/24 dev lo src 198.51.100.1",
	} {
		system(t, "", strings.Fields(line)...)
	}
	system(t, redirects, "nft", "-f", "-")
	system(t, documentedRules(t), "nft", "-f", "-")
	t.Cleanup(func() {
		system(t, "", "nft", "delete", "table", "inet", "proxyd_test")
		system(t, "", "nft", "delete", "table", "inet", "proxyd")
	})
	x.proxyd = start(t, nil, os.Getenv("INTEROP_PROXYD"), "run", "-c", file(t, "redirected.yaml", fmt.Sprintf(`listen:
  - 127.0.0.1:8890
  - {address: "127.0.0.1:8879", transparent: true}
  - {address: "[::1]:8879", transparent: true}
  - {address: "[::]:8892", transparent: true, allow: [0.0.0.0/0, "::/0"]}
admin: ""
allow_private: [127.0.0.0/8] # TestInterop leaves names of exchanges in the hosts file
default: reject
routes:
  - {hosts: [198.51.100.66/32], use: direct}
  - {hosts: [198.51.100.32/28], use: %q}
exchanges:
  binance: {http: %q, websocket: %q}
`, x.speaksFirst.URL(), x.rest.URL(), x.stream.URL())))
	testkit.Eventually(t, testkit.Patience, "proxyd is ready", func() bool { return strings.Contains(x.proxyd.String(), `"msg":"ready"`) })
	return x
}

// documentedRules returns the rules that the document redirects a user by. This machine
// has no such user.
func documentedRules(t *testing.T) string {
	t.Helper()
	_, rest, _ := strings.Cut(readFile(t, "docs/any-program.md"), "```nft\n")
	rules, _, found := strings.Cut(rest, "```")
	if !found || !strings.Contains(rules, `"feed"`) {
		t.Fatal("docs/any-program.md has no rules of nft for the user feed")
	}
	return strings.ReplaceAll(rules, `"feed"`, strconv.Itoa(feedUser))
}

// system runs a command of the system, with something to read.
func system(t *testing.T, in string, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// TestRedirect has netfilter redirect programs that know of no proxy.
//
// Promise (data path): What netfilter redirects, over IPv4 and IPv6, reaches the exchange through its upstream
func TestRedirect(t *testing.T) {
	if os.Getenv("CLIENTS_DIR") != "" {
		t.Skip("run by interop/run.sh")
	}
	x := newRedirected(t)
	x.exchange.CA.File = file(t, "redirected-ca.pem", readFile(t, x.exchange.CA.File)) // which other users may read, too
	w := &world{exchange: x.exchange}
	direct := []string{"--noproxy", "*"}
	to := func(host, port, address string) []string {
		return append(slices.Clip(direct), "--resolve", host+":"+port+":"+address)
	}
	const api, stream = "api.binance.com", "stream.binance.com"
	for _, c := range []struct {
		name, url string
		args      []string
		asked     string
	}{
		{"TLS over IPv4", "https://" + api + "/", to(api, "443", "198.51.100.7"), api + ":443"},
		{"TLS over IPv6", "https://" + api + "/", to(api, "443", "2001:db8:7::7"), api + ":443"},
		{"TLS 1.2", "https://" + api + "/", append(to(api, "443", "198.51.100.7"), "--tls-max", "1.2"), api + ":443"},
		{"TLS over IPv4 to a listener for both", "https://" + api + ":8443/", to(api, "8443", "198.51.100.7"), api + ":8443"},
		{"plain HTTP", "http://" + api + "/", to(api, "80", "198.51.100.7"), api + ":80"},
		{"plain HTTP, no keep-alive", "http://" + api + "/", append(to(api, "80", "198.51.100.7"), "-0"), api + ":80"},
	} {
		run(t, "curl, redirected, "+c.name, func(t *testing.T) {
			before := len(x.rest.Asked())
			w.curl(t, append(c.args, c.url)...).arrived(t, []byte("ok"))
			asked := x.rest.Asked()[before:]
			if len(asked) != 1 || asked[0].Protocol != "connect" || net.JoinHostPort(asked[0].Host, asked[0].Port) != c.asked {
				t.Errorf("the upstream was asked %+v, want CONNECT %s", asked, c.asked)
			}
		})
	}
	run(t, "curl, redirected by the rules of the document", func(t *testing.T) {
		before := len(x.rest.Asked())
		w.curlAs(t, feedUser, "--noproxy", "*", "--resolve", api+":443:192.0.2.7", "https://"+api+"/").arrived(t, []byte("ok"))
		if asked := x.rest.Asked()[before:]; len(asked) != 1 || asked[0].Host != api {
			t.Errorf("the upstream was asked %+v", asked)
		}
		w.curlAs(t, feedUser, "--noproxy", "*", "http://"+x.exchange.HTTP+"/").arrived(t, []byte("ok")) // on this machine: not redirected
	})
	run(t, "Go's websocket, redirected", func(t *testing.T) { x.websocket(t, stream) })
	run(t, "a server that speaks first, redirected", func(t *testing.T) {
		conn := dialTo(t, "198.51.100.33:5432")
		b := make([]byte, 11)
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != "220 ready\r\n" {
			t.Errorf("got %q, %v", b, err)
		}
	})
	run(t, "curl, redirected and refused, TLS", func(t *testing.T) {
		if a := w.curl(t, append(to("unlisted.test", "443", "198.51.100.7"), "https://unlisted.test/")...); a.code != 35 {
			t.Errorf("curl ended with %d: %s", a.code, a.words)
		}
	})
	run(t, "curl, redirected and refused, plain HTTP", func(t *testing.T) {
		a := w.curl(t, append(to("unlisted.test", "80", "198.51.100.7"), "-i", "http://unlisted.test/")...)
		if a.code != 0 || !strings.HasPrefix(string(a.body), "HTTP/1.1 403 proxyd: denied: ") {
			t.Errorf("curl ended with %d: %q %s", a.code, a.body, a.words)
		}
	})
	x.loops(t, w)
	run(t, "the log has what was redirected", func(t *testing.T) {
		testkit.Eventually(t, testkit.Patience, "tunnels and refusals in the log", func() bool {
			log := x.proxyd.String()
			return strings.Count(log, `"protocol":"transparent"`) > 10 && strings.Contains(log, `"msg":"refused"`) && strings.Contains(log, `"type":"refused"`)
		})
	})
}

func (x *redirected) websocket(t *testing.T, host string) {
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	before := len(x.stream.Asked())
	client := &http.Client{Transport: &http.Transport{
		Proxy: nil, TLSClientConfig: &tls.Config{RootCAs: x.exchange.CA.Pool},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, "198.51.100.8:443")
		},
	}}
	defer client.CloseIdleConnections()
	c, _, err := websocket.Dial(ctx, "wss://"+host+"/ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(ctx); err != nil || string(b) != "hello" {
		t.Errorf("got %q, %v", b, err)
	}
	if asked := x.stream.Asked()[before:]; len(asked) != 1 || asked[0].Host != host {
		t.Errorf("the upstream was asked %+v", asked)
	}
}

// loops: what a rule redirects that it should have left out.
func (x *redirected) loops(t *testing.T, w *world) {
	refused := func(t *testing.T, why string) {
		t.Helper()
		testkit.Eventually(t, testkit.Patience, "refused: "+why, func() bool { return strings.Contains(x.proxyd.String(), "proxy_loop_detected: "+why) })
	}
	run(t, "proxyd's own connection, redirected", func(t *testing.T) {
		for range 20 {
			conn := dialTo(t, "198.51.100.66:443") // which proxyd dials, and is redirected
			if _, err := io.ReadAll(conn); err == nil {
				t.Error("the client sees an orderly end")
			}
		}
		refused(t, "proxyd itself has opened it, to 198.51.100.66:443")
		// Each loop ends at its second turn, or, where that is accepted before its own
		// dial returns, at the next.
		if n := strings.Count(x.proxyd.String(), `"msg":"tunnel open"`); n > 100 {
			t.Errorf("%d tunnels were opened", n)
		}
	})
	run(t, "curl, redirected from an upstream", func(t *testing.T) {
		if a := w.curlAs(t, loopUser, "--noproxy", "*", x.rest.URL()+"/"); a.code != 0 || !strings.Contains(string(a.body), "is the upstream ") {
			t.Errorf("curl ended with %d: %q %s", a.code, a.body, a.words)
		}
		refused(t, "its destination "+x.rest.Addr+" is the upstream ")
	})
	run(t, "curl, to a transparent listener, not redirected", func(t *testing.T) {
		out, err := exec.Command("curl", "-q", "-sS", "--max-time", "20", "-x", "http://127.0.0.1:8879", "https://api.binance.com/").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "403") {
			t.Errorf("curl: %v, %q", err, out)
		}
		refused(t, "the connection was not redirected here")
	})
}

func dialTo(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, testkit.Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(testkit.Patience))
	return conn
}

// TestRedirectSetUpCPU compares what proxyd spends on a redirected tunnel and on one by
// CONNECT, in one run, in turns.
func TestRedirectSetUpCPU(t *testing.T) {
	if os.Getenv("CLIENTS_DIR") != "" {
		t.Skip("run by interop/run.sh")
	}
	x := newRedirected(t)
	hello := clientHello(t, "api.binance.com")
	// The upstream answers CONNECT and then sends back what it gets: all that matters is proxyd's part.
	redirect := func() net.Conn { return dialTo(t, "198.51.100.7:443") }
	connect := func() net.Conn {
		conn := dialTo(t, "127.0.0.1:8890")
		_, _ = io.WriteString(conn, "CONNECT api.binance.com:443 HTTP/1.1\r\nHost: api.binance.com:443\r\n\r\n")
		b := make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))
		if _, err := io.ReadFull(conn, b); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	const rounds, each = 10, 150
	var took [2]time.Duration
	for round := range rounds + 1 {
		for i, open := range []func() net.Conn{connect, redirect} {
			before := testkit.CPUTime(t, x.proxyd.pid)
			for range each {
				conn := open()
				if _, err := conn.Write(hello); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
					t.Fatal(err)
				}
				conn.Close()
			}
			time.Sleep(50 * time.Millisecond) // the ends of tunnels, which cost the same in both
			if round > 0 {
				took[i] += testkit.CPUTime(t, x.proxyd.pid) - before
			}
		}
	}
	ratio := float64(took[1]) / float64(took[0])
	fmt.Printf("set-up CPU: CONNECT %v, redirected %v a tunnel, ratio %.3f\n", took[0]/rounds/each, took[1]/rounds/each, ratio)
	if ratio > 1.1 {
		t.Errorf("a redirected tunnel costs %.3f times one by CONNECT, want at most 1.1", ratio)
	}
}

// clientHello returns what a Go client sends first.
func clientHello(t *testing.T, name string) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() { _ = tls.Client(near, &tls.Config{ServerName: name}).Handshake() }() // ends with far
	b := make([]byte, 16<<10)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

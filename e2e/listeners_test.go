package e2e

import (
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

const guarded = "listen: [{address: \"127.0.0.1:0\", auth: {users: [{name: alice, password: other}, {name: bot, password: \"${PW}\"}]}}]\n"

// A password with all that is special in a URL, a header and a YAML file.
const password = `p@:/ %2F+"'ü`

func TestTheRightPasswordLetsIn(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	p := start(t, loopback+guarded, "PW="+password)
	for name, ask := range map[string]testkit.Ask{
		"Basic":          {Protocol: testkit.CONNECT11, User: "bot", Password: password},
		"Basic, escaped": {Protocol: testkit.CONNECT11, User: "bot", Password: url.PathEscape(password)}, // copied from the proxy's URL
		"1.0":            {Protocol: testkit.CONNECT10, User: "bot", Password: password},
		"SOCKS5":         {Protocol: testkit.SOCKS5, User: "bot", Password: password},
		"another user":   {Protocol: testkit.SOCKS5, User: "alice", Password: "other"},
		"with a kind":    {Protocol: testkit.SOCKS5, User: "bot+websocket", Password: password},
	} {
		ask.Target = echo.Addr
		c, reply := testkit.Open(t, p.Addr, ask)
		if !reply.OK {
			t.Errorf("%s: %v", name, reply)
			continue
		}
		echoes(t, c, 1000)
	}
	if p.waitLine(`"msg":"tunnel open"`, `"user":"bot"`, `"protocol":"socks5"`) == "" || p.waitLine(`"user":"alice"`) == "" {
		t.Errorf("the users are not in the log:\n%s", p.Log)
	}
}

func TestAWrongPasswordDoesNot(t *testing.T) {
	t.Parallel()
	exchange := testkit.NewTCP(t, testkit.Echo)
	p := start(t, loopback+guarded, "PW="+password)
	wrong := map[string][2]string{
		"no user": {}, "wrong password": {"bot", "x"}, "another's": {"bot", "other"}, "no password": {"bot", ""},
		"wrong user": {"eve", password}, "longer": {"bot", password + "x"}, "shorter": {"bot", password[:4]}, "the case": {"BOT", password},
		"shifted": {"bo", "t" + password},
	}
	var all sync.WaitGroup
	for name, w := range wrong {
		all.Go(func() { // at once, since each waits a little for its answer
			for _, protocol := range []testkit.Protocol{testkit.CONNECT11, testkit.CONNECT10} {
				_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: protocol, Target: exchange.Addr, User: w[0], Password: w[1]})
				if reply.Status != 407 || !strings.HasPrefix(reply.Header.Get("Proxy-Authenticate"), "Basic realm=") || !strings.HasPrefix(reply.Reason, "proxyd: auth: ") {
					t.Errorf("%s, %s: %v", name, protocol, reply)
				}
			}
			if _, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: exchange.Addr, User: w[0], Password: w[1]}); reply.OK || reply.Code != 0xff {
				t.Errorf("%s, SOCKS5: %v", name, reply)
			}
		})
	}
	all.Wait()
	for _, ask := range []testkit.Ask{{Protocol: testkit.SOCKS4, User: "bot"}, {Protocol: testkit.SOCKS4A}, {Protocol: testkit.SOCKS4, User: "bot:" + password}} {
		ask.Target = exchange.Addr
		if _, reply := testkit.Open(t, p.Addr, ask); reply.OK || reply.Code != 91 {
			t.Errorf("%s cannot say a password: %v", ask.Protocol, reply)
		}
	}
	for _, field := range []string{"Digest username=\"bot\"", "Basic !!!", "Basic", "Bearer x", "Negotiate YII="} {
		_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: exchange.Addr, Header: "Proxy-Authorization: " + field + "\r\n"})
		if reply.Status != 407 {
			t.Errorf("%s: %v", field, reply)
		}
	}
	if p.waitLine(`"msg":"refused"`, `"class":"auth"`) == "" {
		t.Errorf("nothing in the log:\n%s", p.Log)
	}
	if n := exchange.Accepted(); n > 0 {
		t.Errorf("%d got through", n)
	}
}

// Some clients send credentials only when asked, on the same connection.
func TestA407KeepsTheConnection(t *testing.T) {
	t.Parallel()
	exchange := testkit.NewExchange(t)
	p := start(t, loopback+guarded, "PW="+password)
	c := testkit.Dial(t, p.Addr)
	get := "GET http://" + exchange.HTTP + "/ HTTP/1.1\r\nHost: " + exchange.HTTP + "\r\n"
	right := "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("bot:"+password)) + "\r\n"
	c.Send(get + "\r\n")
	if reply := c.ReadHTTP("GET"); reply.Status != 407 {
		t.Fatal(reply)
	}
	c.Send(get + right + "\r\n")
	if reply := c.ReadHTTP("GET"); reply.Status != 200 || reply.Body != "ok" {
		t.Fatal(reply)
	}
	if seen := exchange.Requests(); seen[0].Header.Get("Proxy-Authorization") != "" {
		t.Errorf("the password went on to the exchange: %v", seen[0])
	}
	c = testkit.Dial(t, p.Addr)
	if reply := c.Ask(testkit.Ask{Protocol: testkit.CONNECT11, Target: exchange.HTTP}); reply.Status != 407 {
		t.Fatal(reply)
	}
	if reply := c.Ask(testkit.Ask{Protocol: testkit.CONNECT11, Target: exchange.HTTP, User: "bot", Password: password}); !reply.OK {
		t.Fatal(reply)
	}
}

// twoKinds is a venue with a host that serves both kinds, each with a way of its own.
func twoKinds(t *testing.T) (yaml string, byKind map[string]*testkit.Proxy) {
	t.Helper()
	echo := testkit.NewTCP(t, testkit.Echo)
	byKind = map[string]*testkit.Proxy{}
	for _, kind := range []string{"http", "websocket", "other"} {
		byKind[kind] = testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": echo.Addr}})
	}
	return "exchanges: {venue: {hosts: [api.venue.example], http: \"" + byKind["http"].URL() + "\", websocket: \"" + byKind["websocket"].URL() + "\"}}\n", byKind
}

// went tells which of the fakes was asked since the last call, one connection in all.
func went(byKind map[string]*testkit.Proxy, before map[string]int) (name string) {
	for kind, p := range byKind {
		if n := len(p.Asked()); n > before[kind] {
			name += kind
			before[kind] = n
		}
	}
	return name
}

func TestTheKindChoosesTheWay(t *testing.T) {
	t.Parallel()
	yaml, byKind := twoKinds(t)
	p := start(t, "listen: [\"127.0.0.1:0\", {address: \"127.0.0.2:0\", kind: websocket}, {address: \"127.0.0.3:0\", kind: http}]\n"+yaml)
	before := map[string]int{}
	for _, tc := range []struct {
		listener int
		user     string
		want     string
	}{
		{0, "", "http"}, {0, "bot", "http"}, {0, "bot+websocket", "websocket"}, {0, "+websocket", "websocket"}, {0, "bot+http", "http"},
		{0, "bot+WEBSOCKET", "http"}, {0, "bot%2Bwebsocket", "websocket"}, {1, "", "websocket"}, {1, "bot+http", "websocket"}, {2, "bot+websocket", "http"},
	} {
		for _, protocol := range asking {
			if protocol == testkit.SOCKS4A && strings.Contains(tc.user, "%") {
				continue // its user id is no part of a URL
			}
			_, reply := testkit.Open(t, p.Addrs[tc.listener], testkit.Ask{Protocol: protocol, Target: "api.venue.example:443", User: tc.user, Password: "x"})
			if !reply.OK {
				t.Fatalf("%s: %v", protocol, reply)
			}
			if got := went(byKind, before); got != tc.want {
				t.Errorf("listener %d, %s, user %q: went %q, want %s", tc.listener, protocol, tc.user, got, tc.want)
			}
		}
	}
	if p.waitLine(`"msg":"tunnel open"`, `"user":"bot"`, `"kind":"websocket"`) == "" {
		t.Errorf("the suffix is not cut off the label:\n%s", p.Log)
	}
}

// One exit for a bot: all that enters at a listener with use leaves there, but
// for what a route rejects.
func TestTheListenersUse(t *testing.T) {
	t.Parallel()
	yaml, byKind := twoKinds(t)
	p := start(t, "listen: [\"127.0.0.1:0\", {address: \"127.0.0.2:0\", use: exit}, {address: \"127.0.0.3:0\", use: reject}]\n"+
		"pools: {exit: {proxies: [\""+byKind["other"].URL()+"\"]}}\n"+
		"routes: [{hosts: [\"*.bad.example\", 192.0.2.0/24], use: reject}, {hosts: [direct.example], use: direct}]\n"+yaml)
	before := map[string]int{}
	for _, protocol := range asking {
		for _, target := range []string{"api.venue.example:443", "unlisted.example:443", "direct.example:443", "203.0.113.7:443"} {
			if _, reply := testkit.Open(t, p.Addrs[1], testkit.Ask{Protocol: protocol, Target: target}); !reply.OK {
				t.Errorf("%s to %s: %v", protocol, target, reply)
			}
			if got := went(byKind, before); got != "other" {
				t.Errorf("%s to %s went %q", protocol, target, got)
			}
		}
	}
	for _, addr := range p.Addrs {
		p := *p
		p.Addr = addr
		refusedAlike(t, &p, "a.bad.example:443", denied, "")
		refusedAlike(t, &p, "192.0.2.9:443", denied, "")
	}
	rejecting := *p
	rejecting.Addr = p.Addrs[2]
	refusedAlike(t, &rejecting, "api.venue.example:443", denied, "")
	if got := went(byKind, before); got != "" {
		t.Errorf("a rejected target went %q", got)
	}
}

func TestWhoMayConnect(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	p := start(t, loopback+"listen: [{address: \"127.0.0.1:0\", allow: [10.0.0.0/8, \"fd00::/8\"]}, {address: \"127.0.0.2:0\", allow: [192.0.2.1/32, 127.0.0.0/8]}]\n")
	for _, protocol := range asking {
		_, reply := testkit.Open(t, p.Addrs[0], testkit.Ask{Protocol: protocol, Target: echo.Addr})
		switch {
		case protocol.HTTP():
			holds(t, protocol, reply, denied)
		case protocol == testkit.SOCKS5 && reply.Code != 0xff, protocol == testkit.SOCKS4A && reply.Code != 91:
			t.Errorf("%s: %v", protocol, reply)
		}
		if c, reply := testkit.Open(t, p.Addrs[1], testkit.Ask{Protocol: protocol, Target: echo.Addr}); reply.OK {
			echoes(t, c, 100)
		} else {
			t.Errorf("%s from an address on the list: %v", protocol, reply)
		}
	}
	if p.waitLine(`"msg":"refused"`, `"class":"denied"`, "127.0.0.1") == "" {
		t.Errorf("nothing in the log:\n%s", p.Log)
	}
}

func TestAListenerThatSpeaksTLS(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	ca := testkit.NewCA(t)
	cert, key := ca.Files(t, "127.0.0.1")
	p := start(t, loopback+"listen: [{address: \"127.0.0.1:0\", tls: {cert_file: \""+cert+"\", key_file: \""+key+"\"}}]\n")
	for request, success := range map[string]string{
		"CONNECT " + echo.Addr + " HTTP/1.1\r\n\r\n": granted[testkit.CONNECT11],
		"\x05\x01\x00": "\x05\x00",
	} {
		d := net.Dialer{Timeout: testkit.Patience}
		c, err := tls.DialWithDialer(&d, "tcp", p.Addr, &tls.Config{RootCAs: ca.Pool})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(testkit.Patience))
		if request[0] == 5 {
			_, _ = io.WriteString(c, request)
			got := make([]byte, 2)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != success {
				t.Fatalf("% x, %v", got, err)
			}
			a, _ := net.ResolveTCPAddr("tcp", echo.Addr)
			request, success = "\x05\x01\x00\x01"+string(a.IP.To4())+string([]byte{byte(a.Port >> 8), byte(a.Port)}), granted[testkit.SOCKS5]
		}
		sent := string(testkit.Pattern(100_000))
		go func() { // ends when all is sent, or c closed
			_, _ = io.WriteString(c, request+sent)
			_ = c.CloseWrite()
		}()
		if got, err := io.ReadAll(c); err != nil || string(got) != success+sent {
			t.Errorf("%d bytes and %v came back of %d", len(got), err, len(success)+len(sent))
		}
	}
	_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: echo.Addr})
	if reply.Status != 400 || !strings.Contains(reply.Body, "TLS") {
		t.Errorf("in clear: %v", reply)
	}
	if _, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS4, Target: echo.Addr}); reply.OK {
		t.Errorf("in clear: %v", reply)
	}
}

// enabled: false sends direct what would go through a proxy, and nothing that
// is rejected anywhere.
func TestEnabledFalseGoesDirectAndRejectsStay(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": echo.Addr}})
	p := start(t, loopback+"enabled: false\nlisten: [\"127.0.0.1:0\", {address: \"127.0.0.2:0\", use: \""+up.URL()+"\"}]\n"+
		"exchanges: {here: {hosts: [localhost], http: \""+up.URL()+"\"}, kraken: reject}\nroutes: [{hosts: [bad.example], use: reject}]\ndefault: reject\n")
	for _, protocol := range asking {
		for _, addr := range p.Addrs {
			c, reply := testkit.Open(t, addr, testkit.Ask{Protocol: protocol, Target: "localhost:" + testkit.Port(echo.Addr)})
			if !reply.OK {
				t.Fatalf("%s: %v", protocol, reply)
			}
			echoes(t, c, 100)
		}
	}
	for _, target := range []string{"api.kraken.com:443", "bad.example:443", "unlisted.example:443", echo.Addr} {
		refusedAlike(t, p, target, denied, "")
	}
	if n := up.Accepted(); n > 0 {
		t.Errorf("the proxy saw %d connections", n)
	}
	if p.waitLine(`"level":"warn"`, "enabled is false") == "" {
		t.Errorf("no warning:\n%s", p.Log)
	}
}

// Credentials without a scheme, or a tab behind it, must not be repeated as the "scheme".
func TestCredentialsAreNotTakenForAScheme(t *testing.T) {
	t.Parallel()
	plain := base64.StdEncoding.EncodeToString([]byte("lit:" + secret(9)))
	p := start(t, "listen: [{address: \"127.0.0.1:0\", auth: {users: [{name: lit, password: x}]}}]\n")
	for _, field := range []string{"Basic\t" + plain, plain, "lit:Zq7m99m7qZ"} {
		_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target, Header: "Proxy-Authorization: " + field + "\r\n"})
		noMark(t, field, reply.String())
	}
	p.stop()
	noMark(t, "the log", p.Log.String())
}

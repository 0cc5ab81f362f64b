package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// A mark stands in every password. Around it is what has to be escaped in a
// URL and in YAML; the mark itself looks the same there, so that to look for it
// is to look for every such form of the password.
const (
	markBefore = "Zq7m"
	markAfter  = "m7qZ"
)

// secret is the password number n.
func secret(n int) string { return fmt.Sprintf("a:/@ %s%02d%s", markBefore, n, markAfter) }

// escaped is the same in a URL.
func escaped(n int) string { return fmt.Sprintf("a%%3A%%2F%%40%%20%s%02d%s", markBefore, n, markAfter) }

// forms is every way in which a mark could show: as it is, in capitals or small
// letters, in hexadecimal, and inside of something in base64, which looks
// different for each of three places where the mark may begin.
var forms = func() (list []string) {
	for _, s := range []string{markBefore, markAfter} {
		list = append(list, strings.ToLower(s), hex.EncodeToString([]byte(s)), fmt.Sprintf("% x", s))
		for shift := range 3 {
			b := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + s))
			from, to := []int{0, 2, 3}[shift], len(strings.TrimRight(b, "="))
			if (shift+len(s))%3 != 0 {
				to-- // this letter depends on what follows
			}
			list = append(list, strings.ToLower(b[from:to]))
		}
	}
	return list
}()

// noMark holds that none of the marked passwords shows in a text.
func noMark(t *testing.T, where, text string) {
	t.Helper()
	low := strings.ToLower(text)
	for _, f := range forms {
		if i := strings.Index(low, f); i >= 0 {
			t.Errorf("%s: a password shows, as %q: …%q…", where, f, text[max(0, i-60):min(len(text), i+60)])
			return
		}
	}
}

func TestNoMarkFindsEveryForm(t *testing.T) {
	t.Parallel()
	for n := range 3 {
		for _, text := range []string{
			secret(n), escaped(n), "x" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("u", n)+":"+secret(n))), hex.EncodeToString([]byte(secret(n))),
			strings.ToUpper(secret(n)), base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("u", n) + secret(n))), fmt.Sprintf("% x", secret(n)),
		} {
			found := false
			for _, f := range forms {
				found = found || strings.Contains(strings.ToLower(text), f)
			}
			if !found {
				t.Errorf("not found in %q", text)
			}
		}
	}
}

// marked is a daemon all of whose passwords are marked, and what it talks to.
type marked struct {
	yaml     string
	environ  []string
	exchange *testkit.Exchange
}

const schemesWithPasswords = "http https socks5 socks5h"

// newMarked writes passwords in all the places and manners in which they can
// be written. Each scheme has an exchange whose upstream takes its password,
// one whose upstream does not, and one that is reached by way of another.
func newMarked(t *testing.T) marked {
	t.Helper()
	m := marked{exchange: testkit.NewExchange(t), environ: []string{"PW4=" + secret(4), "PW5=" + secret(5), "PROXYD_ADMIN__TOKEN=" + secret(6)}}
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret(7)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ca, dead := testkit.NewCA(t), testkit.ClosedPort(t)
	m.yaml = loopback + "log: {level: debug}\n" +
		"listen: [{address: \"127.0.0.1:0\", auth: {users: [{name: lit, password: \"" + secret(1) + "\"}, {name: env, password: \"${PW4}\"}, {name: file, password: \"${file:" + file + "}\"}]}}]\n" +
		"exchanges:\n"
	for i, scheme := range strings.Fields(schemesWithPasswords) {
		fake := func(password string) *testkit.Proxy {
			return testkit.NewProxy(t, testkit.ProxyOptions{
				Scheme: strings.TrimSuffix(scheme, "h"), User: "bob", Password: password, TLS: ca.Server(t, "127.0.0.1"),
				Hosts: map[string]string{"*": m.exchange.HTTP, "dead.example": dead},
			})
		}
		for kind, password := range map[string][2]string{
			"lit": {escaped(2), secret(2)}, "env": {"${PW5}", secret(5)}, "file": {"${file:" + file + "}", secret(7)}, "wrong": {escaped(3), "another"},
		} {
			way := fmt.Sprintf("url: \"%s://bob:%s@%s\", tls: {ca_file: %q}", scheme, password[0], fake(password[1]).Addr, ca.File)
			if scheme != "https" {
				way, _, _ = strings.Cut(way, ", tls")
			}
			id := kind + fmt.Sprint(i)
			m.yaml += fmt.Sprintf("  %s: {hosts: [%s.example], http: {%s}}\n", id, id, way)
			m.yaml += fmt.Sprintf("  via-%s: {hosts: [via-%s.example], http: {url: \"http://eve:%s@dead.example:1\", via: {%s}}}\n", id, id, escaped(8), way)
		}
	}
	return m
}

// Promise (security): passwords appear in no log line, answer, metric or page.
func TestPasswordsShowNowhereInADaemon(t *testing.T) {
	m := newMarked(t)
	p := start(t, m.yaml, m.environ...)
	seen := &strings.Builder{}
	for i := range strings.Fields(schemesWithPasswords) {
		for _, kind := range []string{"lit", "env", "file", "wrong", "via-lit", "via-wrong"} {
			host := kind + fmt.Sprint(i) + ".example"
			for _, user := range [][2]string{{"lit", secret(1)}, {"env", secret(4)}, {"file", secret(7)}} {
				for _, protocol := range []testkit.Protocol{testkit.CONNECT11, testkit.SOCKS5} {
					c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: protocol, Target: host + ":80", User: user[0], Password: user[1]})
					if want := kind == "lit" || kind == "env" || kind == "file"; reply.OK != want {
						t.Errorf("%s, %s: %v", host, protocol, reply)
					}
					fmt.Fprintln(seen, reply, reply.Head)
					_ = c.Close()
				}
				c := testkit.Dial(t, p.Addr)
				c.Send("GET http://" + host + "/headers HTTP/1.1\r\nHost: " + host + "\r\nProxy-Authorization: " + basicOf(user[0], user[1]) + "\r\n\r\n")
				reply := c.ReadHTTP("GET")
				fmt.Fprintln(seen, reply, reply.Head)
			}
		}
	}
	for _, s := range m.exchange.Requests() {
		fmt.Fprintln(seen, s.Header, s.Head, s.Target)
	}
	p.apply(t, m.yaml+"drain_seconds: 1\n")
	p.stop()
	noMark(t, "what clients and exchanges got", seen.String())
	noMark(t, "the log", p.Log.String())
	if !strings.Contains(p.Log.String(), `"level":"debug"`) || !strings.Contains(p.Log.String(), "upstream_auth") {
		t.Error("the log is not the one that was meant")
	}
}

func basicOf(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// Clients that have the password wrong, or say it in the wrong place.
func TestPasswordsOfConfusedClientsShowNowhere(t *testing.T) {
	t.Parallel()
	m := newMarked(t)
	for name, yaml := range map[string]string{"users": m.yaml, "no users": loopback + "log: {level: debug}\nexchanges: {binance: reject}\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, yaml, m.environ...)
			seen := &strings.Builder{}
			ask := func(text string) {
				c := testkit.Dial(t, p.Addr)
				c.Send(text)
				c.CloseWrite()
				got, _ := c.ReadAll()
				seen.WriteString(got)
			}
			for _, protocol := range asking {
				for _, user := range [][2]string{{"lit", secret(9)}, {"nobody", secret(9)}, {"lit+websocket", secret(9)}} {
					_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: protocol, Target: target, User: user[0], Password: user[1]})
					fmt.Fprintln(seen, reply, reply.Head)
				}
			}
			plain := base64.StdEncoding.EncodeToString([]byte("lit:" + secret(9)))
			for _, field := range []string{
				"Basic " + plain[1:], "Basic " + plain + "!", "Basic lit:" + secret(9), "Bearer " + secret(9), "Digest username=\"lit\", response=\"" + secret(9) + "\"",
				"Basic " + plain + "\r\nProxy-Authorization: Basic " + plain, "Basic " + plain + "\x00", secret(9),
			} {
				ask("CONNECT " + target + " HTTP/1.1\r\nProxy-Authorization: " + field + "\r\n\r\n")
				ask("GET http://api.binance.com/ HTTP/1.1\r\nHost: api.binance.com\r\nProxy-Authorization: " + field + "\r\n\r\n")
			}
			for _, line := range []string{
				"GET http://lit:" + escaped(9) + "@api.binance.com/ HTTP/1.1", "GET http://lit:" + secret(9) + "@api.binance.com/ HTTP/1.1",
				"CONNECT lit:" + escaped(9) + "@api.binance.com:443 HTTP/1.1", "CONNECT http://lit:" + escaped(9) + "@api.binance.com:443 HTTP/1.1",
				"GET /" + escaped(9) + " HTTP/1.1", "GET http://api.binance.com/?signature=" + escaped(9) + " HTTP/1.1",
				"GET https://lit:" + escaped(9) + "@api.binance.com/ HTTP/1.1", "GET ftp://lit:" + escaped(9) + "@api.binance.com/ HTTP/1.1",
			} {
				ask(line + "\r\nHost: api.binance.com\r\n\r\n")
			}
			ask("\x05\x01\x02\x01\x03lit\xff" + secret(9))
			ask("\x05\x01\x02\x05\x03lit\x05" + secret(9))
			ask("CONNECT " + target + " HTTP/1.1\r\nProxy-Authorization : " + basicOf("lit", secret(9)) + "\r\n\r\n")
			p.stop()
			noMark(t, "the answers", seen.String())
			noMark(t, "the log", p.Log.String())
		})
	}
}

// Upstreams that say our own password back to us.
func TestAnUpstreamThatRepeatsThePassword(t *testing.T) {
	t.Parallel()
	basic := strings.TrimPrefix(basicOf("bob", secret(2)), "Basic ")
	for name, f := range map[string]*testkit.Fault{
		"in a header and the body": testkit.On(testkit.AtRequest, testkit.Answer("407 No", secret(2), "Proxy-Authenticate: Basic realm=\""+basic+"\"", "X-Echo: "+secret(2))),
		"with its own request":     testkit.On(testkit.AtRequest, testkit.Say("CONNECT "+target+" HTTP/1.1\r\nProxy-Authorization: Basic "+basic+"\r\n\r\n")),
		"as garbage":               testkit.On(testkit.AtRequest, testkit.Say(basic+"\r\n"+secret(2)+"\r\n\r\n")),
	} {
		up := testkit.NewProxy(t, testkit.ProxyOptions{Fault: f})
		p := start(t, "log: {level: debug}\ndefault: \"http://bob:"+escaped(2)+"@"+up.Addr+"\"\n")
		for _, protocol := range asking {
			_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: protocol, Target: target})
			noMark(t, name, reply.String()+reply.Head)
		}
		p.stop()
		noMark(t, name+", the log", p.Log.String())
	}
}

package e2e

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"proxyd/internal/testkit"
)

// failing is a way out that fails.
type failing struct {
	name  string
	way   string // as the configuration writes it
	want  outcome
	words string // in the body of the HTTP answer
	// An HTTP upstream that has got a plain request answers it in the target's
	// stead: what it says is then the client's answer.
	tunnels bool
}

// Promise (data path): every failure is answered in the client's protocol with
// its class and who is to blame.
func TestEveryFailureInEveryProtocol(t *testing.T) {
	t.Parallel()
	for _, f := range failures(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "exchanges: {binance: {http: "+f.way+"}}\n")
			if f.tunnels {
				refusedInTunnels(t, p, target, f.want, f.words)
			} else {
				refusedAlike(t, p, target, f.want, f.words)
			}
			if line := p.waitLine(`"msg":"refused"`, `"class":"`+f.want.class+`"`, `"host":"api.binance.com"`); line == "" {
				t.Errorf("no line in the log says so:\n%s", p.Log)
			}
			if strings.Contains(p.Log.String(), marker) {
				t.Error("the upstream's body stands in the log")
			}
		})
	}
}

// failures is every kind of failure of a way out.
func failures(t *testing.T) []failing {
	t.Helper()
	var list []failing
	add := func(name, url string, want outcome, words string, more ...string) {
		tunnels := strings.HasPrefix(url, "http://") && (want == slowTarget || strings.HasSuffix(name, "HTTP/9.9"))
		list = append(list, failing{name, fmt.Sprintf("{url: %q, %s%s}", url, want.budget(), strings.Join(more, "")), want, words, tunnels})
	}
	closed, silent, hole := testkit.ClosedPort(t), testkit.SilentListener(t), testkit.BlackHole(t)
	for _, scheme := range []string{"http", "https", "socks4a", "socks5", "socks5h"} {
		add(scheme+" refuses", scheme+"://"+closed, refused, "")
		add(scheme+" is a black hole", scheme+"://"+hole, slowUpstream, "timeout_seconds")
		add(scheme+" has no such name", scheme+"://px.onion:1080", noName, "px.onion")
		add(scheme+" has no route", scheme+"://224.0.0.1:1080", unreachable, "")
		silence := slowTarget // the request went out with the first segment
		if scheme == "https" || strings.HasPrefix(scheme, "socks5") {
			silence = slowUpstream
		}
		add(scheme+" accepts and is silent", scheme+"://"+silent, silence, "silent")
	}
	fake := func(scheme string, f *testkit.Fault) string {
		return testkit.NewProxy(t, testkit.ProxyOptions{Scheme: scheme, Fault: f}).URL()
	}
	for _, scheme := range []string{"http", "socks4a", "socks5"} {
		for name, f := range map[string]*testkit.Fault{
			"ends at once":                    testkit.On(testkit.AtAccept, testkit.Close),
			"resets at once":                  testkit.On(testkit.AtAccept, testkit.ResetAfter(0)),
			"ends at the request":             testkit.On(testkit.AtRequest, testkit.Close),
			"resets at the request":           testkit.On(testkit.AtRequest, testkit.ResetAfter(0)),
			"has an SSH banner":               testkit.On(testkit.AtAccept, testkit.Say("SSH-2.0-OpenSSH_9.2\r\n")),
			"sends HTML":                      testkit.On(testkit.AtRequest, testkit.Say("<html>"+marker)),
			"speaks HTTP/9.9":                 testkit.On(testkit.AtRequest, testkit.Say("HTTP/9.9 200 OK\r\n\r\n"+marker)),
			"sends zeros":                     testkit.On(testkit.AtRequest, testkit.Say(strings.Repeat("\xfe", 64))),
			"is a mail server, then is quiet": testkit.On(testkit.AtAccept, testkit.SayAndHang("220 mail.example ESMTP\r\n")),
		} {
			add(scheme+" "+name, fake(scheme, f), garbage, "")
		}
		add(scheme+" hangs at the request", fake(scheme, testkit.On(testkit.AtRequest, testkit.Hang)), slowTarget, "")
	}
	add("socks5 hangs at the greeting", fake("socks5", testkit.On(testkit.AtGreeting, testkit.Hang)), slowUpstream, "greeting")
	list = append(list, httpFailures(t, fake)...)
	list = append(list, socksFailures(fake)...)
	list = append(list, tlsFailures(t)...)
	return list
}

func httpFailures(t *testing.T, fake func(string, *testkit.Fault) string) []failing {
	t.Helper()
	say := func(text string) *testkit.Fault { return testkit.On(testkit.AtRequest, testkit.Say(text)) }
	answer := func(status string, header ...string) *testkit.Fault {
		return testkit.On(testkit.AtRequest, testkit.Answer(status, marker, append(header, "Set-Cookie: a="+marker)...))
	}
	var list []failing
	add := func(name string, f *testkit.Fault, want outcome, words string) {
		list = append(list, failing{"http " + name, fmt.Sprintf("{url: %q, %s}", fake("http", f), want.budget()), want, words, !strings.HasPrefix(name, "answers 407")})
	}
	add("answers 402", answer("402 Pay Up"), saysNo, "402 Pay Up")
	add("answers 403", answer("403 Forbidden"), saysNo, "403 Forbidden")
	add("answers 405", answer("405 Method Not Allowed"), saysNo, "405")
	add("answers 429", answer("429 Too Many", "Retry-After: 30"), saysNo, "429")
	add("answers 503 with Retry-After", answer("503 Busy", "Retry-After: 30"), saysNo, "503")
	add("answers 407 Basic", answer("407 Auth", `Proxy-Authenticate: Basic realm="`+marker+`"`), badAuth, "URL")
	add("answers 407 Negotiate", answer("407 Auth", "Proxy-Authenticate: Negotiate", "Proxy-Authenticate: NTLM"), badAuth, "NTLM")
	for _, s := range []string{"500 Unable to connect", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"} {
		add("answers "+s[:3], answer(s), targetAway, s)
	}
	add("has an odd reason", answer("403 \x1b[31mred\x00\xff"), saysNo, "403")
	add("says HTTP/1.1 2000", say("HTTP/1.1 2000 OK\r\n\r\n"), garbage, "")
	add("says ICY 200", say("ICY 200 OK\r\n\r\n"), garbage, "")
	add("ends after half a head", say("HTTP/1.1 200 OK\r\nX-A: b"), garbage, "")
	add("has a NUL in its head", say("HTTP/1.1 200 OK\r\nX-A: \x00\r\n\r\n"), garbage, "")
	add("answers 101", say("HTTP/1.1 101 Switching Protocols\r\n\r\n"), garbage, "")
	add("stops in its head", testkit.On(testkit.AtRequest, testkit.SayAndHang("HTTP/1.1 200 OK\r\n")), slowTarget, "")
	add("drips", testkit.On(testkit.AtRequest, testkit.Drip("HTTP/1.1 200 OK\r\n\r\n", 200*time.Millisecond)), slowTarget, "")
	add("has an endless head", testkit.On(testkit.AtRequest, testkit.Endless("HTTP/1.1 200 OK\r\n", "X-Filler: "+strings.Repeat("x", 100)+"\r\n")), garbage, "16 KiB")
	add("has an endless line", testkit.On(testkit.AtRequest, testkit.Endless("HTTP/1.1 200 OK", "xxxxxxxxxxxxxxxxxxxxxx")), garbage, "")
	add("sends 1xx without end", testkit.On(testkit.AtRequest, testkit.Endless("", "HTTP/1.1 103 Early Hints\r\n\r\n")), garbage, "interim")
	return list
}

func socksFailures(fake func(string, *testkit.Fault) string) []failing {
	var list []failing
	add := func(scheme, name string, f *testkit.Fault, want outcome, words string) {
		list = append(list, failing{scheme + " " + name, fmt.Sprintf("{url: %q, %s}", fake(scheme, f), want.budget()), want, words, false})
	}
	for code, want := range map[byte]outcome{
		1: targetAway, 2: saysNo, 3: targetAway, 4: targetAway, 5: targetRefused, 6: slowTarget, 7: saysNo, 8: saysNo, 99: garbage,
	} {
		add("socks5", fmt.Sprintf("replies %d", code), testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(code)), want, "")
	}
	at := func(s testkit.Stage, text string) *testkit.Fault { return testkit.On(s, testkit.Say(text)) }
	add("socks5", "wants a password", at(testkit.AtGreeting, "\x05\x02"), badAuth, "URL")
	add("socks5", "takes no method", at(testkit.AtGreeting, "\x05\xff"), badAuth, "")
	add("socks5", "wants GSSAPI", at(testkit.AtGreeting, "\x05\x01"), garbage, "")
	add("socks5", "has a reply of no kind", at(testkit.AtRequest, "\x05\x00\x00\x07\x00\x00\x00\x00\x00\x00"), garbage, "")
	add("socks5", "ends in its reply", at(testkit.AtRequest, "\x05\x00\x00\x01\x00"), garbage, "")
	add("socks5", "is an HTTP proxy", at(testkit.AtGreeting, "HTTP/1.1 400 Bad Request\r\n\r\n"), garbage, "http://")
	add("socks4a", "replies 91", testkit.On(testkit.AtRequest, testkit.SOCKS4Reply(91)), targetAway, "")
	add("socks4a", "replies 92", testkit.On(testkit.AtRequest, testkit.SOCKS4Reply(92)), badAuth, "")
	add("socks4a", "replies 93", testkit.On(testkit.AtRequest, testkit.SOCKS4Reply(93)), badAuth, "")
	add("socks4a", "replies 7", testkit.On(testkit.AtRequest, testkit.SOCKS4Reply(7)), garbage, "")
	return list
}

func tlsFailures(t *testing.T) []failing {
	t.Helper()
	ca, other := testkit.NewCA(t), testkit.NewCA(t)
	old := ca.Server(t, "127.0.0.1")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS10
	wantsCert := ca.Server(t, "127.0.0.1")
	wantsCert.ClientAuth, wantsCert.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
	var list []failing
	for name, conf := range map[string]*tls.Config{
		"has an unknown issuer":        other.Server(t, "127.0.0.1"),
		"has a certificate that ended": ca.ExpiredServer(t, "127.0.0.1"),
		"has another's certificate":    ca.Server(t, "px.example"),
		"speaks TLS 1.0":               old,
		"wants a certificate of us":    wantsCert,
	} {
		p := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "https", TLS: conf})
		list = append(list, failing{"https " + name, fmt.Sprintf("{url: %q, %s, tls: {ca_file: %q}}", p.URL(), badTLS.budget(), ca.File), badTLS, "", false})
	}
	p := testkit.NewProxy(t, testkit.ProxyOptions{Fault: testkit.On(testkit.AtAccept, testkit.Say("HTTP/1.1 400 Bad Request\r\n\r\n"))})
	list = append(list, failing{"https is plain http", fmt.Sprintf("{url: \"https://%s\", %s}", p.Addr, badTLS.budget()), badTLS, "", false})
	return list
}

// What a client and the log are told names the true cause, where an upstream or
// its certificate gives one.
func TestAnswersNameTheUpstreamsReason(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	expired := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "https", TLS: ca.ExpiredServer(t, "127.0.0.1")}).URL()
	stranger := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "https", TLS: testkit.NewCA(t).Server(t, "127.0.0.1")}).URL()
	quota := testkit.NewProxy(t, testkit.ProxyOptions{Fault: testkit.On(testkit.AtRequest, testkit.Answer("403 Forbidden", "quota exceeded"))}).URL()
	tls := fmt.Sprintf("tls: {ca_file: %q}", ca.File)
	p := start(t, fmt.Sprintf("exchanges:\n  binance: {url: %q, %s}\n  kraken: {url: %q, %s}\n  okx: {url: %q}\n  bybit: {url: \"http://px.example:1\", via: {url: %q, %s}}\n",
		expired, tls, stranger, tls, quota, expired, tls))
	for target, want := range map[string]struct{ status, text string }{
		"api.binance.com:443": {"error=tls_certificate_error", "has a certificate that is not valid now"},
		"api.kraken.com:443":  {"error=tls_certificate_error", "an authority that this machine does not trust"},
		"www.okx.com:443":     {"error=http_request_denied", "answered 403 Forbidden (quota exceeded) to CONNECT www.okx.com:443"},
		"api.bybit.com:443":   {"error=tls_certificate_error", "has a certificate that is not valid now"},
	} {
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
		_ = c.Close()
		if !strings.Contains(reply.Header.Get("Proxy-Status"), want.status) || !strings.Contains(reply.Body, want.text) {
			t.Errorf("%s: %v\nwant %+v", target, reply, want)
		}
		p.waitLine("refused", want.text)
	}
}

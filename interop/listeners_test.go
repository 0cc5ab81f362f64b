//go:build interop

package interop

import (
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

func (w *world) poolsAndChains(t *testing.T) {
	ok := []byte("ok")
	for _, c := range []struct {
		name, host string
		through    string // whose log has it
	}{
		{"a dead member first", "failing-over.test", "tinyproxy"},
		{"microsocks through dante", "through-dante.test", "microsocks"},
	} {
		run(t, "curl, CONNECT → "+c.name, func(t *testing.T) {
			w.curl(t, "-x", "http://"+open, "https://"+c.host+"/").arrived(t, ok)
			u := w.upstream(c.through)
			testkit.Eventually(t, testkit.Patience, u.name+"'s log has it", func() bool { return u.count(u.carried, c.host) > 0 })
		})
	}
	run(t, "curl, CONNECT → through squid, which allows port 443 alone", func(t *testing.T) {
		w.tunnelRefused(t, "through-squid.test", "upstream_denied", "403", "443")
	})
}

// listeners: what a client sees that is not let in, or speaks another protocol.
func (w *world) listeners(t *testing.T) {
	target, name := "https://api.binance.com/", "api.binance.com"
	wrong := []string{"--proxy-user", "bot:guess-Password-8"}
	ca := []string{"--proxy-cacert", w.exchange.CA.File}
	for _, c := range []struct {
		name  string
		args  []string
		code  int
		words []string
	}{
		{"CONNECT without a user", []string{"-v", "-x", "http://" + withAuth, target}, 56, []string{"CONNECT tunnel failed, response 407", "407 proxyd: auth: ", "< Proxy-Authenticate: Basic"}},
		{"CONNECT with a wrong password", append([]string{"-v", "-x", "http://" + withAuth, target}, wrong...), 56, []string{"CONNECT tunnel failed, response 407", "407 proxyd: auth: "}},
		{"CONNECT with --proxy-anyauth and a wrong password", append([]string{"-v", "--proxy-anyauth", "-x", "http://" + withAuth, target}, wrong...), 56, []string{"CONNECT tunnel failed, response 407"}},
		{"plain HTTP with a wrong password", append([]string{"-i", "--fail-with-body", "-x", "http://" + withAuth, "http://" + name + "/"}, wrong...), 22, []string{"407 proxyd: auth: ", "class=auth"}},
		{"socks5-hostname without a user", []string{"--socks5-hostname", withAuth, target}, 97, []string{"No authentication method was acceptable"}},
		{"socks5-hostname with a wrong password", append([]string{"--socks5-hostname", withAuth, target}, wrong...), 97, []string{"User was rejected by the SOCKS5 server"}},
		{"socks4a where a password is wanted", []string{"--socks4a", withAuth, target}, 97, []string{"SOCKS4", "91"}},
		{"socks5 with an address", []string{"--socks5", open, target}, 97, []string{"(2)"}},
		{"socks4 with an address", []string{"--socks4", open, target}, 97, []string{"91"}},
		{"CONNECT to an address", []string{"-v", "-x", "http://" + open, "https://127.0.0.1/"}, 56, []string{"403 proxyd: denied: ", "no CIDR under routes"}},
		{"a host that nothing lists", []string{"-v", "-x", "http://" + open, "https://unlisted.test/"}, 56, []string{"403 proxyd: denied: "}},
		{"port 25", []string{"-v", "-x", "http://" + open, "https://" + name + ":25/"}, 56, []string{"403 proxyd: denied: "}},
		{"TLS to a listener without", append([]string{"-x", "https://" + open, target}, ca...), 35, nil},
		{"no TLS to a listener with", []string{"-v", "-x", "http://" + withTLS, target}, 56, nil},
		{"TLS listener, unknown CA", []string{"-x", "https://" + withTLS, "--proxy-cacert", "/dev/null", target}, 77, nil},
		{"a request for proxyd itself", []string{"-i", "--fail-with-body", "http://" + open + "/"}, 22, []string{"proxyd: bad_request: "}},
	} {
		run(t, "curl, "+c.name, func(t *testing.T) {
			seen := w.exchange.Accepted()
			a := w.curl(t, c.args...)
			a.says(t, c.code, c.words...)
			if w.exchange.Accepted() != seen {
				t.Error("the exchange was reached")
			}
			t.Logf("%s", a.words)
		})
	}
	// These say yes.
	run(t, "curl, --proxy-anyauth with the right password", func(t *testing.T) {
		w.curl(t, "--proxy-anyauth", "--proxy-user", "bot:"+clientPassword, "-x", "http://"+withAuth, target).arrived(t, []byte("ok"))
	})
	micro := w.upstream("microsocks")
	for _, m := range []string{"--socks5", "--socks4"} {
		run(t, "curl, "+m+" with an address, at a listener with one outbound", func(t *testing.T) {
			before := micro.count(micro.carried, liveAddr)
			w.curl(t, m, oneExit, target).arrived(t, []byte("ok"))
			testkit.Eventually(t, testkit.Patience, "microsocks' log has it", func() bool { return micro.count(micro.carried, liveAddr) > before })
		})
	}
}

// secrets: no password of all this has got into proxyd's log.
func (w *world) secrets(t *testing.T) {
	run(t, "no password in proxyd's log", func(t *testing.T) {
		log := w.proxyd.String()
		for _, secret := range []string{plainPassword, strangePassword, "p%40ss", clientPassword, "wrong-Password-9", "guess-Password-8"} {
			if strings.Contains(log, secret) {
				t.Errorf("%q is in the log", secret)
			}
		}
		if !strings.Contains(log, `"msg":"tunnel"`) || !strings.Contains(log, `"msg":"refused"`) {
			t.Error("the log has no tunnel, or no refusal")
		}
	})
}

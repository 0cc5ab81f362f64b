//go:build interop

package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"proxyd/internal/testkit"
)

// A mode is a manner of pointing curl at proxyd.
type mode struct {
	name string
	args []string
}

func (w *world) modes() []mode {
	right := []string{"--proxy-user", "bot:" + clientPassword}
	return []mode{
		{"CONNECT", []string{"-x", "http://" + open}},
		{"proxytunnel", []string{"--proxytunnel", "-x", open}},
		{"CONNECT 1.0", []string{"--proxy1.0", open}},
		{"socks5-hostname", []string{"--socks5-hostname", open}},
		{"socks5h", []string{"-x", "socks5h://" + open}},
		{"socks4a", []string{"--socks4a", open}},
		{"CONNECT in TLS", []string{"-x", "https://" + withTLS, "--proxy-cacert", w.exchange.CA.File}},
		{"CONNECT with user", append([]string{"-x", "http://" + withAuth}, right...)},
		{"socks5-hostname with user", append([]string{"--socks5-hostname", withAuth}, right...)},
	}
}

// carried: every client through every upstream. The bytes arrive, and the
// upstream's own log has the connection, and no other's.
func (w *world) carried(t *testing.T) {
	large, body := testkit.Pattern(size), pattern(t)
	for _, u := range w.upstreams {
		for _, m := range w.modes() {
			w.through(t, u, "curl, "+m.name, u.carried, u.rest, func(t *testing.T) {
				w.curl(t, append(m.args, "https://"+u.rest+"/large?bytes="+number(size))...).arrived(t, large)
			})
		}
		w.through(t, u, "curl, CONNECT, upload", u.carried, u.rest, func(t *testing.T) {
			w.curl(t, "-x", "http://"+open, "--data-binary", "@"+body, "https://"+u.rest+"/echo").arrived(t, large)
		})
		plain := u.plain
		if plain == "" {
			plain = u.carried
		}
		w.through(t, u, "curl, plain HTTP", plain, u.rest, func(t *testing.T) {
			w.curl(t, "-x", "http://"+open, "http://"+u.rest+"/large?bytes="+number(size)).arrived(t, large)
		})
		w.through(t, u, "curl, plain HTTP, upload", "", u.rest, func(t *testing.T) {
			w.curl(t, "-x", "http://"+open, "--data-binary", "@"+body, "http://"+u.rest+"/echo").arrived(t, large)
		})
		w.through(t, u, "websocket client, wss", u.carried, u.ws, func(t *testing.T) { w.echoes(t, "wss://"+u.ws+"/echo", large) })
		if u.http {
			w.deniesPort80(t, u)
			continue
		}
		w.through(t, u, "curl, proxytunnel to port 80", u.carried, u.rest, func(t *testing.T) {
			w.curl(t, "--proxytunnel", "-x", "http://"+open, "http://"+u.rest+"/large?bytes="+number(size)).arrived(t, large)
		})
	}
}

// through is a case; the bytes went through u if its log says more than before
// of host, and only its own.
func (w *world) through(t *testing.T, u *upstream, name, pattern, host string, do func(t *testing.T)) {
	run(t, name+" → "+u.name, func(t *testing.T) {
		before, seen := u.count(pattern, host), len(w.exchange.Requests())
		do(t)
		if t.Failed() {
			return
		}
		if len(w.exchange.Requests()) != seen+1 {
			t.Errorf("the exchange has seen %d requests, want 1", len(w.exchange.Requests())-seen)
		}
		if pattern != "" { // "": over a kept connection, which a log need not mention
			testkit.Eventually(t, testkit.Patience, u.name+"'s log has a connection more to "+host, func() bool { return u.count(pattern, host) > before })
		}
		for _, other := range w.upstreams {
			if other.process != u.process && other.count("HOST", host) > 0 {
				t.Errorf("%s's log mentions %s too", other.name, host)
			}
		}
	})
}

// deniesPort80: both HTTP proxies are set up to let CONNECT reach port 443
// alone, as squid is by its stock rules.
func (w *world) deniesPort80(t *testing.T, u *upstream) {
	run(t, "curl, proxytunnel to port 80 → "+u.name+": denied", func(t *testing.T) {
		a := w.curl(t, "-v", "--proxytunnel", "-x", "http://"+open, "http://"+u.rest+"/")
		a.says(t, 56, "proxyd: upstream_denied", "403", "class=upstream_denied", "upstream="+u.name, "CONNECT tunnel failed, response 502")

		// curl throws the body of the answer to a CONNECT away.
		_, r := testkit.Open(t, open, testkit.Ask{Protocol: testkit.CONNECT11, Target: u.rest + ":80"})
		if !strings.Contains(r.Body, "443") {
			t.Errorf("the body has no hint that such proxies allow port 443 alone: %q", r.Body)
		}
	})
}

func (w *world) echoes(t *testing.T, address string, want []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: open}),
		TLSClientConfig: &tls.Config{RootCAs: w.exchange.CA.Pool},
	}}
	c, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(size * 2)
	for range 3 {
		if err := c.Write(ctx, websocket.MessageBinary, want); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(ctx); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came back (%v), want %d", len(got), err, len(want))
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("closing: %v", err)
	}
}

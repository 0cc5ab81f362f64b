package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// withAdmin starts a daemon whose configuration has its admin server at a free
// port, and returns that port.
func withAdmin(t *testing.T, yaml string, environ ...string) (p *proxyd, port string) {
	t.Helper()
	p = start(t, yaml, environ...)
	var line struct{ Address string }
	if err := json.Unmarshal([]byte(p.waitLine(`"msg":"admin"`)), &line); err != nil {
		t.Fatalf("%v\n%s", err, p.Log)
	}
	return p, testkit.Port(line.Address)
}

// upstreamsHere are upstreams of every kind on this machine, each as an outbound.
func upstreamsHere(t *testing.T) (map[string]string, []*testkit.Proxy) {
	t.Helper()
	all := map[string]string{}
	var proxies []*testkit.Proxy
	for _, scheme := range []string{"http", "socks5", "socks4a", "socks4"} {
		up := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: scheme})
		all[scheme] = fmt.Sprintf("%q", up.URL())
		proxies = append(proxies, up)
	}
	first, last := testkit.NewProxy(t, testkit.ProxyOptions{}), testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5"})
	proxies = append(proxies, last)
	all["by localhost"] = strings.ReplaceAll(all["http"], "127.0.0.1", "localhost")
	all["a chain"] = fmt.Sprintf("{url: %q, via: %q}", last.URL(), first.URL())
	all["direct, then a proxy"] = fmt.Sprintf("{url: %q, via: \"direct://127.0.0.1\"}", last.URL())
	return all, proxies
}

// Promise (security): through an upstream on this machine no client reaches what
// only this machine reaches, unless allow_private or a route names it; proxyd's
// own addresses and clouds' metadata services it never reaches.
func TestUpstreamHereDoesNotReachThisMachine(t *testing.T) {
	t.Parallel()
	ways, proxies := upstreamsHere(t)
	echo := testkit.NewTCP(t, testkit.Echo)
	port := testkit.Port(echo.Addr)
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "default: "+way+"\n")
			for _, host := range []string{"127.0.0.1", "127.9.9.9", "localhost", "LocalHost.", "a.localhost", "localhost.localdomain"} {
				refusedAlike(t, p, host+":"+port, denied, "which is not reached through a proxy on this machine")
			}
			for _, host := range []string{"[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "0.1.2.3", "[::]", "169.254.1.1", "[fe80::1]", "[64:ff9b::7f00:1]", "[::127.0.0.1]"} {
				_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: host + ":" + port})
				holds(t, testkit.CONNECT11, reply, denied)
			}
		})
	}
	t.Cleanup(func() { // after the parallel ones
		for _, up := range proxies {
			if asked := up.Asked(); len(asked) > 0 {
				t.Errorf("an upstream was asked: %+v", asked)
			}
		}
	})
}

// The line that the refusal prints lets the target through, and so does a route
// that names it.
func TestUpstreamHereReachesWhatIsAllowed(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"localhost": echo.Addr}})
	for _, host := range []string{"127.0.0.1", "localhost"} {
		target := host + ":" + testkit.Port(echo.Addr)
		p := start(t, "default: "+up.URL()+"\n")
		_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
		_, line, _ := strings.Cut(reply.Body, "or add ")
		if !strings.HasPrefix(line, "allow_private: [127.0.0.1/32") {
			t.Fatalf("%s: no line to add: %v", host, reply)
		}
		route := `routes: [{hosts: ["` + host + `"], use: "` + up.URL() + `"}]`
		for _, allowing := range []string{line, route} {
			p.apply(t, "default: "+up.URL()+"\n"+allowing+"\n")
			c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target})
			if !reply.OK {
				t.Errorf("%s with %s: %v", host, allowing, reply)
			}
			_ = c.Close()
		}
		p.apply(t, "default: "+up.URL()+"\nroutes: [{hosts: [\"*\"], use: \""+up.URL()+"\"}]\n")
		if _, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: target}); reply.OK {
			t.Errorf("%s: a route for everything names nothing", host)
		}
	}
}

// proxyd's own addresses are refused whatever the outbound and whatever is allowed.
func TestOwnAddressesAreReachedThroughNoOutbound(t *testing.T) {
	t.Parallel()
	ways, proxies := upstreamsHere(t)
	ways["direct"] = "direct"
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, port := withAdmin(t, "admin: 127.0.0.1:0\nallow_private: [0.0.0.0/0, \"::/0\"]\ndefault: "+way+
				"\nroutes: [{hosts: [localhost, \"*.localhost\", 0.0.0.0/0, \"::/0\"], use: "+way+"}]\n")
			for _, at := range []string{port, testkit.Port(p.Addr)} {
				for _, host := range []string{"127.0.0.1", "localhost"} {
					refusedAlike(t, p, host+":"+at, denied, "is proxyd itself")
				}
				hosts := []string{"[::ffff:127.0.0.1]", "0.0.0.0", "[64:ff9b::7f00:1]", "[::127.0.0.1]"}
				if name != "direct" { // there it is the address dialled that counts, and a.localhost may have none
					hosts = append(hosts, "a.localhost", "LOCALHOST.")
				}
				for _, host := range hosts {
					_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: host + ":" + at})
					holds(t, testkit.CONNECT11, reply, denied)
				}
			}
			for _, host := range []string{"169.254.169.254:80", "metadata.google.internal:80"} {
				refusedAlike(t, p, host, denied, "metadata service")
			}
		})
	}
	t.Cleanup(func() {
		for _, up := range proxies {
			if asked := up.Asked(); len(asked) > 0 {
				t.Errorf("an upstream was asked: %+v", asked)
			}
		}
	})
}

// Promise (security): with admin.local: token this machine needs the token too
// for all that does more than say how proxyd is.
func TestAdminLocalTokenAsksThisMachineForTheToken(t *testing.T) {
	t.Parallel()
	_, port := withAdmin(t, "admin: {address: \"127.0.0.1:0\", local: token, token: \"${TOKEN}\"}\ndefault: reject\n", "TOKEN=right")
	for _, tt := range []struct {
		method, path, token string
		want                int
	}{
		{"GET", "/healthz", "", 200},
		{"GET", "/readyz", "", 200},
		{"GET", "/metrics", "", 200},
		{"GET", "/", "", 401},
		{"GET", "/api/v1/status", "", 401},
		{"GET", "/api/v1/status", "wrong", 401},
		{"GET", "/api/v1/status", "right", 200},
		{"POST", "/-/reload?dry_run=1", "", 401},
		{"POST", "/-/reload?dry_run=1", "right", 200},
		{"GET", "/nowhere", "", 401},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://127.0.0.1:"+port+tt.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Proxyd", "1")
		if tt.token != "" {
			req.Header.Set("Authorization", "Bearer "+tt.token)
		}
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s %s with token %q: %d, want %d", tt.method, tt.path, tt.token, resp.StatusCode, tt.want)
		}
	}
}

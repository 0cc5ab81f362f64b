package upstream

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// get sends one plain request for a client and reads its answer.
func get(t testing.TB, p *Pool, client uint16) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://rest.example/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	to := Target{Host: "rest.example", Port: 80, Client: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), client)}
	resp, _, err := p.RoundTrip(req, to, testkit.Patience)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

// answering is a web server that keeps its connections.
func answering(t testing.TB) *testkit.TCP {
	t.Helper()
	return testkit.NewTCP(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
}

// Which reloads leave the connections of plain HTTP as they are.
func TestReloadKeepsConnections(t *testing.T) {
	server := answering(t)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": server.Addr}})
	other := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": server.Addr}})
	const head = "pools:\n  p:\n    proxies: "
	text := head + `[{name: a, url: "` + strings.Replace(proxy.URL(), "//", "//u:one@", 1) + `"}]` + "\ndefault: p\n"
	tests := []struct {
		name, next string
		kept       bool
	}{
		{"nothing", text, true},
		{"weight, tier, strategy", strings.Replace(text, "name: a,", "name: a, weight: 5, tier: 3,", 1) + "drain_seconds: 3\n", true},
		{"a name", strings.Replace(text, "name: a,", "name: b,", 1), true},
		{"another member", strings.Replace(text, "}]", `}, {name: z, url: "`+other.URL()+`", tier: 9}]`, 1), true},
		{"a password", strings.Replace(text, "u:one@", "u:two@", 1), false},
		{"a user", strings.Replace(text, "u:one@", "v:one@", 1), false},
		{"out of use", strings.Replace(text, "name: a,", "name: a, enabled: false,", 1) + "routes: [{hosts: [x.example], use: direct}]\n", false},
		{"gone", head + `[{name: z, url: "` + other.URL() + `"}]` + "\ndefault: p\n", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			testkit.Eventually(t, testkit.Patience, "the connections of the case before are closed", func() bool { return server.Open() == 0 })
			old := load(t, text, nil)
			t.Cleanup(old.Close)
			get(t, only(t, old), 1)
			before := proxy.Accepted()
			next := reload(t, old, tt.next, nil)
			if n := server.Open(); n != 1 {
				t.Fatalf("%d connections before the new set is in force", n)
			}
			next.Activate()
			if !tt.kept {
				testkit.Eventually(t, testkit.Patience, "the connection is closed", func() bool { return server.Open() == 0 })
				return
			}
			get(t, only(t, next), 1)
			if n := proxy.Accepted() - before; n != 0 {
				t.Errorf("%d new connections", n)
			}
			get(t, only(t, next), 2)
			if n := proxy.Accepted() - before; n != 1 {
				t.Errorf("another client made %d new connections, want its own", n)
			}
		})
	}
}

// A connection that is in use while the reload comes is not kept afterwards.
func TestReloadDuringARequest(t *testing.T) {
	server := answering(t)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": server.Addr}})
	text := "default: " + strings.Replace(proxy.URL(), "//", "//u:one@", 1) + "\n"
	old := load(t, text, nil)
	t.Cleanup(old.Close)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://rest.example/x", nil)
	resp, _, err := only(t, old).RoundTrip(req, Target{Host: "rest.example", Port: 80}, testkit.Patience)
	if err != nil {
		t.Fatal(err)
	}
	reload(t, old, strings.Replace(text, "u:one@", "u:two@", 1), nil).Activate()
	if server.Open() != 1 {
		t.Error("it was closed while in use")
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	testkit.Eventually(t, testkit.Patience, "it is closed after the answer", func() bool { return server.Open() == 0 })
}

// Idle connections give up their descriptors where some are missing.
func TestCloseIdleClosesIdleConnections(t *testing.T) {
	server := answering(t)
	proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": server.Addr}})
	set := load(t, "default: "+proxy.URL()+"\n", nil)
	t.Cleanup(set.Close)
	if set.CloseIdle() {
		t.Error("connections were closed, and there are none")
	}
	get(t, only(t, set), 1)
	testkit.Eventually(t, testkit.Patience, "the idle connection to be closed", set.CloseIdle)
	testkit.Eventually(t, testkit.Patience, "its end to arrive", func() bool { return server.Open() == 0 })
}

// A set knows which upstreams it has, by identity; and finds them by name.
func TestSetHasUpstream(t *testing.T) {
	text := func(list string) string { return "pools: {p: {proxies: [" + list + "]}}\ndefault: p\n" }
	old := load(t, text(`{name: a, url: "socks5://u:x@one.example:1"}, {name: b, url: "socks5://two.example:1"}`), nil)
	next := reload(t, old, text(`{name: c, url: "socks5://u:y@one.example:1", enabled: false}, {name: b, url: "http://two.example:1"}`), nil)
	if a := old.Upstream("a"); !next.Has(a) || !old.Has(next.Upstream("c")) || next.Upstream("c").state != a.state {
		t.Error("another name and password made another upstream")
	}
	if next.Has(old.Upstream("b")) || next.Upstream("b").state == old.Upstream("b").state {
		t.Error("another scheme is the same upstream")
	}
	if next.Upstream("a") != nil || !next.Has(old.Upstream("direct")) {
		t.Error("names of the old set, or not the direct conn")
	}
}

// What was counted stays over reloads, and a build without publication changes nothing.
func TestReloadKeepsCounters(t *testing.T) {
	list := proxies(t, 1)
	old := load(t, poolOf(list, "failover"), nil)
	open(t, only(t, old), venue).Release()
	list[0].SetFault(testkit.On(testkit.AtAccept, testkit.Say("SSH-2.0-x\r\n")))
	denied(t, only(t, old), venue, testkit.Patience, failure.UpstreamProtocol)
	next := reload(t, old, poolOf(list, "failover", "weight: 3"), nil)
	denied(t, only(t, next), venue, testkit.Patience, failure.UpstreamProtocol)
	st := next.Upstream("a").state
	if n := st.connects.Load(); n != 1 || st.failuresByClass()[failure.UpstreamProtocol] != 2 {
		t.Errorf("%d connects, failures %v", n, st.failuresByClass())
	}
}

// An upstream has a new epoch when a hop before it has another password;
// while it is led to as before, its TLS sessions stay.
func TestConnEpochChanges(t *testing.T) {
	text := chained("https://u:one@far.example:443", `{name: h, url: "socks5://u:one@hop.example:1080"}`)
	s := load(t, text, nil)
	old := last(t, s).members[0].Upstream
	if u := last(t, reload(t, s, text, nil)).members[0].Upstream; u.epoch != old.epoch || u.client.TLS != old.client.TLS {
		t.Error("nothing has changed, and it is led to in another conn or without its sessions")
	}
	if u := last(t, reload(t, s, strings.Replace(text, "one@hop", "two@hop", 1), nil)).members[0].Upstream; u.epoch == old.epoch || u.client.TLS == old.client.TLS {
		t.Error("the hop has another password, and it is led to as before")
	}
}

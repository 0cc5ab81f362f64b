package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"proxyd/internal/testkit"
)

// hop is a fake in a chain. Others know it by name alone.
type hop struct {
	scheme, name string
	proxy        *testkit.Proxy
	ca           string
}

// url is how the configuration names it: the first by its address, since that
// is dialled from here, the others by a name that only the hop before knows.
func (h hop) url(first bool) string {
	host := h.name + ":1080"
	if first {
		host = h.proxy.Addr
	}
	tls := ""
	if h.scheme == "https" {
		tls = fmt.Sprintf(", tls: {ca_file: %q, server_name: %s}", h.ca, h.name)
	}
	password := ":${PW}"
	if h.scheme == "socks4a" { // it knows none
		password = ""
	}
	return fmt.Sprintf("url: \"%s://u-%s%s@%s\"%s", h.scheme, h.name, password, host, tls)
}

var chained = []string{"http", "https", "socks4a", "socks5"}

// hops starts a fake of each scheme; each leads the names to where they stand
// in hosts.
func hops(t *testing.T, ca *testkit.CA, place string, hosts map[string]string) map[string]hop {
	t.Helper()
	all := map[string]hop{}
	for _, scheme := range chained {
		name := place + "-" + scheme + ".example"
		all[scheme] = hop{scheme, name, testkit.NewProxy(t, testkit.ProxyOptions{
			Scheme: scheme, User: "u-" + name, Password: "pw", TLS: ca.Server(t, name), Hosts: hosts,
		}), ca.File}
	}
	for _, h := range all {
		hosts[h.name+":1080"] = h.proxy.Addr
	}
	return all
}

// Every hop is told the name of the next one, and only the last one that of
// the target.
func TestChainsOfEveryScheme(t *testing.T) {
	echo := testkit.NewTCP(t, testkit.Echo)
	ca := testkit.NewCA(t)
	hosts := map[string]string{}
	first, second, third := hops(t, ca, "first", hosts), hops(t, ca, "second", hosts), hops(t, ca, "third", hosts)
	chains, yaml := map[string][]hop{}, "exchanges:\n"
	add := func(list ...hop) {
		id := "c" + fmt.Sprint(len(chains))
		way := "{" + list[0].url(true) + "}"
		for _, h := range list[1:] {
			way = "{" + h.url(false) + ", via: " + way + "}"
		}
		host := id + ".venue.example"
		hosts[host+":443"] = echo.Addr
		yaml += "  " + id + ": {hosts: [" + host + "], http: " + way + "}\n"
		chains[host] = list
	}
	for _, a := range chained {
		for _, b := range chained {
			add(first[a], second[b])
			for _, c := range chained {
				add(first[a], second[b], third[c])
			}
		}
	}
	p := start(t, yaml, "PW=pw")
	for host, list := range chains {
		for _, protocol := range []testkit.Protocol{testkit.CONNECT11, testkit.SOCKS5} {
			c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: protocol, Target: host + ":443", Early: "early"})
			if !reply.OK {
				t.Fatalf("%v: %v\n%s", names(list), reply, p.Log)
			}
			c.Expect("early")
			echoes(t, c, 40_000)
		}
		for i, h := range list {
			next := host + ":443"
			if i+1 < len(list) {
				next = list[i+1].name + ":1080"
			}
			asked := h.proxy.Asked()
			last := asked[len(asked)-1]
			if got := net.JoinHostPort(last.Host, last.Port); got != next || last.User != "u-"+h.name {
				t.Errorf("%v: %s was asked for %s by %q, want %s", names(list), h.name, got, last.User, next)
			}
		}
	}
}

func names(list []hop) (all []string) {
	for _, h := range list {
		all = append(all, h.name)
	}
	return all
}

// Whose fault it is stays clear in a chain: what the first hop says of the
// second is the second's fault, and what the last says of the target the target's.
func TestTheHopAtFaultIsNamed(t *testing.T) {
	t.Parallel()
	exchange := testkit.NewTCP(t, testkit.Echo)
	on := testkit.On
	for name, tc := range map[string]struct {
		first, second *testkit.Fault
		scheme        string // of the first
		want          outcome
		words         string
	}{
		"first ends":                    {on(testkit.AtAccept, testkit.Close), nil, "http", garbage, "px1 "},
		"first is silent":               {on(testkit.AtAccept, testkit.Hang), nil, "socks5", slowUpstream, "px1 "},
		"first is silent on the second": {on(testkit.AtRequest, testkit.Hang), nil, "http", slowUpstream, "px1 "},
		"first wants a password":        {on(testkit.AtRequest, testkit.Answer("407 Who", "")), nil, "http", badAuth, "px1 "},
		"first forbids the second":      {on(testkit.AtRequest, testkit.Answer("403 No", "")), nil, "http", saysNo, "px1 "},
		"first finds no second":         {on(testkit.AtRequest, testkit.SOCKS5Reply(4)), nil, "socks5", unreachable, "px1 "},
		"second refuses the first":      {on(testkit.AtRequest, testkit.SOCKS5Reply(5)), nil, "socks5", refused, "px1 "},
		"second speaks garbage":         {nil, on(testkit.AtRequest, testkit.Say("SSH-2.0-x\r\n")), "http", garbage, "second.example:1080 "},
		"second wants a password":       {nil, on(testkit.AtGreeting, testkit.Say("\x05\x02")), "http", badAuth, "second.example:1080 "},
		"target refuses":                {nil, on(testkit.AtRequest, testkit.SOCKS5Reply(5)), "http", targetRefused, "second.example:1080 "},
		"target is silent":              {nil, on(testkit.AtRequest, testkit.Hang), "http", slowTarget, "second.example:1080 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			second := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": exchange.Addr}, Fault: tc.second})
			first := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: tc.scheme, Hosts: map[string]string{"second.example:1080": second.Addr}, Fault: tc.first})
			p := start(t, "pools: {corp: {proxies: [{name: px1, url: \""+first.URL()+"\"}]}}\n"+
				"exchanges: {binance: {http: {url: \"socks5://second.example:1080\", via: corp, "+tc.want.budget()+"}}}\n")
			refusedAlike(t, p, target, tc.want, tc.words)
		})
	}
	t.Run("first refuses", func(t *testing.T) {
		t.Parallel()
		p := start(t, "exchanges: {binance: {http: {url: \"http://second.example:1080\", via: \"http://"+testkit.ClosedPort(t)+"\"}}}\n")
		refusedAlike(t, p, target, refused, "via ")
	})
}

// The hop before may be a pool, whose members follow one another in the same
// budget as everything else.
func TestFailoverOfTheFirstHop(t *testing.T) {
	t.Parallel()
	exchange := testkit.NewTCP(t, testkit.Echo)
	second := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": exchange.Addr}})
	first := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"second.example:1080": second.Addr}})
	p := start(t, "attempt_seconds: 1\npools: {corp: {strategy: failover, proxies: [\"http://"+testkit.ClosedPort(t)+"\", \"socks5://"+testkit.SilentListener(t)+
		"\", \""+first.URL()+"\"]}}\nexchanges: {binance: {http: {url: \"socks5://second.example:1080\", via: corp, timeout_seconds: 20}}}\n")
	for _, protocol := range asking {
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: protocol, Target: target})
		if !reply.OK || reply.Took > 2*soon {
			t.Fatalf("%s: %v after %v", protocol, reply, reply.Took)
		}
		echoes(t, c, 1000)
	}
}

// The log names the hops that a connection went through, of those that a pool
// has, the nearest to the upstream first.
func TestLogNamesTheHops(t *testing.T) {
	t.Parallel()
	x := testkit.NewExchange(t)
	hosts := map[string]string{"api.venue.example:80": x.HTTP, "api.venue.example:443": x.TLS}
	proxy := func(name string) *testkit.Proxy {
		p := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: hosts})
		hosts[name+".example:1080"] = p.Addr
		return p
	}
	proxy("last")
	proxy("middle")
	p := start(t, fmt.Sprintf(`log: {level: debug}
pools:
  near: {proxies: [{name: near-1, url: "http://%s"}]}
  mid: {via: near, proxies: [{name: mid-1, url: "http://middle.example:1080"}]}
exchanges:
  venue: {hosts: [api.venue.example], url: "http://last.example:1080", name: last-1, via: mid}
`, proxy("near").Addr))
	c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "api.venue.example:443"})
	if !reply.OK {
		t.Fatalf("%v\n%s", reply, p.Log)
	}
	c.Close()
	proxied := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: p.Addr})}}
	defer proxied.CloseIdleConnections()
	for range 2 { // the second one over a connection that was kept
		resp, err := proxied.Get("http://api.venue.example/")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	testkit.Eventually(t, testkit.Patience, "the hops of a tunnel's two lines and of two requests", func() bool {
		return strings.Count(p.Log.String(), `"via":"mid-1, near-1"`) == 4
	})
}

package e2e

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"proxyd/internal/testkit"
)

// What can go wrong at the far end of a direct connection, and on our own
// machine before there is one.
func TestEveryFailureOfADirectConnection(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	here := "localhost:" + testkit.Port(echo.Addr)
	for name, tc := range map[string]struct {
		yaml, target string
		want         outcome
		words        string
	}{
		"nothing listens":            {"default: direct\n", "localhost:" + testkit.Port(testkit.ClosedPort(t)), targetRefused, "refused"},
		"nothing listens at address": {"default: direct\n", testkit.ClosedPort(t), targetRefused, "refused"},
		"no route":                   {"default: direct\nroutes: [{hosts: [224.0.0.1], use: direct}]\n", "224.0.0.1:443", targetAway, "cannot reach"},
		"no such name":               {"default: direct\n", "api.onion:443", targetNoName, "does not find"},
		"a black hole":               {"default: {url: direct, timeout_seconds: 1}\n", testkit.BlackHole(t), slowTarget, "not answered by the target"},
		"a source address not here":  {"exchanges: {here: {hosts: [localhost], http: \"direct://203.0.113.10\"}}\n", here, local, "source address"},
		"an interface not here":      {"exchanges: {here: {hosts: [localhost], http: \"direct://?interface=nosuch0\"}}\n", here, local, "interface"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, loopback+tc.yaml)
			refusedAlike(t, p, tc.target, tc.want, tc.words)
			if line := p.waitLine(`"msg":"refused"`, `"class":"`+tc.want.class+`"`, `"step":"dial"`); line == "" {
				t.Errorf("no line in the log says so:\n%s", p.Log)
			}
		})
	}
	t.Cleanup(func() {
		if n := echo.Accepted(); n > 0 {
			t.Errorf("the exchange saw %d connections from another source", n)
		}
	})
}

// A pool without a usable member is an error, and never a direct connection.
//
// Promise (routing): a pool that cannot be used is an error, never a direct
// connection.
func TestAPoolWithoutAMemberInUseNeverGoesDirect(t *testing.T) {
	t.Parallel()
	exchange := testkit.NewTCP(t, testkit.Echo)
	up := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": exchange.Addr}})
	p := start(t, loopback+`
default: direct
pools: {off: {proxies: [{url: "`+up.URL()+`", enabled: false}, {url: direct, enabled: false}]}}
exchanges: {here: {hosts: [localhost], http: off}}
routes: [{hosts: [127.0.0.0/8], use: off}]
`)
	for _, target := range []string{"localhost:", "127.0.0.1:"} {
		refusedAlike(t, p, target+testkit.Port(exchange.Addr), noUpstream, "pool off")
	}
	if n := exchange.Accepted() + up.Accepted(); n > 0 {
		t.Errorf("%d connections left", n)
	}
}

func TestOverload(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	p := start(t, loopback+"max_tunnels: 1\ndefault: direct\n")
	c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.SOCKS5, Target: echo.Addr})
	if !reply.OK {
		t.Fatal(reply)
	}
	refusedAlike(t, p, echo.Addr, overload, "max_tunnels")
	c.Send("the first one goes on")
	c.Expect("the first one goes on")
	_ = c.Close()
	testkit.Eventually(t, testkit.Patience, "its place is free again", func() bool {
		c, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: echo.Addr})
		_ = c.Close()
		return reply.OK
	})
}

// A client that waits for a slot among the dials learns why, and when to return.
func TestOverloadByDialsUnderWay(t *testing.T) {
	t.Parallel()
	silent := testkit.SilentListener(t)
	p := start(t, "max_dials_per_host: 1\npools: {asia: {proxies: [\"http://"+silent+"\"]}}\n"+
		"exchanges: {binance: {pool: asia, timeout_seconds: 60}, kraken: {pool: asia, timeout_seconds: 1}}\n")
	c := testkit.Dial(t, p.Addr)
	c.Send("CONNECT api.binance.com:443 HTTP/1.1\r\nHost: api.binance.com:443\r\n\r\n")
	testkit.Eventually(t, testkit.Patience, "the slot is taken", func() bool {
		_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "api.kraken.com:443"})
		return reply.Status == overload.status
	})
	refusedInTunnels(t, p, "api.kraken.com:443", overload, "no slot came free")
}

// private are targets that a direct connection must not reach, in the
// spellings in which a client may write them.
var private = []string{
	"localhost", "LOCALHOST.", "127.0.0.1", "127.255.0.9", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
	"0.0.0.0", "[::]", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1",
	"255.255.255.255", "[fe80::1]", "[fc00::1]", "[ff02::1]", "[fec0::1]", "[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[2002:7f00:1::]", "[::127.0.0.1]",
}

// metadata are services that hand out a cloud's credentials.
var metadata = []string{
	"169.254.169.254", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "169.254.170.2", "100.100.100.200",
	"[fd00:ec2::254]", "metadata.google.internal", "Metadata.Google.Internal.",
}

// Promise (security): direct connections reach no private, loopback or
// link-local address unless the configuration names it.
func TestDirectConnectionsReachNothingPrivate(t *testing.T) {
	t.Parallel()
	server := testkit.NewTCP(t, testkit.Echo)
	p := start(t, "default: direct\n")
	for _, host := range private {
		refusedAlike(t, p, host+":"+testkit.Port(server.Addr), denied, "")
	}
	_, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: "10.1.2.3:443"})
	if !strings.Contains(reply.Body, "allow_private: [10.1.2.3/32]") {
		t.Errorf("the line to add is not printed: %q", reply.Body)
	}
	if n := server.Accepted(); n > 0 {
		t.Errorf("%d connections got through", n)
	}
}

// Resolvers read these as addresses of this machine; nobody else should.
func TestAddressesInOddSpellingsAreNoTargets(t *testing.T) {
	t.Parallel()
	server := testkit.NewTCP(t, testkit.Echo)
	p := start(t, loopback+"default: direct\n")
	for _, host := range []string{"127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.01", "127.0.0.1.5"} {
		refusedAlike(t, p, host+":"+testkit.Port(server.Addr), outcome{"bad_request", 400, 1}, "")
	}
	if n := server.Accepted(); n > 0 {
		t.Errorf("%d connections got through", n)
	}
}

// No configuration opens these.
//
// Promise (security): cloud metadata services and proxyd's own addresses are
// never reached.
func TestMetadataAndProxydItselfAreNeverReached(t *testing.T) {
	t.Parallel()
	const everything = "allow_private: [0.0.0.0/0, \"::/0\"]\nroutes: [{hosts: [0.0.0.0/0, \"::/0\", \"localhost\", \"metadata.google.internal\"], use: direct}]\ndefault: direct\n"
	for name, listen := range map[string]string{
		"loopback":          "listen: 127.0.0.1:0\n",
		"all addresses":     "listen: [{address: \"0.0.0.0:0\", allow: [127.0.0.0/8]}]\n",
		"both families":     "listen: [{address: \"[::]:0\", allow: [127.0.0.0/8, \"::1\"]}]\n",
		"the second of two": "listen: [\"127.0.0.1:0\", \"127.0.0.3:0\"]\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, listen+everything)
			via := strings.NewReplacer("0.0.0.0", "127.0.0.1", "[::]", "127.0.0.1").Replace(p.Addr)
			port := ":" + testkit.Port(p.Addrs[len(p.Addrs)-1])
			own := map[string][]string{
				"loopback":          {"127.0.0.1", "localhost", "LocalHost.", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "[64:ff9b::7f00:1]"},
				"all addresses":     {"127.0.0.1", "localhost", "127.9.9.9", "[::ffff:127.0.0.1]", "0.0.0.0"},
				"both families":     {"127.0.0.1", "localhost", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"},
				"the second of two": {"127.0.0.3", "[::ffff:127.0.0.3]"},
			}[name]
			p.Addr = via
			for _, host := range own {
				refusedAlike(t, p, host+port, denied, "")
			}
			for _, host := range metadata {
				refusedAlike(t, p, host+":80", denied, "metadata")
			}
			if p.line("tunnel open") != "" {
				t.Errorf("something was opened:\n%s", p.Log)
			}
		})
	}
}

// max_tunnels holds for those that come at once, too.
func TestOverloadAtOnce(t *testing.T) {
	t.Parallel()
	echo := testkit.NewTCP(t, testkit.Echo)
	p := start(t, loopback+"max_tunnels: 5\ndefault: direct\n")
	var ok atomic.Int64
	var all sync.WaitGroup
	for range 60 {
		all.Go(func() {
			if _, reply := testkit.Open(t, p.Addr, testkit.Ask{Protocol: testkit.CONNECT11, Target: echo.Addr}); reply.OK {
				ok.Add(1)
			}
		})
	}
	all.Wait()
	if n := ok.Load(); n != 5 {
		t.Errorf("%d tunnels are open, max_tunnels is 5", n)
	}
}

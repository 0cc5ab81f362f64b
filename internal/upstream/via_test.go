package upstream

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// chained is a file with one proxy behind the hops of a pool.
func chained(proxy string, hops ...string) string {
	return fmt.Sprintf("exchanges: {binance: {url: %q, via: hops}}\npools: {hops: {strategy: failover, proxies: [%s]}}\nattempt_seconds: 0.3\n", proxy, strings.Join(hops, ", "))
}

// last is the pool of the binance entry, whose hop before is the pool hops.
func last(t testing.TB, s *Set) *Pool {
	t.Helper()
	for name, p := range s.pools {
		if name != "hops" {
			return p
		}
	}
	t.Fatal("no such pool")
	return nil
}

// Through every pair of schemes: each hop is asked for the next one's name, the
// last for the target's; nothing is resolved here, and bytes get through.
func TestHopChain(t *testing.T) {
	ca := testkit.NewCA(t)
	echo := testkit.NewTCP(t, testkit.Echo)
	schemes := []string{"http", "https", "socks4a", "socks5"}
	for _, first := range schemes {
		for _, second := range schemes {
			t.Run(first+" "+second, func(t *testing.T) {
				two := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: second, User: "u2", TLS: ca.Server(t, "exit.example"), Hosts: map[string]string{venue.Host: echo.Addr}})
				one := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: first, User: "u1", TLS: ca.Server(t), Hosts: map[string]string{"exit.example": two.Addr}})
				tls := func(scheme string) string {
					if scheme == "https" {
						return fmt.Sprintf(", tls: {ca_file: %q}", ca.File)
					}
					return ""
				}
				text := fmt.Sprintf("exchanges: {binance: {url: %q, via: hops%s}}\npools: {hops: {proxies: [{url: %q%s}]}}\n",
					second+"://u2@exit.example:8443", tls(second), first+"://u1@"+one.Addr, tls(first))
				s := load(t, text, nil)
				conn := open(t, last(t, s), venue)
				_, _ = io.WriteString(conn.Conn, "there and back")
				got := make([]byte, 14)
				if _, err := io.ReadFull(conn.Conn, got); err != nil || string(got) != "there and back" {
					t.Errorf("got %q, %v", got, err)
				}
				if a := one.Asked()[0]; a.Host != "exit.example" || a.Port != "8443" || a.User != "u1" {
					t.Errorf("the first hop was asked for %s:%s by %s", a.Host, a.Port, a.User)
				}
				if a := two.Asked()[0]; a.Host != venue.Host || a.Port != "9443" || a.User != "u2" {
					t.Errorf("the second hop was asked for %s:%s by %s", a.Host, a.Port, a.User)
				}
				hop := s.pools["hops"].Members()[0].Upstream
				if conn.Member.Live() != 1 || hop.Live() != 1 {
					t.Errorf("%d and %d connections are counted", conn.Member.Live(), hop.Live())
				}
				conn.Release()
				if conn.Member.Live() != 0 || hop.Live() != 0 {
					t.Errorf("%d and %d connections are left", conn.Member.Live(), hop.Live())
				}
			})
		}
	}
}

// Failures of the hop before, and how they are blamed and worded.
func TestHopChainFailures(t *testing.T) {
	t.Parallel()
	good := proxies(t, 1)[0]
	closed, hole := testkit.ClosedPort(t), testkit.SilentListener(t)
	hop := func(f *testkit.Fault) string {
		return testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"closed.example": closed}, Fault: f}).URL()
	}
	tests := []struct {
		name, proxy, hop string
		want             failure.Class
		text             string
	}{
		{"the hop is down", good.URL(), "socks5://" + closed, failure.UpstreamRefused, "via hops: h refused the connection"},
		{"the hop is silent", good.URL(), "socks5://" + hole, failure.UpstreamTimeout, "via hops: h accepted TCP, then silent at the SOCKS greeting for "},
		{"the hop does not know the proxy", "http://nosuch.example:3128", hop(nil), failure.UpstreamUnreachable, "via hops: h cannot reach the host of nosuch.example:3128"},
		{"the proxy refuses the hop", "http://closed.example:3128", hop(nil), failure.UpstreamRefused, "via hops: h found that closed.example:3128 refused the connection"},
		{"the hop does not allow the proxy", "http://nosuch.example:3128", hop(testkit.On(testkit.AtRequest, testkit.SOCKS5Reply(2))), failure.UpstreamDenied, "via hops: h does not allow connections to nosuch.example:3128"},
		{"the hop waits for the proxy", "http://nosuch.example:3128", hop(testkit.On(testkit.AtRequest, testkit.Hang)), failure.UpstreamTimeout, "via hops: h accepted TCP, then silent at the SOCKS reply"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := load(t, chained(tt.proxy, fmt.Sprintf("{name: h, url: %q}", tt.hop)), nil)
			e := denied(t, last(t, s), venue, 700*time.Millisecond, tt.want)
			if !strings.HasPrefix(e.Text, tt.text) {
				t.Errorf("got %q, want %q", e.Text, tt.text)
			}
			for _, u := range s.Upstreams() {
				if u.Live() != 0 {
					t.Errorf("%s counts %d", u.Name(), u.Live())
				}
			}
		})
	}
}

// The hop before is a pool like any other: its members follow one another
// within the time of one attempt.
func TestHopFailsOver(t *testing.T) {
	exit := proxies(t, 1)[0]
	hop := testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": exit.Addr}})
	s := load(t, chained(exit.URL(), fmt.Sprintf("{name: dead, url: %q}", "socks5://"+testkit.ClosedPort(t)), fmt.Sprintf("{name: h, url: %q}", hop.URL())), nil)
	conn := open(t, last(t, s), venue)
	defer conn.Release()
	if hop.Accepted() != 1 || exit.Accepted() != 1 || len(conn.Tried) != 0 {
		t.Errorf("the second hop was asked %d times, the exit %d times, tried %s", hop.Accepted(), exit.Accepted(), tries(conn.Tried))
	}
}

// A chain of three, written one in the other.
func TestHopChainOfThree(t *testing.T) {
	list := proxies(t, 1)
	hop := func(to string) *testkit.Proxy {
		return testkit.NewProxy(t, testkit.ProxyOptions{Hosts: map[string]string{"*": to}})
	}
	two := hop(list[0].Addr)
	one := hop(two.Addr)
	s := load(t, fmt.Sprintf(`
exchanges: {binance: {url: "socks5://three.example:1", via: {url: "http://two.example:2", via: hops}}}
pools: {hops: {proxies: [%q]}}
`, one.URL()), nil)
	var conn *Conn
	for name, p := range s.pools {
		if strings.HasSuffix(name, "binance") {
			conn = open(t, p, venue)
			defer conn.Release()
		}
	}
	if conn == nil {
		t.Fatalf("no pool of binance among %d", len(s.pools))
	}
	got := one.Asked()[0].Host + " " + two.Asked()[0].Host + " " + list[0].Asked()[0].Host
	if want := "two.example three.example " + venue.Host; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
}

// An upstream behind direct://ADDR leaves from there, and is exempt from the guard.
func TestHopThroughSourceAddress(t *testing.T) {
	p := proxies(t, 1)[0]
	s := load(t, chained(p.URL(), "direct://127.0.0.1"), nil)
	conn := open(t, last(t, s), venue)
	defer conn.Release()
	if ip := netip.MustParseAddrPort(conn.Conn.LocalAddr().String()).Addr(); ip != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("it left from %s", ip)
	}
}

// A hop at any address of this machine is beside us, not only one on loopback:
// two daemons may be each other's upstream by the machine's own name.
func TestHopsOnThisMachineAreMarked(t *testing.T) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip := a.(*net.IPNet).IP
		if ip.IsLinkLocalUnicast() { // needs a zone
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if !isBeside(c) {
			t.Errorf("%s is not known as this machine", ip)
		}
	}
}

package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"proxyd/internal/dialer"
	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// A direct way on which nothing answers may be to blame itself, as where an
// exchange drops what one local address sends: the next member is tried, and the
// first is charged once another has opened the way.
func TestSilenceOnADirectWay(t *testing.T) {
	t.Parallel()
	hole := at(testkit.BlackHole(t))
	echo := testkit.NewTCP(t, testkit.Echo)
	opens := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": echo.Addr}})
	with := func(second string) *Set {
		return load(t, fmt.Sprintf(`attempt_seconds: 0.1
allow_private: [127.0.0.0/8]
pools: {p: {strategy: failover, proxies: [{name: a, url: "direct://127.0.0.1"}, {name: b, url: %q}]}}
default: p
`, second), nil)
	}
	s := with(opens.URL())
	stopped(s)
	for i := range 4 {
		way := open(t, only(t, s), hole)
		way.Release()
		if got, want := tries(way.Tried), "a target_timeout"; i < 3 && got != want {
			t.Fatalf("request %d: tried %q, want %q", i, got, want)
		}
		if got, want := out(s), "a"; i >= 2 && got != want || i < 2 && got != "" {
			t.Fatalf("after %d requests %q is out", i+1, got)
		}
	}
	s = with("direct://127.0.0.2") // silent too: nobody is charged
	stopped(s)
	for range 4 {
		_, err := only(t, s).Dial(budget(t, testkit.Patience/4), hole)
		if err == nil || !strings.Contains(err.Error(), "2 tried") {
			t.Fatal(err)
		}
	}
	if got := out(s); got != "" {
		t.Errorf("%q is out for the target's silence", got)
	}
}

// Their names are refused without a look-up.
func TestGuardMetadataNames(t *testing.T) {
	s := load(t, "allow_private: [0.0.0.0/0]\n", map[string]string{"metadata.google.internal": "127.0.0.1", "metadata": "127.0.0.1"})
	for _, host := range []string{"metadata.google.internal", "metadata"} {
		t.Run(host, func(t *testing.T) {
			e := denied(t, s.Direct(), Target{Host: host, Port: 80, Trusted: true}, testkit.Patience, failure.Denied)
			if !strings.Contains(e.Text, "metadata service") {
				t.Errorf("got %q", e.Text)
			}
		})
	}
}

// A name that this machine's name server answers with a fake address is refused
// with the cause, and the line that is printed lets all of them through.
func TestGuardNamesFakeAddresses(t *testing.T) {
	for at, line := range map[string]string{"198.18.0.5": "allow_private: [198.18.0.0/15]", "fc00::5": `allow_private: ["fc00::/18"]`} {
		s := load(t, "default: direct\n", map[string]string{"feed.example": at})
		e := denied(t, s.Direct(), Target{Host: "feed.example", Port: 443}, testkit.Patience, failure.Denied)
		if !strings.Contains(e.Hint, "fake addresses (Clash, mihomo, sing-box)") || !strings.HasSuffix(e.Hint, line) {
			t.Errorf("%s: the hint is %q, want %q", at, e.Hint, line)
		}
		if e := load(t, line+"\n", nil).guard.CheckDirect(netip.AddrPortFrom(netip.MustParseAddr(at).Next(), 443), false); e != nil {
			t.Errorf("%s: the line does not allow the next one: %v", at, e)
		}
	}
}

// An error of a look-up is this machine's or the target's.
func TestDirectDialWithoutDNS(t *testing.T) {
	for name, tt := range map[string]struct {
		err   error
		want  failure.Class
		words string
	}{
		"no name server answers": {&dialer.NoDNSError{Servers: []string{"127.0.0.1:53"}}, failure.Local, "cannot resolve the target's name: this machine's DNS (127.0.0.1:53) did not answer"},
		"there is no name":       {&net.DNSError{Err: "no such host", IsNotFound: true}, failure.TargetDNS, "does not find the target's name"},
		"the server failed":      {&net.DNSError{Err: "server misbehaving", IsTemporary: true}, failure.TargetDNS, "does not find the target's name"},
		"the time is over":       {context.DeadlineExceeded, failure.TargetTimeout, "did not resolve the target's name within"},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, "default: direct\n", nil)
			failLookups(s, tt.err)
			e := denied(t, s.Direct(), Target{Host: "feed.example", Port: 443}, testkit.Patience, tt.want)
			if !strings.Contains(e.Text, tt.words) {
				t.Errorf("it says %q, want %q", e.Text, tt.words)
			}
		})
	}
}

// failLookups makes every look-up of s end with err.
func failLookups(s *Set, err error) {
	s.shared.resolver = dialer.NewResolver(func(context.Context, string, string) ([]netip.Addr, error) { return nil, err })
}

// A SOCKS4 upstream needs the target's address from here.
func TestSOCKS4WithoutDNS(t *testing.T) {
	t.Parallel()
	up := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks4"})
	s := load(t, "default: "+up.URL()+"\n", nil)
	failLookups(s, &dialer.NoDNSError{})
	e := denied(t, only(t, s), Target{Host: "feed.example", Port: 443}, testkit.Patience, failure.Local)
	if !strings.Contains(e.Text, "this machine's DNS") {
		t.Errorf("it says %q", e.Text)
	}
}

// An upstream is not blamed for this machine's name servers.
func TestUpstreamIsNotBlamedForDNS(t *testing.T) {
	t.Parallel()
	s := load(t, "default: http://px.example:3128\n", nil)
	failLookups(s, &dialer.NoDNSError{})
	for range 3 {
		e := denied(t, only(t, s), Target{Host: "feed.example", Port: 443}, testkit.Patience, failure.Local)
		if !strings.Contains(e.Text, "cannot resolve its name px.example: this machine's DNS") {
			t.Errorf("it says %q", e.Text)
		}
	}
	if _, _, ejected := s.Upstreams()[0].Ejected(); ejected {
		t.Error("the upstream is ejected")
	}
}

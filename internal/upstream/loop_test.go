package upstream

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"proxyd/internal/config"
	"proxyd/internal/testkit"
)

const transparentListener = "listen: [\"127.0.0.1:8877\", {address: \"127.0.0.1:8879\", transparent: true}]\n"

// loopSet returns the set of a configuration, for a proxyd that listens at own.
func loopSet(t *testing.T, text, own string) *Set {
	t.Helper()
	return setOf(t, testkit.Config(t, text), own)
}

func setOf(t *testing.T, c *config.Config, own string) *Set {
	t.Helper()
	s, err := NewSet(c, nil, func(a netip.AddrPort) bool { return a.String() == own })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestLoop holds which redirected connections would go round.
//
// Promise (security): What proxyd has opened, and what goes to it or to its upstreams, is recognised when it is redirected
func TestLoop(t *testing.T) {
	t.Parallel()
	server := testkit.NewTCP(t, testkit.Hang)
	_, port, err := net.SplitHostPort(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	s := loopSet(t, transparentListener+"default: direct\npools: {asia: {proxies: [{name: tokyo-1, url: \"http://203.0.113.9:3128\"}, {name: local-1, url: \"socks5://localhost:"+port+"\"}, "+
		"{name: six-1, url: \"http://[2001:db8::9]:3128\"}, {name: mapped-1, url: \"http://[::ffff:203.0.113.10]:3128\"}]}}\n", "127.0.0.1:8877")
	client := netip.MustParseAddrPort("198.51.100.7:40000")
	for to, want := range map[string]string{
		"127.0.0.1:8877":     "is proxyd itself",
		"203.0.113.9:3128":   "is the upstream tokyo-1",
		"203.0.113.9:3129":   "",
		"[2001:db8::9]:3128": "is the upstream six-1",
		"203.0.113.10:3128":  "is the upstream mapped-1",
		"127.0.0.1:" + port:  "", // its name has not been looked up yet
		"198.51.100.9:443":   "",
	} {
		if got := s.Loop(client, netip.MustParseAddrPort(to), ""); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("to %s: %q, want %q", to, got, want)
		}
	}
	for host, want := range map[string]string{"LocalHost.": "is the upstream local-1", "localhost.example": "", "203.0.113.9": "", "a b": ""} {
		if got := s.Loop(client, netip.MustParseAddrPort("198.18.1.0:"+port), host); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("to %s: %q, want %q", host, got, want)
		}
	}
	l, err := s.Upstream("local-1").connectHop(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort("127.0.0.1:" + port)
	if l.conn.RemoteAddr().String() == to.String() {
		if got := s.Loop(client, to, ""); !strings.Contains(got, "is the upstream local-1") {
			t.Errorf("to an upstream by name: %q", got)
		}
	}
	mine := l.conn.LocalAddr().(*net.TCPAddr).AddrPort()
	far := l.conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	if got := s.Loop(mine, far, ""); !strings.Contains(got, "proxyd itself has opened it") {
		t.Errorf("its own connection: %q", got)
	}
	l.close()
	if got := s.Loop(mine, far, ""); strings.Contains(got, "has opened it") {
		t.Errorf("a closed connection: %q", got)
	}
}

// TestLoopCostsNothingWithoutListener holds that nothing is kept where no listener is
// transparent.
func TestLoopCostsNothingWithoutListener(t *testing.T) {
	t.Parallel()
	server := testkit.NewTCP(t, testkit.Hang)
	s := loopSet(t, "default: direct\npools: {asia: {proxies: [{name: tokyo-1, url: \"http://"+server.Addr+"\"}]}}\n", "127.0.0.1:8877")
	l, err := s.Upstream("tokyo-1").connectHop(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	from, to := l.conn.LocalAddr().(*net.TCPAddr).AddrPort(), l.conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	if s.loops != nil || s.shared.outgoing.Has(from, to) || s.Loop(from, to, "") != "" {
		t.Error("its connections are kept")
	}
}

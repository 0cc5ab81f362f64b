package isolate

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A name gets one address, and the address leads back to the name.
func TestNamesKeepTheirAddresses(t *testing.T) {
	t.Parallel()
	n := NewNames()
	first, err := n.Addr("a.example")
	if err != nil || !FakePrefix.Contains(first) {
		t.Fatal(first, err)
	}
	for i := range 70000 { // past the second byte
		name := fmt.Sprintf("n%d.example", i)
		a, err := n.Addr(name)
		if got, ok := n.Name(a); err != nil || got != name || !ok || !FakePrefix.Contains(a) {
			t.Fatal(name, a, got, ok, err)
		}
	}
	if again, _ := n.Addr("a.example"); again != first {
		t.Error(first, again)
	}
	if got, ok := n.Name(netip.MustParseAddr("::ffff:" + first.String())); got != "a.example" || !ok {
		t.Error(got, ok)
	}
	for _, none := range []string{"198.18.0.1", "198.18.0.255", "198.19.255.255", "203.0.113.1", "2001:db8::1"} {
		if got, ok := n.Name(netip.MustParseAddr(none)); ok {
			t.Error(none, got)
		}
	}
	n.most = 70001
	if _, err := n.Addr("one-more.example"); err == nil {
		t.Error("more names than addresses")
	}
}

func TestResolverAnswers(t *testing.T) {
	t.Parallel()
	names := NewNames()
	r := NewResolver(names)
	for _, tt := range []struct {
		name  string
		kind  uint16
		rcode int
		want  string // of the answer, "" for no data
	}{
		{"stream.binance.com.", dns.TypeA, dns.RcodeSuccess, "198.18.1.0"},
		{"STREAM.binance.com.", dns.TypeA, dns.RcodeSuccess, "198.18.1.0"},
		{"api.binance.com.", dns.TypeA, dns.RcodeSuccess, "198.18.1.1"},
		{"stream.binance.com.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"stream.binance.com.", dns.TypeHTTPS, dns.RcodeSuccess, ""},
		{"_ws._tcp.binance.com.", dns.TypeSVCB, dns.RcodeSuccess, ""},
		{"binance.com.", dns.TypeTXT, dns.RcodeSuccess, ""},
		{"_dns.resolver.arpa.", dns.TypeSVCB, dns.RcodeNameError, ""}, // no other resolver (RFC 9462)
		{"4.3.2.1.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"kafka.", dns.TypeA, dns.RcodeNameError, ""},
		{"kafka.", dns.TypeAAAA, dns.RcodeNameError, ""},
		{".", dns.TypeNS, dns.RcodeNameError, ""},
		{"kafka.invalid.", dns.TypeA, dns.RcodeNameError, ""}, // RFC 6761
		{"1.2.3.4.", dns.TypeA, dns.RcodeNameError, ""},
		{`a\032b.example.`, dns.TypeA, dns.RcodeNameError, ""},
		{"localhost.", dns.TypeA, dns.RcodeSuccess, "127.0.0.1"},
		{"localhost.", dns.TypeAAAA, dns.RcodeSuccess, "::1"},
		{"db.localhost.", dns.TypeA, dns.RcodeSuccess, "127.0.0.1"},
	} {
		m := r.answer(new(dns.Msg).SetQuestion(tt.name, tt.kind).SetEdns0(1232, true))
		got := ""
		for _, rr := range m.Answer {
			if rr.Header().Ttl != 1 {
				t.Errorf("%s: TTL %d", tt.name, rr.Header().Ttl)
			}
			switch a := rr.(type) {
			case *dns.A:
				got += a.A.String()
			case *dns.AAAA:
				got += a.AAAA.String()
			}
		}
		if m.Rcode != tt.rcode || got != tt.want || !m.RecursionAvailable || m.IsEdns0() == nil {
			t.Errorf("%s %s: %s", tt.name, dns.TypeToString[tt.kind], m)
		}
		if _, err := m.Pack(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// A name to which a resolver has appended a domain of the host's resolv.conf is no name;
// one that was asked for is, in that domain, too.
func TestResolverRefusesAppendedDomains(t *testing.T) {
	t.Parallel()
	const kubernetes = "search old.example\n# search x\nsearch data.svc.cluster.local. SVC.cluster.local cluster.local .\noptions timeout:1 ndots:5 attempts:2\n"
	for _, tt := range []struct{ file, asked, answered string }{
		{kubernetes, "kafka stream.binance.com.data.svc.cluster.local stream.binance.com.svc.cluster.local stream.binance.com.cluster.local stream.binance.com", "stream.binance.com"},
		{kubernetes, "stream.binance.com stream.binance.com.data.svc.cluster.local", "stream.binance.com"},
		{kubernetes, "kafka.data.svc.cluster.local", ""}, // of kafka
		{kubernetes, "db.svc.cluster.local.data.svc.cluster.local db.svc.cluster.local", "db.svc.cluster.local"},
		{kubernetes, "a.example.com.data.svc.cluster.local.example", "a.example.com.data.svc.cluster.local.example"},
		{"search example.com\n", "db.example.com a.b.example.com", "db.example.com a.b.example.com"},
		{"domain example.com\noptions ndots:2\n", "db.example.com a.b.example.com a.b", "db.example.com a.b"},
		{resolvConf, "db.svc.cluster.local", "db.svc.cluster.local"},
		{"options ndots:x\nsearch\n", "a.b", "a.b"},
		{"", "a.b", "a.b"},
	} {
		r := NewResolver(NewNames())
		r.search = func() search { return parseSearch(tt.file) }
		var answered []string
		for asked := range strings.FieldsSeq(tt.asked) {
			if m := r.answer(new(dns.Msg).SetQuestion(dns.Fqdn(asked), dns.TypeA)); m.Rcode == dns.RcodeSuccess {
				answered = append(answered, asked)
			}
		}
		if got := strings.Join(answered, " "); got != tt.answered {
			t.Errorf("%q, asked for %s: %s, want %s", tt.file, tt.asked, got, tt.answered)
		}
	}
}

func TestHostsByDNS(t *testing.T) {
	t.Parallel()
	for services, want := range map[string]string{
		"files mymachines resolve [!UNAVAIL=return] dns": "hosts: files dns",
		"files mymachines myhostname resolve dns":        "hosts: files myhostname dns",
		"files dns # myhostname":                         "hosts: files dns",
	} {
		const others = "# hosts: x\npasswd: files systemd\n%s\nnetworks: files\n"
		if got := hostsByDNS(fmt.Sprintf(others, " hosts:   "+services)); got != fmt.Sprintf(others, want) {
			t.Errorf("%s: %s", services, got)
		}
	}
}

// A socket that cannot be served does not keep Serve from ending.
func TestResolverEndsWithoutItsSocket(t *testing.T) {
	t.Parallel()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ended := make(chan struct{})
	go func() { defer close(ended); NewResolver(NewNames()).Serve(ctx, []net.PacketConn{c}, nil) }() // ends with ctx
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}

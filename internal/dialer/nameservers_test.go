package dialer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"proxyd/internal/testkit"
)

// nameServer is a name server on this machine that knows every name.
type nameServer struct {
	addr  string
	asked atomic.Int32

	mu   sync.Mutex
	says func(dnsmessage.Type) (rcode dnsmessage.RCode, answers bool)
}

// newNameServer serves until the test ends. says returns for a question whether it
// is answered, and how.
func newNameServer(t *testing.T, says func(dnsmessage.Type) (dnsmessage.RCode, bool)) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{addr: conn.LocalAddr().String(), says: says}
	done := make(chan struct{})
	go func() { // ends when conn is closed
		defer close(done)
		buf := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if b := n.answer(buf[:size]); b != nil {
				_, _ = conn.WriteTo(b, from)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return n
}

func (n *nameServer) set(says func(dnsmessage.Type) (dnsmessage.RCode, bool)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.says = says
}

func (n *nameServer) answer(query []byte) []byte {
	n.asked.Add(1)
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	n.mu.Lock()
	rcode, answers := n.says(q.Type)
	n.mu.Unlock()
	if !answers {
		return nil
	}
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true, RecursionDesired: true, RCode: rcode}
	m.Additionals = nil
	head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}
	switch {
	case rcode != dnsmessage.RCodeSuccess:
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
	case q.Type == dnsmessage.TypeAAAA:
		m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("::1").As16()}}}
	}
	b, _ := m.Pack()
	return b
}

func answers(dnsmessage.Type) (dnsmessage.RCode, bool)     { return dnsmessage.RCodeSuccess, true }
func saysNothing(dnsmessage.Type) (dnsmessage.RCode, bool) { return 0, false }
func servFail(dnsmessage.Type) (dnsmessage.RCode, bool)    { return dnsmessage.RCodeServerFailure, true }
func noName(dnsmessage.Type) (dnsmessage.RCode, bool)      { return dnsmessage.RCodeNameError, true }
func onlyA(q dnsmessage.Type) (dnsmessage.RCode, bool) {
	return dnsmessage.RCodeSuccess, q == dnsmessage.TypeA
}

func asking(servers ...*nameServer) *nameservers {
	return &nameservers{system: func(context.Context) (list []string) {
		for _, s := range servers {
			list = append(list, s.addr)
		}
		return list
	}}
}

// looked looks a name up and returns what came and how long it took.
func looked(t *testing.T, n *nameservers, limit time.Duration) (addrs string, took time.Duration, err error) {
	t.Helper()
	start := time.Now()
	found, err := n.lookup(within(t, limit), "ip", "feed.example")
	var texts []string
	for _, a := range found {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, " "), time.Since(start), err
}

// Promise (data path): a dead name server, or one that leaves a question without
// an answer, delays a connection by less than a second, and the next one not at all.
func TestLookupSkipsSilentServer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		first   func(dnsmessage.Type) (dnsmessage.RCode, bool)
		most    time.Duration // the first look-up
		noDelay bool
	}{
		"the first one is silent":   {saysNothing, 2 * time.Second, false},
		"the first one says failed": {servFail, 2 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dead, good := newNameServer(t, tt.first), newNameServer(t, answers)
			n := asking(dead, good)
			got, took, err := looked(t, n, testkit.Patience)
			if err != nil || got == "" || took > tt.most || took < nextServer && !tt.noDelay {
				t.Errorf("the first look-up: %q, %v after %v", got, err, took)
			}
			before := dead.asked.Load()
			if got, took, err = looked(t, n, testkit.Patience); err != nil || took >= nextServer {
				t.Errorf("the second look-up: %q, %v after %v", got, err, took)
			}
			if dead.asked.Load() != before {
				t.Error("the server that answered is not asked first")
			}
			good.set(saysNothing)
			dead.set(answers)
			if got, took, err = looked(t, n, testkit.Patience); err != nil || took > 2*time.Second {
				t.Errorf("when that one has died: %q, %v after %v", got, err, took)
			}
		})
	}
}

// A server that answers one of the two questions delays by 50 ms.
func TestLookupWaitsBrieflyForOtherFamily(t *testing.T) {
	t.Parallel()
	n := asking(newNameServer(t, onlyA))
	got, took, err := looked(t, n, testkit.Patience)
	if got != "127.0.0.1" || err != nil || took < resolutionDelay || took > nextServer {
		t.Errorf("%q, %v after %v", got, err, took)
	}
	n = asking(newNameServer(t, func(q dnsmessage.Type) (dnsmessage.RCode, bool) {
		return dnsmessage.RCodeNameError, q == dnsmessage.TypeA
	}))
	if got, took, err = looked(t, n, testkit.Patience); !isNotFound(err) || took > 3*time.Second {
		t.Errorf("no such name, by one of the answers: %q, %v after %v", got, err, took)
	}
	n = asking(newNameServer(t, answers))
	if got, _, err = looked(t, n, testkit.Patience); err != nil || got == "" {
		t.Errorf("with both answered: %q, %v", got, err)
	}
}

// Promise (data path): a name whose IPv6 address is known first keeps its IPv4 one,
// which may be the only one that the target listens on.
func TestLookupThatKnowsIPv6FirstWaitsForIPv4(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	n := asking(newNameServer(t, func(q dnsmessage.Type) (dnsmessage.RCode, bool) {
		return dnsmessage.RCodeSuccess, q != dnsmessage.TypeA || asked.Add(1) > 1 // the first question is lost
	}))
	if got, took, err := looked(t, n, testkit.Patience); !strings.Contains(got, "127.0.0.1") || err != nil {
		t.Errorf("%q, %v after %v", got, err, took)
	}
}

// A question that was lost is asked again, of one server too.
func TestLookupRepeatsLostQuestion(t *testing.T) {
	t.Parallel()
	var seen atomic.Int32
	n := asking(newNameServer(t, func(q dnsmessage.Type) (dnsmessage.RCode, bool) {
		return dnsmessage.RCodeSuccess, q == dnsmessage.TypeA && seen.Add(1) > 1
	}))
	if got, took, err := looked(t, n, testkit.Patience); got != "127.0.0.1" || err != nil || took > 2*time.Second {
		t.Errorf("%q, %v after %v", got, err, took)
	}
}

// The system's own list is read as Go's resolver reads it.
func TestSystemNameServers(t *testing.T) {
	for _, s := range systemServers(t.Context()) {
		if _, err := netip.ParseAddrPort(s); err != nil {
			t.Errorf("%q is no name server: %v", s, err)
		}
	}
	addrs, err := (&nameservers{system: systemServers}).lookup(t.Context(), "ip", "localhost")
	if err != nil || len(addrs) == 0 || !addrs[0].IsLoopback() {
		t.Errorf("localhost: %v, %v", addrs, err)
	}
}

// Only where no name server says anything is the error about this machine's DNS.
func TestLookupWithoutAnswer(t *testing.T) {
	t.Parallel()
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	absent := &nameServer{addr: closed.LocalAddr().String()}
	_ = closed.Close()
	for name, tt := range map[string]struct {
		servers []*nameServer
		words   string // of the *NoDNSError; "" for another error
	}{
		"all silent":        {[]*nameServer{newNameServer(t, saysNothing), newNameServer(t, saysNothing)}, "this machine's DNS (127.0.0.1:"},
		"nothing is there":  {[]*nameServer{absent}, "did not answer: connection refused"},
		"there is no name":  {[]*nameServer{newNameServer(t, noName)}, ""},
		"the server failed": {[]*nameServer{newNameServer(t, servFail)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := testkit.Patience
			if name == "all silent" {
				limit = 300 * time.Millisecond
			}
			_, _, err := looked(t, asking(tt.servers...), limit)
			if e, ok := errors.AsType[*NoDNSError](err); ok != (tt.words != "") || ok && !strings.Contains(e.Error(), tt.words) {
				t.Errorf("got %v, want %q", err, tt.words)
			}
		})
	}
}

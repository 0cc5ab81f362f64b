package e2e

import (
	be "encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"proxyd/internal/testkit"
)

// market is the other end of the tunnels of TestCountsAgreeWithWhatThePeersSaw: exchanges behind upstreams.
// It counts, for each exchange and upstream, what proxyd should have counted.
type market struct {
	t     testing.TB
	mu    sync.Mutex
	seen  map[lane]*tally
	gates map[string]*gate // of upstreams that die
	names map[string]bool  // of the upstreams
	urls  map[string]string
}

// lane is an exchange's host through an upstream.
type lane struct{ host, upstream string }

// tally is what an exchange has seen on a lane.
type tally struct {
	accepted, open  int
	received, sent  int64
	closedHere      int // the exchange ended first, in order
	closedByThePeer int // the peer ended first, in order
	reset           int // the connection broke
}

// The ends of a session, the last byte of its head.
const (
	clientEnds = iota
	exchangeEnds
	heldOpen // until someone closes it
)

const sessionHead = 9 // up and down, as 32 bit each, and the end

// session returns what a client sends to have up bytes taken, down bytes answered
// and the tunnel ended so.
func session(up, down uint32, end byte) []byte {
	b := be.BigEndian.AppendUint32(nil, up)
	b = append(be.BigEndian.AppendUint32(b, down), end)
	return append(b, testkit.Pattern(int(up)-sessionHead)...)
}

func newMarket(t testing.TB) *market {
	return &market{t: t, seen: map[lane]*tally{}, gates: map[string]*gate{}, names: map[string]bool{}, urls: map[string]string{}}
}

// upstream starts one that leads to these hosts of exchanges.
func (m *market) upstream(name, scheme string, fault *testkit.Fault, hosts ...string) *testkit.Proxy {
	table := map[string]string{}
	for _, h := range hosts {
		l := lane{h, name}
		m.mu.Lock()
		m.seen[l] = &tally{}
		m.mu.Unlock()
		table[h] = testkit.NewTCPOn(m.t, ownHost(), func(c net.Conn) { m.serve(c, l) }).Addr
	}
	p := testkit.NewProxy(m.t, testkit.ProxyOptions{Scheme: scheme, Hosts: table, Fault: fault})
	m.gates[name] = newGate(m.t, p.Addr)
	m.urls[name] = strings.Replace(p.URL(), p.Addr, m.gates[name].addr, 1)
	return p
}

// member returns the upstream as a mapping of the configuration.
func (m *market) member(name string) string {
	return "{name: " + name + ", url: \"" + m.urls[name] + "\"}"
}

// serve is one session.
func (m *market) serve(c net.Conn, l lane) {
	count := func(add func(*tally)) {
		m.mu.Lock()
		defer m.mu.Unlock()
		add(m.seen[l])
	}
	count(func(t *tally) { t.accepted++; t.open++ })
	defer count(func(t *tally) { t.open-- })
	head := make([]byte, sessionHead)
	n, err := io.ReadFull(c, head)
	count(func(t *tally) { t.received += int64(n) })
	if err != nil {
		count(func(t *tally) { t.reset++ })
		return
	}
	up, down := int64(be.BigEndian.Uint32(head)), int(be.BigEndian.Uint32(head[4:]))
	more, err := io.CopyN(io.Discard, c, up-sessionHead)
	count(func(t *tally) { t.received += more })
	if err != nil {
		count(func(t *tally) { t.reset++ })
		return
	}
	sent, err := c.Write(testkit.Pattern(down))
	count(func(t *tally) { t.sent += int64(sent) })
	if err == nil && head[8] == exchangeEnds {
		count(func(t *tally) { t.closedHere++ })
		testkit.CloseWrite(c)
		_, _ = io.Copy(io.Discard, c)
		return
	}
	if _, err = c.Read(head[:1]); errors.Is(err, io.EOF) {
		count(func(t *tally) { t.closedByThePeer++ })
	} else {
		count(func(t *tally) { t.reset++ })
	}
}

// sum adds up the lanes that match; "" matches all.
func (m *market) sum(host, upstream string) (all tally) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l, t := range m.seen {
		if (host == "" || host == l.host) && (upstream == "" || upstream == l.upstream) {
			all.accepted += t.accepted
			all.open += t.open
			all.received += t.received
			all.sent += t.sent
			all.closedHere += t.closedHere
			all.closedByThePeer += t.closedByThePeer
			all.reset += t.reset
		}
	}
	return all
}

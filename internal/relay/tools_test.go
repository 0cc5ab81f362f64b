package relay_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxyd/internal/relay"
	"proxyd/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for what must come; nothing takes so long unless it is broken.
const patience = 10 * time.Second

// conn is what both plain TCP and TLS can do.
type conn interface {
	net.Conn
	CloseWrite() error
}

// kinds are what the two sides of a flow speak.
type kinds struct{ client, server string }

func (k kinds) String() string { return k.client + "-" + k.server }

var allKinds = []kinds{{"tcp", "tcp"}, {"tcp", "tls"}, {"tls", "tcp"}, {"tls", "tls"}, {"tcp", "tls in tls"}}

// wire is a flow with the far ends of its two connections.
type wire struct {
	client, server conn
	flow           *relay.Flow
	done           chan relay.Stats // one value for each call of Options.Done
}

// join makes two loopback connections and a flow between them.
func join(t testing.TB, e *relay.Engine, k kinds, early, toClient []byte, o relay.Options) *wire {
	t.Helper()
	w := &wire{done: make(chan relay.Stats, 2)}
	o.Done = func(s relay.Stats) { w.done <- s }
	var nearClient, nearServer conn
	w.client, nearClient = pair(t, k.client)
	nearServer, w.server = pair(t, k.server)
	w.flow = e.Start(nearClient, nearServer, early, toClient, o)
	t.Cleanup(func() {
		w.flow.Close()
		w.flow.Wait()
	})
	return w
}

// pair is one loopback connection: the end that dialled, and the other.
func pair(t testing.TB, kind string) (dialled, accepted conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	if kind == "tcp" {
		return a.(*net.TCPConn), b.(*net.TCPConn)
	}
	client, server := secured(t, a, b)
	if kind == "tls in tls" {
		client, server = secured(t, client, server)
	}
	return client, server
}

// secured speaks TLS over a connection.
func secured(t testing.TB, a, b net.Conn) (client, server *tls.Conn) {
	t.Helper()
	client, server = tls.Client(a, certificates.client(t)), tls.Server(b, certificates.server(t))
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// certificates are made once: a key for each connection would be most of the
// time that these tests take.
var certificates certs

type certs struct {
	once     sync.Once
	ca       *testkit.CA
	accepted *tls.Config
}

func (c *certs) server(t testing.TB) *tls.Config {
	c.once.Do(func() {
		c.ca = testkit.NewCA(t)
		c.accepted = c.ca.Server(t, "127.0.0.1")
	})
	return c.accepted
}

func (c *certs) client(t testing.TB) *tls.Config {
	c.server(t)
	return &tls.Config{RootCAs: c.ca.Pool, ServerName: "127.0.0.1"}
}

// running gives an engine that looks every millisecond, until the test ends.
func running(t testing.TB, deadAfter time.Duration) *relay.Engine {
	t.Helper()
	e := relay.NewEngine()
	e.Tick, e.DeadAfter = time.Millisecond, deadAfter
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return e
}

// end waits for Options.Done, and for Wait, which must say the same.
func (w *wire) end(t testing.TB) relay.Stats {
	t.Helper()
	select {
	case s := <-w.done:
		if waited := w.flow.Wait(); waited != s {
			t.Errorf("Wait says %+v, Done got %+v", waited, s)
		}
		return s
	case <-time.After(patience):
		t.Fatal("the flow does not end")
		return relay.Stats{}
	}
}

// ended fails the test unless the flow ends so.
func (w *wire) ended(t testing.TB, by relay.Side, why relay.Reason) relay.Stats {
	t.Helper()
	s := w.end(t)
	if s.ClosedBy != by || s.Reason != why {
		t.Errorf("ended by %s, %s (%v); want %s, %s", s.ClosedBy, s.Reason, s.Err, by, why)
	}
	return s
}

// bytesOf is an endless stream of bytes that a seed determines.
func bytesOf(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

// reset closes c with a RST.
func reset(c net.Conn) {
	_ = bottom(c).SetLinger(0)
	_ = bottom(c).Close()
}

// bottom is the TCP under TLS.
func bottom(c net.Conn) *net.TCPConn {
	for {
		t, ok := c.(*tls.Conn)
		if !ok {
			return c.(*net.TCPConn)
		}
		c = t.NetConn()
	}
}

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

// eventually waits for what must become true.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

var errTimeout = os.ErrDeadlineExceeded

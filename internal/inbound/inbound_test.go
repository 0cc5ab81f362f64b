package inbound

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/relay"
	"proxyd/internal/router"
	"proxyd/internal/testkit/routertest"
	"proxyd/internal/tunnel"
	"proxyd/internal/upstream"
)

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "16") // most of them wait for a deadline
	goleak.VerifyTestMain(m)
}

// local lets tests reach their own servers, which are on loopback.
const local = `
default: direct
routes: [{hosts: [127.0.0.0/8, "::1", localhost], use: direct}]
`

// front is a server under test and what it recorded.
type front struct {
	t       testing.TB
	server  *Server
	handler *tunnel.Handler
	set     *upstream.Set
	addr    string

	mu       sync.Mutex
	listener config.Listener
	records  []tunnel.Record
	panics   []any
}

// startFront serves text (YAML) on a free port; change alters the listener.
func startFront(t testing.TB, text string, change func(*config.Listener)) *front {
	t.Helper()
	f := newFront(t, text)
	if change != nil {
		change(&f.listener)
	}
	f.serve()
	return f
}

// serve serves f on a free port until the test ends.
func (f *front) serve() {
	t := f.t
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(ln, f.settings) }()
	t.Cleanup(func() {
		ln.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		f.server.Close()
		f.handler.CloseAll()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := f.handler.Wait(ctx); err != nil {
			t.Errorf("tunnels left: %v", err)
		}
		f.set.Close()
	})
}

func newFront(t testing.TB, text string) *front {
	t.Helper()
	r := routertest.New(t, text, nil)
	f := &front{t: t, set: r.Set(), listener: config.Listener{Address: "127.0.0.1:0"}}
	f.handler = tunnel.NewHandler(tunnel.Options{
		Snapshot: func() *router.Router { return r }, Relay: relay.NewEngine(), Record: f.record,
	})
	f.server = New(Options{
		Handler: f.handler, HopToken: "hop-token",
		Panicked: func(v any, _ []byte) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.panics = append(f.panics, v)
		},
	})
	return f
}

func (f *front) settings() config.Listener {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listener
}

func (f *front) record(r *tunnel.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.records = append(f.records, *r)
}

// await polls until there is a record that ok accepts.
func (f *front) await(what string, ok func(tunnel.Record) bool) tunnel.Record {
	f.t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		f.mu.Lock()
		for _, r := range f.records {
			if ok(r) {
				f.mu.Unlock()
				return r
			}
		}
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.t.Fatalf("no record of %s among %+v", what, f.records)
	return tunnel.Record{}
}

// refused waits for the record of a refusal.
func (f *front) refused(class failure.Class) tunnel.Record {
	f.t.Helper()
	return f.await("a refusal "+string(class), func(r tunnel.Record) bool { return r.Event == tunnel.Refused && r.Class == class })
}

// dial connects as a client; everything on the connection is limited to 5 s.
func (f *front) dial() *net.TCPConn {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	return conn.(*net.TCPConn)
}

// say sends text on a new connection and gives all that comes back until the end.
func (f *front) say(text string) string {
	f.t.Helper()
	conn := f.dial()
	write(f.t, conn, text)
	return readAll(f.t, conn)
}

func write(t testing.TB, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

// readN reads exactly n bytes.
func readN(t testing.TB, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if m, err := io.ReadFull(r, b); err != nil {
		t.Fatalf("after %q: %v", b[:m], err)
	}
	return string(b)
}

// readHeadOf reads to the blank line, byte by byte so that nothing behind it is
// taken.
func readHeadOf(t testing.TB, r io.Reader) string {
	t.Helper()
	var b []byte
	for !bytes.HasSuffix(b, []byte("\r\n\r\n")) {
		b = append(b, readN(t, r, 1)...)
	}
	return string(b)
}

// answerOf parses an answer.
func answerOf(t testing.TB, text string) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return resp, string(body)
}

// listen serves each connection with serve until the test ends.
func listen(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return ln.Addr().String()
}

// echo gives back what it gets.
func echo(t testing.TB) string {
	return listen(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// refusedPort is an address without a listener.
func refusedPort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// bytesConn gives prepared pieces to a reader, one by one, then io.EOF.
type bytesConn struct {
	net.Conn
	pieces [][]byte
}

func (c *bytesConn) Read(p []byte) (int, error) {
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.pieces[0])
	if c.pieces[0] = c.pieces[0][n:]; len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	return n, nil
}

func (c *bytesConn) SetReadDeadline(time.Time) error { return nil }

// whole and byteByByte are two patterns in which the same bytes may arrive.
func whole(b []byte) [][]byte { return [][]byte{append([]byte(nil), b...)} }

func byteByByte(b []byte) [][]byte {
	var pieces [][]byte
	for i := range b {
		pieces = append(pieces, []byte{b[i]})
	}
	return pieces
}

func asFault(err error) *refusal {
	var f *refusal
	errors.As(err, &f)
	return f
}

func hostPort(t testing.TB, addr string) (string, uint16) {
	t.Helper()
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return ap.Addr().String(), ap.Port()
}

func connectTo(addr string) string {
	return fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", addr, addr)
}

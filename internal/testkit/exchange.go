package testkit

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Exchange is a fake exchange: REST and websocket on one port with TLS, and on
// another without.
//
//	/              "ok"
//	/echo          the body, as it comes; as a websocket: each message
//	/ticker?n=5    a websocket that sends {"seq":1} … {"seq":n} (for ever without n), every ms= apart, each with pad= spaces behind it
//	/freeze?n=5    as a websocket: as /ticker, then no message any more, and a ping each 200 ms
//	/silent        no answer until the client leaves; as a websocket: no message
//	/slow?ms=50    answers after that long
//	/large?bytes=N Pattern(N) with a Content-Length
//	/stream?n=3    n chunks "chunk 1\n" …, each flushed
//	/trailers      a chunked body with the trailer X-Checksum
//	/close         announces 1000 bytes, sends 10 and closes
//	/headers       the request as JSON: method, host, target, header
//	/status/451    that status, with a body
type Exchange struct {
	CA   *CA
	TLS  string // address
	HTTP string // address

	tls, plain *server
	mu         sync.Mutex
	seen       []Seen
}

// Seen is a request as it reached an exchange.
type Seen struct {
	Method, Host, Target, Proto string
	Header                      http.Header
	SNI                         string // with TLS
	Head                        string // without TLS: the bytes of the connection so far
}

// NewExchange starts a fake exchange. It has a certificate for any name, from
// its own CA.
func NewExchange(t testing.TB) *Exchange {
	t.Helper()
	x := &Exchange{CA: NewCA(t), tls: newServer(t, "127.0.0.1"), plain: newServer(t, "127.0.0.1")}
	x.TLS, x.HTTP = x.tls.ln.Addr().String(), x.plain.ln.Addr().String()
	x.serve(t, x.tls, x.CA.Server(t))
	x.serve(t, x.plain, nil)
	return x
}

// Requests returns every request so far.
func (x *Exchange) Requests() []Seen {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]Seen(nil), x.seen...)
}

// Accepted returns how many connections have been accepted, on both ports.
func (x *Exchange) Accepted() int { return x.tls.Accepted() + x.plain.Accepted() }

// Client trusts the exchange's CA and opens its connections with dial, one for
// each request.
func (x *Exchange) Client(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: x.CA.Pool}, DisableKeepAlives: true,
	}}
}

type connKey struct{}

// heads keeps what a connection has sent, up to 64 KiB.
type heads struct {
	net.Conn
	mu  sync.Mutex
	got bytes.Buffer
}

// Read keeps what it reads.
func (h *heads) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.mu.Lock()
	if h.got.Len() < 64<<10 {
		h.got.Write(p[:n])
	}
	h.mu.Unlock()
	return n, err
}

func (h *heads) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got.String()
}

// tracking lets Stop close what an HTTP server accepts, hijacked connections
// too.
type tracking struct{ *server }

// Accept takes a connection and tracks it.
func (l tracking) Accept() (net.Conn, error) {
	c, err := l.ln.Accept()
	if err != nil {
		return nil, err
	}
	if !l.admit(c) {
		return nil, net.ErrClosed
	}
	return &heads{Conn: c}, nil
}

// Close closes the listener.
func (l tracking) Close() error { return l.ln.Close() }

// Addr returns where it listens.
func (l tracking) Addr() net.Addr { return l.ln.Addr() }

func (x *Exchange) serve(t testing.TB, s *server, conf *tls.Config) {
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if done, ok := s.enter(); ok {
				defer done()
				x.handle(w, r)
			}
		}),
		ErrorLog:    log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				s.drop(bottom(c))
			}
		},
		ReadHeaderTimeout: time.Minute,
	}
	ln := net.Listener(tracking{s})
	if conf != nil {
		ln = tls.NewListener(ln, conf)
	}
	s.wg.Go(func() { _ = srv.Serve(ln) }) // ends with Close
	t.Cleanup(func() { _ = srv.Close() }) // before Stop, which waits
}

// bottom returns the connection that the server tracks.
func bottom(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if h, ok := c.(*heads); ok {
		c = h.Conn
	}
	return c
}

func (x *Exchange) note(r *http.Request) {
	s := Seen{Method: r.Method, Host: r.Host, Target: r.RequestURI, Proto: r.Proto, Header: r.Header.Clone()}
	switch c := r.Context().Value(connKey{}).(type) {
	case *heads:
		s.Head = c.text()
	case *tls.Conn:
		s.SNI = c.ConnectionState().ServerName
	}
	x.mu.Lock()
	x.seen = append(x.seen, s)
	x.mu.Unlock()
}

func (x *Exchange) handle(w http.ResponseWriter, r *http.Request) {
	x.note(r)
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		x.websocket(w, r)
		return
	}
	rc := http.NewResponseController(w)
	switch path := r.URL.Path; {
	case path == "/echo":
		echoBody(w, r)
	case path == "/silent":
		<-r.Context().Done()
	case path == "/slow":
		select {
		case <-r.Context().Done():
		case <-time.After(time.Duration(query(r, "ms", 50)) * time.Millisecond):
			_, _ = io.WriteString(w, "ok")
		}
	case path == "/large":
		b := Pattern(query(r, "bytes", 1<<20))
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b)
	case path == "/stream":
		for i := range query(r, "n", 3) {
			_, _ = io.WriteString(w, "chunk "+strconv.Itoa(i+1)+"\n")
			_ = rc.Flush()
		}
	case path == "/trailers":
		w.Header().Set("Trailer", "X-Checksum")
		_, _ = io.WriteString(w, "body with a trailer")
		_ = rc.Flush()
		w.Header().Set("X-Checksum", "abc123")
	case path == "/close":
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "ten bytes.")
		_ = rc.Flush()
		panic(http.ErrAbortHandler)
	case path == "/headers":
		_ = json.NewEncoder(w).Encode(map[string]any{"method": r.Method, "host": r.Host, "target": r.RequestURI, "header": r.Header})
	case strings.HasPrefix(path, "/status/"):
		code, err := strconv.Atoi(path[len("/status/"):])
		if err != nil || code < 200 || code > 599 {
			code = 400
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "the exchange says "+strconv.Itoa(code))
	default:
		_, _ = io.WriteString(w, "ok")
	}
}

func query(r *http.Request, name string, otherwise int) int {
	if v, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil {
		return v
	}
	return otherwise
}

// echoBody answers while the request is still coming, so that a proxy that
// waits for the end of a body shows.
func echoBody(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex()
	w.Header().Set("Content-Type", "application/octet-stream")
	block := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(block)
		if n > 0 {
			_, _ = w.Write(block[:n])
			_ = rc.Flush()
		}
		if err != nil {
			return
		}
	}
}

func (x *Exchange) websocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer x.forget(r)
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(16 << 20)
	ctx := context.WithoutCancel(r.Context()) // the end of the connection ends it
	switch r.URL.Path {
	case "/ticker", "/freeze":
		limit, every, pad := query(r, "n", 0), time.Duration(query(r, "ms", 0))*time.Millisecond, strings.Repeat(" ", query(r, "pad", 0))
		for i := 1; limit == 0 || i <= limit; i++ {
			if err := c.Write(ctx, websocket.MessageText, []byte(`{"seq":`+strconv.Itoa(i)+`}`+pad)); err != nil {
				return
			}
			time.Sleep(every)
		}
		for ctx := c.CloseRead(ctx); r.URL.Path == "/freeze" && c.Ping(ctx) == nil; {
			time.Sleep(200 * time.Millisecond)
		}
		_ = c.Close(websocket.StatusNormalClosure, "")
	case "/silent":
		_, _, _ = c.Read(ctx)
	default:
		for {
			kind, msg, err := c.Read(ctx)
			if err != nil || c.Write(ctx, kind, msg) != nil {
				return
			}
		}
	}
}

// forget drops a hijacked connection, of which the HTTP server says no more.
func (x *Exchange) forget(r *http.Request) {
	switch c := r.Context().Value(connKey{}).(type) {
	case *tls.Conn:
		x.tls.drop(bottom(c))
	case *heads:
		x.plain.drop(bottom(c))
	}
}

package inbound

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

// A client that stalls in its body hears at once that the far end has gone.
//
// Promise (plain HTTP): the far end's end of a connection reaches the client at
// once, also while the client is silent in the midst of its request.
func TestFarEndLeavesWhileTheBodyStalls(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*net.TCPConn){"reset": endInReset, "closed": endInOrder} {
		for kind, body := range map[string]string{"length": "Content-Length: 10\r\n\r\nhalf", "chunked": "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
			for _, through := range []string{"direct", "upstream"} {
				t.Run(name+" "+kind+" "+through, func(t *testing.T) {
					t.Parallel()
					addr := listen(t, func(c net.Conn) {
						_, _ = http.ReadRequest(bufio.NewReader(c))
						end(c.(*net.TCPConn))
					})
					yaml, target, class := local, addr, failure.TargetProtocol
					if through == "upstream" {
						yaml, target, class = "default: http://"+addr, "a.example", failure.UpstreamProtocol
					}
					f := startFront(t, yaml, nil)
					conn := f.dial()
					start := time.Now()
					write(t, conn, "POST http://"+target+"/ HTTP/1.1\r\nHost: h\r\n"+body)
					resp, text := answerOf(t, readHeadAndBody(t, conn))
					checkRefusal(t, resp, text, string(class))
					if got := resp.Header.Get("Proxy-Status"); resp.StatusCode != 502 || !strings.Contains(got, "error=connection_terminated;") {
						t.Errorf("%s, Proxy-Status %q", resp.Status, got)
					}
					if took := time.Since(start); took > 5*time.Second {
						t.Errorf("after %v", took)
					}
					f.refused(class)
					f.noPanics(t)
				})
			}
		}
	}
}

// An answer that comes before the body's end says that the connection ends with
// it, and reaches a client that still sends.
//
// Promise (plain HTTP): an answer that comes before the end of its request's body
// reaches the client, and says Connection: close.
func TestAnswerBeforeTheBodysEnd(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]int{"silent": 0, "sending": 200 << 10} {
		for _, framing := range []string{"Content-Length: 250000\r\n", "Transfer-Encoding: chunked\r\n"} {
			t.Run(name+" "+framing[:7], func(t *testing.T) {
				t.Parallel()
				f := startFront(t, local, nil)
				addr := listen(t, func(c net.Conn) {
					_, _ = http.ReadRequest(bufio.NewReader(c))
					_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nearly")
					_ = c.(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, c)
				})
				conn := f.dial()
				write(t, conn, "POST http://"+addr+"/ HTTP/1.1\r\nHost: h\r\n"+framing+"\r\n4\r\nhalf\r\n")
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for range more / 1024 {
						if _, err := conn.Write([]byte("3fa\r\n" + strings.Repeat("x", 0x3fa) + "\r\n")); err != nil {
							return
						}
					}
				}()
				got := readHeadAndBody(t, conn)
				if resp, body := answerOf(t, got); resp.StatusCode != 413 || body != "early" || !resp.Close {
					t.Errorf("got %s %q, close %v", resp.Status, body, resp.Close)
				}
				<-sent
				conn.CloseWrite()
				if rest := readAll(t, conn); rest != "" {
					t.Errorf("then %q", rest)
				}
				f.await("the request", func(r tunnel.Record) bool { return r.Event == tunnel.Served && r.Class == "" })
				f.noPanics(t)
			})
		}
	}
}

// A body that stops coming ends in 408, and not while its answer flows.
func TestBodyOfAPlainRequestIsNotAwaitedForEver(t *testing.T) {
	for _, kind := range []string{"length", "chunked"} {
		for _, answered := range []time.Duration{0, 5 * time.Minute} {
			t.Run(fmt.Sprint(kind, " answered for ", answered), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := net.Pipe()
					defer far.Close()
					p := &plainConn{c: &client{conn: near}}
					p.c.in.conn = near
					defer near.Close()
					if p.length = 10; kind == "chunked" {
						p.length, p.chunks = 0, &chunks{}
					}
					go func() { _, _ = io.Copy(io.Discard, far) }() // until near is closed
					go func() {
						for range int(answered / (time.Second * 30)) {
							time.Sleep(30 * time.Second)
							_, _ = p.Write([]byte("x"))
						}
					}()
					start := time.Now()
					_, err := p.Read(make([]byte, 10))
					took := time.Since(start)
					if asFault(err) != bodyTooSlow || took < answered+bodyIdle || took > answered+2*bodyIdle {
						t.Errorf("ended with %v after %v", err, took)
					}
					if f := p.framingError(); f == nil || f.status != http.StatusRequestTimeout {
						t.Errorf("fault %+v", f)
					}
				})
			})
		}
	}
}

// A client that takes nothing of its answer is not written to for ever.
func TestPlainAnswerNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		defer near.Close()
		p := &plainConn{c: &client{conn: near}}
		start := time.Now()
		if _, err := p.Write([]byte("x")); !isTimeout(err) || time.Since(start) != answerIdle {
			t.Errorf("ended with %v after %v", err, time.Since(start))
		}
	})
}

// The answer to an upgrade that is refused may not stand still for ever either.
func TestRefusedUpgradeWhoseBodyStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		defer near.Close()
		r := &endingReader{ReadCloser: near, conn: near}
		start := time.Now()
		if _, err := r.Read(make([]byte, 1)); !isTimeout(err) || time.Since(start) != answerIdle || r.end == nil {
			t.Errorf("ended with %v after %v", err, time.Since(start))
		}
		r.left.Store(true)
		start = time.Now()
		if _, err := r.Read(make([]byte, 1)); !isTimeout(err) || time.Since(start) != 0 {
			t.Errorf("with the client gone: %v after %v", err, time.Since(start))
		}
	})
}

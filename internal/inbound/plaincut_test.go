package inbound

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/relay"
	"proxyd/internal/tunnel"
)

// cutOrigin sends text in answer to each request, then ends the connection by
// end, and counts the requests.
func cutOrigin(t testing.TB, text string, end func(*net.TCPConn)) (addr string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	return listen(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		asked.Add(1)
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
		end(c.(*net.TCPConn))
	}), asked
}

func endInOrder(c *net.TCPConn) { c.Close() }

// endInReset waits until what was sent has been taken: a reset would overtake it.
func endInReset(c *net.TCPConn) {
	time.Sleep(50 * time.Millisecond)
	_ = c.SetLinger(0)
	c.Close()
}

// What has come of an answer reaches the client, and that it was cut is seen by
// the client, in the counters and in the log: a client that got nothing would
// send its request once more.
//
// Promise (plain HTTP): an answer that its origin cuts short reaches the client
// as far as it came, visibly cut, and is counted and logged as what it was.
func TestPlainAnswerCutBeforeItsBody(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, answer string
		end          func(*net.TCPConn)
		reason       relay.Reason
	}{
		{"closed", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", endInOrder, relay.ReasonEOF},
		{"closed, with Retry-After", "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 10\r\n\r\n", endInOrder, relay.ReasonEOF},
		{"reset", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", endInReset, relay.ReasonReset},
		{"chunked, closed", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", endInOrder, relay.ReasonEOF},
		{"bad first chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", endInOrder, relay.ReasonError},
		{"in the body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", endInOrder, relay.ReasonEOF},
	}
	for _, tt := range tests {
		for _, version := range []string{"1.1", "1.0"} {
			t.Run(tt.name+" to "+version, func(t *testing.T) {
				t.Parallel()
				f := startFront(t, local, nil)
				addr, asked := cutOrigin(t, tt.answer, tt.end)
				conn := f.dial()
				write(t, conn, "GET http://"+addr+"/ HTTP/"+version+"\r\nHost: h\r\n\r\n")
				r := bufio.NewReader(conn)
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatalf("no head: %v", err)
				}
				defer resp.Body.Close()
				if got := fmt.Sprintf("HTTP/1.1 %s\r\n", resp.Status); !strings.HasPrefix(tt.answer, got) {
					t.Errorf("status %q", resp.Status)
				}
				if strings.Contains(tt.answer, "Retry-After") && resp.Header.Get("Retry-After") != "7" {
					t.Errorf("fields %v", resp.Header)
				}
				if body, err := io.ReadAll(resp.Body); err == nil {
					t.Errorf("it looks whole: %q", body)
				}
				rec := f.await("the request", func(r tunnel.Record) bool { return r.Event == tunnel.Served })
				if rec.Class != failure.TargetProtocol || rec.Reason != tt.reason || rec.ClosedBy != tunnel.ByExchange || rec.Text == "" {
					t.Errorf("recorded class %q, reason %q, closed by %q, text %q", rec.Class, rec.Reason, rec.ClosedBy, rec.Text)
				}
				if n := asked.Load(); n != 1 {
					t.Errorf("the origin was asked %d times", n)
				}
				f.noPanics(t)
			})
		}
	}
}

// noPanics fails the test if some handler has panicked.
func (f *front) noPanics(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.panics) > 0 {
		t.Errorf("panics: %v", f.panics)
	}
}

// A client that takes no more of an answer is recorded as one that left.
func TestPlainAnswerNotTakenByItsClient(t *testing.T) {
	t.Parallel()
	f := startFront(t, local, nil)
	addr := listen(t, func(c net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		_, _ = io.Copy(io.Discard, c)
	})
	conn := f.dial()
	write(t, conn, get(addr, "/", ""))
	_ = readHeadOf(t, conn)
	conn.Close()
	rec := f.await("the request", func(r tunnel.Record) bool { return r.Event == tunnel.Served })
	if rec.Class != failure.ClientGone || rec.ClosedBy != string(relay.Client) {
		t.Errorf("recorded %+v", rec)
	}
}

// Whatever three digits an origin or an upstream answers, the client gets an
// answer and nothing panics.
//
// Promise (plain HTTP): an answer that is no HTTP gets its client a 502 that
// says so, whether the origin or an upstream sent it.
func TestPlainAnswerWithOddStatusLine(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"HTTP/1.1 099 X": 502, "HTTP/1.1 000 X": 502, "HTTP/1.1 -12 X": 502, "HTTP/1.1 1000 X": 502,
		"HTTP/2.0 200 OK": 502, "HTTP/0.9 200 OK": 502, "HTTP/1.1 20 X": 502, "HTTP/1.1 200": 200,
		"HTTP/1.1 101 X": 502, "HTTP/1.1 599 X": 599, "HTTP/1.1 999 X": 999,
	} {
		for _, through := range []string{"direct", "upstream"} {
			t.Run(line+" "+through, func(t *testing.T) {
				t.Parallel()
				addr, _ := cutOrigin(t, line+"\r\nContent-Length: 2\r\n\r\nok", endInOrder)
				yaml, target := local, addr
				class, proxyError := failure.TargetProtocol, "http_protocol_error"
				if through == "upstream" {
					yaml, target, class = "default: http://"+addr, "a.example", failure.UpstreamProtocol
				}
				f := startFront(t, yaml, nil)
				conn := f.dial()
				write(t, conn, "GET http://"+target+"/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
				resp, body := answerOf(t, readAll(t, conn))
				if resp.StatusCode != want {
					t.Errorf("got %s %q", resp.Status, body)
				}
				if want == 502 {
					checkRefusal(t, resp, body, string(class))
					if got := resp.Header.Get("Proxy-Status"); !strings.Contains(got, "error="+proxyError+";") {
						t.Errorf("Proxy-Status %q", got)
					}
					f.refused(class)
				}
				f.noPanics(t)
			})
		}
	}
}

// A refused upgrade whose answer is cut is counted as that, and one that is no
// HTTP once, as a refusal.
func TestWebsocketAnswerCutOrOdd(t *testing.T) {
	t.Parallel()
	const ask = "/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nhalf",
		"nothing": "HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\n",
		"chunked": "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFront(t, local, nil)
			addr, _ := cutOrigin(t, answer, endInOrder)
			conn := f.dial()
			write(t, conn, "GET ws://"+addr+ask)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("it looks whole: %q", body)
			}
			rec := f.await("the end", func(r tunnel.Record) bool { return r.Event == tunnel.Ended })
			if rec.Class != failure.TargetProtocol || rec.Reason != relay.ReasonEOF {
				t.Errorf("recorded %+v", rec)
			}
		})
	}
	t.Run("odd", func(t *testing.T) {
		t.Parallel()
		f := startFront(t, local, nil)
		addr, _ := cutOrigin(t, "HTTP/1.1 099 X\r\n\r\n", endInOrder)
		conn := f.dial()
		write(t, conn, "GET ws://"+addr+ask)
		resp, body := answerOf(t, readAll(t, conn))
		checkRefusal(t, resp, body, string(failure.TargetProtocol))
		f.refused(failure.TargetProtocol)
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.records) != 1 {
			t.Errorf("recorded %+v", f.records)
		}
	})
}

// What an origin does instead of answering is named as RFC 9209 has it, and
// the time that it takes is not that of the dial.
func TestPlainOriginThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		"":                                "connection_terminated",
		"SSH-2.0-x\r\n":                   "http_protocol_error",
		"HTTP/1.1 407 Auth\r\n\r\n":       "http_protocol_error",
		"\x15\x03\x01\x00\x02\x02\x16":    "http_protocol_error",
		"HTTP/1.1 200 OK\r\nno colon\r\n": "http_protocol_error",
	} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			f := startFront(t, local, nil)
			addr, _ := cutOrigin(t, answer, endInOrder)
			conn := f.dial()
			write(t, conn, get(addr, "/", ""))
			resp, body := answerOf(t, readAll(t, conn))
			checkRefusal(t, resp, body, string(failure.TargetProtocol))
			if got := resp.Header.Get("Proxy-Status"); !strings.HasPrefix(got, "proxyd; error="+want+";") {
				t.Errorf("Proxy-Status %q", got)
			}
		})
	}
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		f := startFront(t, local, nil)
		const slow = 300 * time.Millisecond
		addr := listen(t, func(c net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			time.Sleep(slow)
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		})
		conn := f.dial()
		write(t, conn, get(addr, "/", "Connection: close\r\n"))
		_ = readAll(t, conn)
		r := f.await("the request", func(r tunnel.Record) bool { return r.Event == tunnel.Served })
		if r.Dial <= 0 || r.Duration-r.Dial < slow {
			t.Errorf("dial %v of %v", r.Dial, r.Duration)
		}
	})
}

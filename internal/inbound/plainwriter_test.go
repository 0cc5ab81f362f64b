package inbound

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

func TestPlainAnswerAsTheClientSeesIt(t *testing.T) {
	tests := []struct {
		name, answer string
		status       int
		body         string
		gone, kept   []string
	}{
		{"hop-by-hop", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic realm=x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nUpgrade: h2c\r\nX-Kept: 1\r\n\r\nok", 200, "ok", []string{"Keep-Alive", "Proxy-Authenticate", "X-Hop", "Upgrade", "Date", "Content-Type", "Via"}, []string{"X-Kept"}},
		{"hop-by-hop beside close", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nX-Kept: 1\r\n\r\nok", 200, "ok", []string{"X-Secret"}, []string{"X-Kept"}},
		{"hop-by-hop behind close", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Secret: 1\r\nconnection: CLOSE\r\nCONNECTION: x-other ,\r\n  x-secret\r\nX-Other: 1\r\nX-Kept: 1\r\n\r\nok", 200, "ok", []string{"X-Secret", "X-Other"}, []string{"X-Kept"}},
		{"hop-by-hop behind interim answers", "HTTP/1.1 103 X\r\nX-Kept: 1\r\nConnection: X-Kept\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nX-Kept: 1\r\n\r\nok", 200, "ok", []string{"X-Secret"}, []string{"X-Kept"}},
		{"until the end", "HTTP/1.0 200 OK\r\nContent-Type: text/x\r\n\r\nall of it", 200, "all of it", nil, []string{"Content-Type"}},
		{"chunked", "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 404, "abc", nil, nil},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", nil, nil},
		{"interim answers", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", []string{"Link"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFront(t, local, nil)
			addr, _ := rawOrigin(t, tt.answer)
			conn := f.dial()
			write(t, conn, get(addr, "/", "Connection: close\r\n"))
			text := readAll(t, conn)
			for strings.HasPrefix(text, "HTTP/1.1 1") { // see TestInterimAnswers
				_, text, _ = strings.Cut(text, "\r\n\r\n")
			}
			resp, body := answerOf(t, text)
			if resp.StatusCode != tt.status || body != tt.body {
				t.Errorf("got %s, %q", resp.Status, body)
			}
			for _, name := range tt.gone {
				if resp.Header.Values(name) != nil {
					t.Errorf("%s: %q", name, resp.Header.Values(name))
				}
			}
			for _, name := range tt.kept {
				if resp.Header.Get(name) == "" {
					t.Errorf("%s is gone", name)
				}
			}
			r := f.await("the request", func(r tunnel.Record) bool { return r.Event == tunnel.Served })
			if r.Protocol != "http" || r.Down != int64(len(tt.body)) {
				t.Errorf("recorded %+v", r)
			}
		})
	}
}

// A body that breaks off never looks whole.
func TestPlainTruncatedAnswer(t *testing.T) {
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello",
	} {
		for _, version := range []string{"1.0", "1.1"} {
			t.Run(name+" to "+version, func(t *testing.T) {
				f := startFront(t, local, nil)
				addr, _ := rawOrigin(t, answer)
				conn := f.dial()
				write(t, conn, "GET http://"+addr+"/ HTTP/"+version+"\r\nHost: h\r\n\r\n")
				b, err := io.ReadAll(conn)
				if err != nil {
					return // a reset says it
				}
				resp, err := http.ReadResponse(newReader(string(b)), nil)
				if err != nil {
					return
				}
				defer resp.Body.Close()
				if body, err := io.ReadAll(resp.Body); err == nil {
					t.Errorf("a whole answer: %q, body %q", b, body)
				}
			})
		}
	}
}

// Each part of a stream arrives while the next is still to come, and so does
// the head.
func TestPlainStreams(t *testing.T) {
	for _, length := range []string{"", "Content-Length: 4\r\n", "Content-Type: text/event-stream\r\n"} {
		t.Run(length, func(t *testing.T) {
			f := startFront(t, local, nil)
			step := make(chan struct{})
			addr := listen(t, func(c net.Conn) {
				_, _ = http.ReadRequest(bufio.NewReader(c))
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+length+"\r\n")
				<-step
				_, _ = io.WriteString(c, "ab")
				<-step
				_, _ = io.WriteString(c, "cd")
			})
			conn := f.dial()
			write(t, conn, get(addr, "/", ""))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			step <- struct{}{}
			if got := readN(t, resp.Body, 2); got != "ab" {
				t.Errorf("got %q", got)
			}
			step <- struct{}{}
			if got := readAll(t, resp.Body); got != "cd" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestPlainTrailers(t *testing.T) {
	f := startFront(t, local, nil)
	var mu sync.Mutex
	var seen http.Header
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		mu.Lock()
		seen = r.Trailer
		mu.Unlock()
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "42")
	}))
	t.Cleanup(s.Close)
	req, err := http.NewRequest("POST", s.URL, io.MultiReader(strings.NewReader("abc")))
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-Up": []string{"1"}}
	resp, err := f.client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "body" || resp.Trailer.Get("X-Sum") != "42" {
		t.Errorf("%q %v, trailer %v", b, err, resp.Trailer)
	}
	mu.Lock()
	defer mu.Unlock()
	if seen.Get("X-Up") != "1" {
		t.Errorf("the origin saw trailer %v", seen)
	}
}

// Promise (plain HTTP): a trailer that says something else about the message than
// its head did goes no further.
func TestPlainForbiddenTrailersAreDropped(t *testing.T) {
	t.Parallel()
	for _, announced := range []string{"", "Trailer: X-Sum\r\n", "Trailer: X-Sum, Set-Cookie\r\n", "Trailer: Set-Cookie\r\n"} {
		t.Run(announced, func(t *testing.T) {
			t.Parallel()
			f := startFront(t, local, nil)
			addr, _ := rawOrigin(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"+announced+"\r\n2\r\nok\r\n0\r\n"+
				"Content-Length: 9\r\nTransfer-Encoding: x\r\nSet-Cookie: a=b\r\nCache-Control: x\r\nX-Sum: 42\r\n\r\n")
			conn := f.dial()
			write(t, conn, get(addr, "/", "Connection: close\r\n"))
			got := readAll(t, conn)
			if !strings.HasSuffix(got, "2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n") || strings.Contains(got, "Cookie") {
				t.Errorf("got %q", got)
			}
		})
	}
}

// Promise (plain HTTP): an answer with a space before a field's colon, which
// others read differently, is a 502.
func TestPlainAnswerWithASpaceBeforeAColon(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"Content-Length : 2", "X-A\t: 1", "Transfer-Encoding : chunked"} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			f := startFront(t, local, nil)
			addr := listen(t, func(c net.Conn) {
				_, _ = http.ReadRequest(bufio.NewReader(c))
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+field+"\r\n\r\nok")
				_, _ = io.Copy(io.Discard, c)
			})
			conn := f.dial()
			write(t, conn, get(addr, "/", ""))
			resp, body := answerOf(t, readAll(t, conn))
			checkRefusal(t, resp, body, string(failure.TargetProtocol))
			f.refused(failure.TargetProtocol)
		})
	}
}

// An answer's fields keep the names that they came with, and those of a 304 are
// all there.
func TestPlainAnswerFieldsAsWritten(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, answer, want string }{
		{"odd names", "HTTP/1.1 200 OK\r\nx-RateLimit-used: 1\r\nETag: a\r\ncontent-type: x/y\r\ndate: now\r\ncontent-length: 2\r\n\r\nok",
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: a\r\ncontent-type: x/y\r\ndate: now\r\nx-RateLimit-used: 1\r\nConnection: close\r\n\r\nok"},
		{"304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nContent-Type: x/y\r\nETag: a\r\n\r\n",
			"HTTP/1.1 304 Not Modified\r\nETag: a\r\ncontent-length: 77\r\ncontent-type: x/y\r\nConnection: close\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := startFront(t, local, nil)
			addr, _ := rawOrigin(t, tt.answer)
			conn := f.dial()
			write(t, conn, get(addr, "/", "Connection: close\r\n"))
			if got := readAll(t, conn); got != tt.want {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}

// The head of an answer does not wait for its body, whatever came with it.
func TestPlainHeadGoesAtOnce(t *testing.T) {
	t.Parallel()
	for _, tail := range []string{"Content-Length: 4\r\n\r\n", "\r\n", "Transfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n4\r\n"} {
		t.Run(tail, func(t *testing.T) {
			t.Parallel()
			f := startFront(t, local, nil)
			addr := listen(t, func(c net.Conn) {
				_, _ = http.ReadRequest(bufio.NewReader(c))
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+tail)
				_, _ = io.Copy(io.Discard, c)
			})
			conn := f.dial()
			write(t, conn, get(addr, "/", ""))
			if got := readHeadOf(t, conn); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
				t.Errorf("got %q", got)
			}
		})
	}
}

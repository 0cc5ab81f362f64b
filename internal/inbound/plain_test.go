package inbound

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

// rawOrigin answers each request on a connection with the next of answers and
// gives the heads that it saw.
func rawOrigin(t testing.TB, answers ...string) (addr string, heads chan string) {
	heads = make(chan string, 64)
	return listen(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for _, a := range answers {
			var b []byte
			for !bytes.HasSuffix(b, []byte("\r\n\r\n")) {
				x, err := r.ReadByte()
				if err != nil {
					return
				}
				b = append(b, x)
			}
			heads <- string(b)
			if _, err := io.WriteString(c, a); err != nil {
				return
			}
		}
	}), heads
}

func get(addr, path, more string) string {
	return "GET http://" + addr + path + " HTTP/1.1\r\nHost: evil.example\r\n" + more + "\r\n"
}

// fields splits a head into its first line and its fields, lower-cased.
func fields(head string) (line string, set map[string]string) {
	set = map[string]string{}
	for i, l := range strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n") {
		if i == 0 {
			line = l
			continue
		}
		name, value, _ := strings.Cut(l, ": ")
		set[strings.ToLower(name)] = value
	}
	return line, set
}

// HTTP-13, HTTP-15, HTTP-18, HTTP-19, HTTP-23
func TestPlainRequestAsTheOriginSeesIt(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
	tests := []struct {
		name, path, user, more string
		line                   string
		want                   map[string]string
	}{
		{"hop-by-hop", "/p?x=1", "", "Connection: close, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\nUpgrade: foo\r\nProxy-Connection: keep-alive\r\nHTTP2-Settings: x\r\nX-Kept: yes\r\n", "GET /p?x=1 HTTP/1.1", map[string]string{"x-kept": "yes"}},
		{"proxy credentials", "/", "", "Proxy-Authorization: Basic b2t4LmxhbmUyOnB3QHg=\r\nProxy-Foo: x\r\nAuthorization: Bearer kept\r\n", "GET / HTTP/1.1", map[string]string{"authorization": "Bearer kept"}},
		{"userinfo", "/", "u:p%40ss@", "", "GET / HTTP/1.1", map[string]string{"authorization": "Basic dTpwQHNz"}},
		{"path that net/http would write otherwise", "/a%2Fb|c\"<>^`{}[]@:;'()*%7c?x=|{\"}&y", "", "", "GET /a%2Fb|c\"<>^`{}[]@:;'()*%7c?x=|{\"}&y HTTP/1.1", map[string]string{}},
		{"path of slashes", "//a%2Fb//c?", "", "", "GET //a%2Fb//c? HTTP/1.1", map[string]string{}},
		{"query alone", "?q=a|b", "", "", "GET /?q=a|b HTTP/1.1", map[string]string{}},
		{"dots", "/a/../b/./?", "", "", "GET /a/../b/./? HTTP/1.1", map[string]string{}},
		{"no path", "", "", "User-Agent: mine\r\nAccept-Encoding: gzip\r\n", "GET / HTTP/1.1", map[string]string{"user-agent": "mine", "accept-encoding": "gzip"}},
		{"forwards", "/%7Ea%2Fb?q=%zz", "", "Max-Forwards: 3\r\n", "GET /%7Ea%2Fb?q=%zz HTTP/1.1", map[string]string{"max-forwards": "2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFront(t, local, nil)
			addr, heads := rawOrigin(t, ok)
			conn := f.dial()
			write(t, conn, get(tt.user+addr, tt.path, tt.more))
			if got := readHeadAndBody(t, conn); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\nok") {
				t.Errorf("answer %q", got)
			}
			line, got := fields(<-heads)
			tt.want["host"] = addr
			delete(got, "connection") // between the two of them
			if diff := cmp.Diff(tt.want, got); diff != "" || line != tt.line {
				t.Errorf("line %q, fields (-want +got):\n%s", line, diff)
			}
		})
	}
}

// Promise (plain HTTP): the path and the query of a request go on byte for byte,
// directly and through an upstream.
func TestPlainPathThroughAnUpstream(t *testing.T) {
	const odd = "/a%2Fb|c\"{}%7c?x=|{\"}"
	for name, auth := range map[string]string{"": "", "with credentials": "u:p@"} {
		for _, path := range []string{odd, "//x%2F/y?", "/", "?z", ""} {
			t.Run(name+path, func(t *testing.T) {
				addr, heads := rawOrigin(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
				f := startFront(t, "default: http://"+auth+addr, nil)
				conn := f.dial()
				write(t, conn, "GET http://a.example"+path+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
				_ = readAll(t, conn)
				want := path
				if path == "" || path[0] == '?' {
					want = "/" + path
				}
				line, got := fields(<-heads)
				if line != "GET http://a.example"+want+" HTTP/1.1" || got["host"] != "a.example" || (got["proxy-authorization"] != "") != (auth != "") {
					t.Errorf("line %q, fields %v", line, got)
				}
			})
		}
	}
}

func TestPlainPathThatCannotBeSentUnchangedIsRefused(t *testing.T) {
	f := startFront(t, local, nil)
	conn := f.dial()
	write(t, conn, get("a.example", "//a|b", ""))
	resp, body := answerOf(t, readAll(t, conn))
	checkRefusal(t, resp, body, "bad_request")
	if !strings.Contains(body, "begins with //") {
		t.Errorf("body %q", body)
	}
}

func TestPlainFailures(t *testing.T) {
	tests := []struct {
		name, yaml, answer string
		status             int
		class              failure.Class
	}{
		{"garbage", local, "SSH-2.0-x\r\n", 502, failure.TargetProtocol},
		{"101 unasked", local, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 502, failure.TargetProtocol},
		{"closed", local, "", 502, failure.TargetProtocol},
		{"rejected", "default: reject", "x", 403, failure.Denied},
	}
	for _, tt := range tests {
		for _, method := range []string{"GET", "HEAD"} {
			t.Run(tt.name+" "+method, func(t *testing.T) {
				f := startFront(t, tt.yaml, nil)
				addr, _ := rawOrigin(t, tt.answer)
				conn := f.dial()
				if tt.class == failure.Denied {
					addr = "a.example"
				}
				write(t, conn, method+" http://"+addr+"/ HTTP/1.1\r\nHost: x\r\n\r\n")
				text := readAll(t, conn)
				resp, err := http.ReadResponse(newReader(text), &http.Request{Method: method})
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != tt.status || !strings.HasPrefix(resp.Status[4:], "proxyd: ") || !resp.Close {
					t.Errorf("got %q (%v)", text, err)
				}
				if method == "HEAD" && !strings.HasSuffix(text, "\r\n\r\n") {
					t.Errorf("a body to HEAD: %q", text)
				}
				if method == "GET" && tt.class != "" {
					checkRefusal(t, resp, string(body), string(tt.class))
				}
			})
		}
	}
}

// client goes through the front.
func (f *front) client(t testing.TB) *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(mustURL("http://" + f.addr)), ExpectContinueTimeout: 5 * time.Second}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// HTTP-27
func TestPlainExpectContinue(t *testing.T) {
	f := startFront(t, local, nil)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(s.Close)
	client := f.client(t)
	for path, want := range map[string]string{"/yes": "200 hello", "/no": "417 "} {
		req, err := http.NewRequest("POST", s.URL+path, strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Expect", "100-continue")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := fmt.Sprintf("%d %s", resp.StatusCode, b); err != nil || got != want {
			t.Errorf("%s: got %q (%v), want %q", path, got, err, want)
		}
	}
}

// A client that leaves in the middle ends the request to the origin.
func TestPlainClientLeaves(t *testing.T) {
	for name, text := range map[string]string{
		"waiting": "GET http://ADDR/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"sending": "POST http://ADDR/ HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
		"chunks":  "POST http://ADDR/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := startFront(t, local, nil)
			there, gone := make(chan struct{}), make(chan struct{})
			addr := listen(t, func(c net.Conn) {
				_, _ = c.Read(make([]byte, 1000))
				close(there)
				_, _ = io.Copy(io.Discard, c)
				close(gone)
			})
			conn := f.dial()
			write(t, conn, strings.ReplaceAll(text, "ADDR", addr))
			<-there
			conn.Close()
			select {
			case <-gone:
			case <-time.After(2 * time.Second):
				t.Error("the origin still waits")
			}
			f.refused(failure.ClientGone)
		})
	}
}

func TestPlainDrain(t *testing.T) {
	f := startFront(t, local, nil)
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(s.Close)
	addr := s.Listener.Addr().String()
	idle, busy, young := f.dial(), f.dial(), f.dial()
	write(t, idle, get(addr, "/", ""))
	_ = readHeadAndBody(t, idle)
	write(t, busy, get(addr, "/slow", ""))
	write(t, young, "GET http://"+addr)
	f.await("the first", func(r tunnel.Record) bool { return r.Event == tunnel.Served })
	waitIdle(t, idle, f)
	f.server.Drain()
	if got, err := io.ReadAll(idle); err != nil || len(got) > 0 {
		t.Errorf("idle: %q, %v", got, err)
	}
	close(release)
	write(t, young, "/ HTTP/1.1\r\nHost: a\r\n\r\n")
	for name, c := range map[string]net.Conn{"busy": busy, "in its handshake": young} {
		if resp, body := answerOf(t, readAll(t, c)); resp.StatusCode != 200 || body != "ok" || !resp.Close {
			t.Errorf("%s: %s %q, close %v", name, resp.Status, body, resp.Close)
		}
	}
}

// To net/http a kept connection is idle until it has a whole request.
//
// Promise (plain HTTP): a request that has begun to come when proxyd is upgraded
// is answered, also on a connection that had answers before.
func TestDrainAnswersRequestThatHasBegun(t *testing.T) {
	t.Parallel()
	f := newFront(t, local)
	idle := make(chan struct{}, 1)
	f.server.plainServer.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateIdle {
			idle <- struct{}{}
		}
	}
	f.serve()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(s.Close)
	next := get(s.Listener.Addr().String(), "/", "")
	conn := f.dial()
	write(t, conn, next+next[:10])
	_ = readHeadAndBody(t, conn)
	<-idle
	f.server.Drain()
	write(t, conn, next[10:])
	if resp, body := answerOf(t, readAll(t, conn)); resp.StatusCode != 200 || body != "ok" || !resp.Close {
		t.Errorf("%s %q, close %v", resp.Status, body, resp.Close)
	}
}

// waitIdle waits until net/http has taken a connection's answer for finished.
func waitIdle(t *testing.T, _ net.Conn, f *front) {
	t.Helper()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		f.server.mu.Lock()
		n := len(f.server.conns)
		f.server.mu.Unlock()
		if n == 3 {
			time.Sleep(20 * time.Millisecond)
			return
		}
	}
}

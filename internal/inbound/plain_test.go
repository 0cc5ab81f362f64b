package inbound

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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

func TestPlainPathThatCannotGoOnAsItIs(t *testing.T) {
	f := startFront(t, local, nil)
	conn := f.dial()
	write(t, conn, get("a.example", "//a|b", ""))
	resp, body := answerOf(t, readAll(t, conn))
	checkRefusal(t, resp, body, "bad_request")
	if !strings.Contains(body, "begins with //") {
		t.Errorf("body %q", body)
	}
}

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

// One connection to the proxy carries requests for different hosts, one after
// the other or all at once.
func TestPlainKeepAlive(t *testing.T) {
	f := startFront(t, local, nil)
	var origins []string
	for i := range 3 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%d %s %s", i, r.URL, b)
		}))
		t.Cleanup(s.Close)
		origins = append(origins, s.Listener.Addr().String())
	}
	var all, want string
	for i := range 6 {
		o := origins[i%3]
		switch i % 2 {
		case 0:
			all += fmt.Sprintf("GET http://%s/%d HTTP/1.1\r\nHost: h\r\n\r\n", o, i)
			want += fmt.Sprintf("%d /%d \n", i%3, i)
		case 1: // and the empty line that old clients send behind a body
			all += fmt.Sprintf("POST http://%s/%d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\r\n", o, i)
			want += fmt.Sprintf("%d /%d abc\n", i%3, i)
		}
	}
	for name, piece := range map[string]int{"pipelined": len(all), "byte by byte": 1} {
		t.Run(name, func(t *testing.T) {
			conn := f.dial()
			go func() {
				for i := 0; i < len(all); i += piece {
					if _, err := io.WriteString(conn, all[i:min(i+piece, len(all))]); err != nil {
						return
					}
				}
			}()
			r := bufio.NewReader(conn)
			got := ""
			for range 6 {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil {
					t.Fatal(err)
				}
				got += string(b) + "\n"
			}
			if got != want {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

// What is not plain HTTP on a kept connection gets its turn, and its answer,
// behind the answers before it.
func TestPlainThenOther(t *testing.T) {
	target := echo(t)
	tests := []struct {
		name, next string
		users      bool
		status     int
		text       string
		then       string // what else the connection carries
	}{
		{"malformed", "GET http://h/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", false, 400, "more than one Host", ""},
		{"smuggling", "POST http://h/ HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", false, 400, "both Content-Length", ""},
		{"origin-form", "GET / HTTP/1.1\r\nHost: proxyd\r\n\r\n", false, 400, "this is a proxy", ""},
		{"cut short", "GET http://h/ HT", false, 400, "middle of its head", ""},
		{"CONNECT", connectTo(target) + "EARLY", false, 200, "", "EARLY"},
		{"no credentials, then some", "GET http://h/ HTTP/1.1\r\nHost: a\r\n\r\nCONNECT " + target + " HTTP/1.1\r\n" + basicAuth("alice:s3cr@t") + "\r\nEARLY", true, 407, "needs a user", established + "EARLY"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFront(t, local, nil)
			auth := ""
			if tt.users {
				f = startFront(t, local, withUsers)
				auth = basicAuth("alice:s3cr@t")
			}
			slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				time.Sleep(30 * time.Millisecond) // the next request is there by then
				_, _ = io.WriteString(w, "first")
			}))
			t.Cleanup(slow.Close)
			conn := f.dial()
			write(t, conn, "POST http://"+slow.Listener.Addr().String()+"/ HTTP/1.1\r\nHost: a\r\n"+auth+"Content-Length: 3\r\n\r\nabc"+tt.next)
			if tt.name == "cut short" {
				conn.CloseWrite()
			}
			resp, body := answerOf(t, readHeadAndBody(t, conn))
			if resp.StatusCode != 200 || body != "first" {
				t.Errorf("first: %s %q", resp.Status, body)
			}
			if tt.status == 200 {
				if got := readHeadOf(t, conn); got != established {
					t.Fatalf("got %q", got)
				}
			} else {
				resp, body = answerOf(t, readHeadAndBody(t, conn))
				if resp.StatusCode != tt.status || !strings.Contains(body, tt.text) {
					t.Errorf("second: %s %q", resp.Status, body)
				}
			}
			if got := readN(t, conn, len(tt.then)); got != tt.then {
				t.Errorf("then %q, want %q", got, tt.then)
			}
			if tt.then == "" {
				if rest := readAll(t, conn); rest != "" {
					t.Errorf("behind it: %q", rest)
				}
			}
		})
	}
}

// HTTP-07: a body whose framing is wrong is never sent on as if it were right.
func TestPlainBadChunks(t *testing.T) {
	for name, body := range map[string]string{
		"at once":      "0x5\r\nhello\r\n0\r\n\r\n",
		"in the midst": "5\r\nhello\r\n-1\r\n",
		"trailer":      "5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := startFront(t, local, nil)
			whole := make(chan error, 1)
			s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, err := io.ReadAll(r.Body)
				whole <- err
			}))
			t.Cleanup(s.Close)
			conn := f.dial()
			write(t, conn, "POST http://"+s.Listener.Addr().String()+"/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+body)
			resp, text := answerOf(t, readAll(t, conn))
			checkRefusal(t, resp, text, "bad_request")
			if resp.StatusCode != 400 || !strings.Contains(text, "body") && !strings.Contains(text, "chunk") {
				t.Errorf("got %s %q", resp.Status, text)
			}
			select {
			case err := <-whole:
				if err == nil {
					t.Error("the origin saw a whole body")
				}
			case <-time.After(time.Second): // the request never got there
			}
			f.refused(failure.BadRequest)
		})
	}
}

func TestPlainBigBodies(t *testing.T) {
	f := startFront(t, local, nil)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		if n := r.ContentLength; n >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(n))
		}
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(s.Close)
	data := make([]byte, 10<<20)
	_, _ = rand.Read(data)
	client := f.client(t)
	for name, length := range map[string]int64{"length": int64(len(data)), "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequest("POST", s.URL, io.MultiReader(bytes.NewReader(data)))
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = length
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// client goes through the front.
func (f *front) client(t testing.TB) *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(mustURL("http://" + f.addr)), ExpectContinueTimeout: 5 * time.Second}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
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
func TestPlainTrailersThatMayNotBe(t *testing.T) {
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

// HTTP-21
func TestWebsocketUpgrade(t *testing.T) {
	const reply = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
	clients := map[string]string{
		"aiohttp": "GET ws://ADDR/p HTTP/1.1\r\nHost: ADDR\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: k\r\nProxy-Authorization: Basic b2t4\r\n\r\n",
		"coder":   "GET http://ADDR/p HTTP/1.1\r\nHost: ADDR\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\n",
	}
	for name, text := range clients {
		t.Run(name, func(t *testing.T) {
			f := startFront(t, local, nil)
			heads := make(chan string, 1)
			addr := listen(t, func(c net.Conn) {
				b := make([]byte, 4096)
				n, _ := c.Read(b)
				head, rest, _ := strings.Cut(string(b[:n]), "\r\n\r\n")
				heads <- head + "\r\n\r\n"
				_, _ = io.WriteString(c, reply+"EARLY")
				_, _ = io.WriteString(c, rest)
				_, _ = io.Copy(c, c)
			})
			conn := f.dial()
			write(t, conn, strings.ReplaceAll(text, "ADDR", addr))
			if got := readN(t, conn, len(reply)+5); got != reply+"EARLY" {
				t.Fatalf("got %q", got)
			}
			write(t, conn, "ping")
			if got := readN(t, conn, 4); got != "ping" {
				t.Errorf("echo %q", got)
			}
			line, got := fields(<-heads)
			want := map[string]string{"host": addr, "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "k"}
			if diff := cmp.Diff(want, got); diff != "" || line != "GET /p HTTP/1.1" {
				t.Errorf("line %q, fields (-want +got):\n%s", line, diff)
			}
			conn.CloseWrite()
			if rest := readAll(t, conn); rest != "" {
				t.Errorf("behind it: %q", rest)
			}
		})
	}
}

func TestWebsocketRefused(t *testing.T) {
	tests := []struct {
		name, reply, want, body string
	}{
		{"403", "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\nX-A: b\r\n\r\ngo!\n", "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 4\r\nX-A: b\r\n\r\ngo!\n", ""},
		{"hop-by-hop beside close", "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nX-A: b\r\n\r\ngo!\n", "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 4\r\nX-A: b\r\n\r\ngo!\n", ""},
		{"interim first", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 404 Not Found\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""},
		{"HTTP-29", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 50), "", "interim"},
		{"not HTTP", "SSH-2.0-x\r\n\r\n", "", "not HTTP"},
		{"folded", "HTTP/1.1 101 x\r\nA: b\r\n c\r\n\r\n", "", "folded"},
		{"huge", "HTTP/1.1 101 x\r\nA: " + strings.Repeat("b", 20<<10), "", "16 KiB"},
		{"closed", "", "", "closed the connection"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFront(t, local, nil)
			addr, _ := rawOrigin(t, tt.reply)
			conn := f.dial()
			write(t, conn, "GET ws://"+addr+"/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			got := readAll(t, conn)
			if tt.want != "" {
				if got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				return
			}
			resp, body := answerOf(t, got)
			checkRefusal(t, resp, body, "target_protocol")
			if resp.StatusCode != 502 || !strings.Contains(body, tt.body) {
				t.Errorf("got %s %q", resp.Status, body)
			}
		})
	}
}

// What a client sends behind an upgrade that was not granted goes nowhere:
// nobody has routed it.
func TestBytesBehindARefusedUpgrade(t *testing.T) {
	f := startFront(t, local, nil)
	const next = "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n"
	rest := make(chan string, 1)
	addr := listen(t, func(c net.Conn) {
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") // and stays open
		head := string(b[:n])
		all, _ := io.ReadAll(c)
		rest <- head[strings.Index(head, "\r\n\r\n")+4:] + string(all)
	})
	conn := f.dial()
	write(t, conn, "GET ws://"+addr+"/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+next)
	if got := readAll(t, conn); got != "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok" {
		t.Errorf("got %q", got)
	}
	if got := <-rest; got != "" {
		t.Errorf("the server got %q", got)
	}
}

// What is wrong with a request is said without quoting what may be a secret.
func TestMalformedRequestsAreNotQuotedWithTheirSecrets(t *testing.T) {
	for _, text := range []string{
		"GET http://bot:S3CRET@h/p?symbols=[\"A\", \"B\"] HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET http://h/p?apiKey=S3CRET x HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET http://bot:S3CRET@h/p?s=\xe9 HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET http://bot:S3?RET@h/p x HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET u:S3CRET@h/ HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nHost: h\r\nX-API-KEY S3CRET\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nHost: u:S3CRET@h\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nHost: h\r\nMax-Forwards: S3CRET\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nHost: h\r\nExpect: S3CRET\r\n\r\n",
		"CONNECT u:S3CRET@h:443 HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST http://h/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X, Content-Length\r\n\r\n",
	} {
		f := startFront(t, local, nil)
		conn := f.dial()
		write(t, conn, text)
		got := readAll(t, conn)
		if !strings.HasPrefix(got, "HTTP/1.1 4") || !strings.Contains(got, "X-Proxyd-Error: class=bad_request") {
			t.Errorf("%q: got %q", text, got)
		}
		r := f.await("the refusal", func(r tunnel.Record) bool { return r.Event == tunnel.Refused })
		for _, secret := range []string{"S3CRET", "S3?", "RET@"} {
			if strings.Contains(got+r.Text+r.Host, secret) {
				t.Errorf("%q: the answer %q or the record %+v shows it", text, got, r)
			}
		}
	}
}

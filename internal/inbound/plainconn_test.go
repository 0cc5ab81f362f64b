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
	"testing"
	"testing/synctest"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

// A client that stalls in its body hears at once that the far end has gone.
//
// Promise (plain HTTP): when the server ends a connection, the client sees it at
// once, also while the client pauses in the middle of its request.
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
func TestPlainRequestBodyHasADeadline(t *testing.T) {
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
						t.Errorf("refusal %+v", f)
					}
				})
			})
		}
	}
}

// A client that takes nothing of its answer is not written to for ever.
func TestPlainAnswerThatIsNotReadIsCut(t *testing.T) {
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

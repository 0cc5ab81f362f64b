package inbound

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

// expecting is an origin that reads a head, says before, reads a body of 5
// bytes unless answer comes without it, and answers. It gives what it has read.
func expecting(t testing.TB, before string, body bool, answer string) (addr string, read chan string) {
	t.Helper()
	read = make(chan string, 64)
	return listen(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		head, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, before)
		got := head.Header.Get("Expect") + "|"
		if body {
			b := make([]byte, 5)
			n, _ := io.ReadFull(r, b)
			got += string(b[:n])
		}
		read <- got
		_, _ = io.WriteString(c, answer)
		rest, _ := io.ReadAll(r)
		read <- string(rest)
	}), read
}

// A client that waits to be asked for its body is asked by the origin alone.
//
// Promise (plain HTTP): 100 Continue reaches a client only where its origin has
// said it; a final answer instead of it comes at once.
func TestExpectContinueIsTheOriginsToAnswer(t *testing.T) {
	t.Parallel()
	const (
		ok       = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
		no       = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno"
		proceed  = "HTTP/1.1 100 Continue\r\n\r\n"
		lengthed = "Content-Length: 5\r\n"
		chunked  = "Transfer-Encoding: chunked\r\n"
	)
	bodies := map[string]string{lengthed: "hello", chunked: "5\r\nhello\r\n0\r\n\r\n"}
	for framing, body := range bodies {
		t.Run(strings.TrimSpace(framing), func(t *testing.T) {
			t.Parallel()
			ask := func(addr, version string) string {
				return "POST http://" + addr + "/ HTTP/" + version + "\r\nHost: h\r\nExpect: 100-Continue\r\n" + framing + "\r\n"
			}
			t.Run("refused", func(t *testing.T) {
				t.Parallel()
				f := startFront(t, local, nil)
				addr, read := expecting(t, "", false, no)
				conn := f.dial()
				start := time.Now()
				write(t, conn, ask(addr, "1.1"))
				resp, text := answerOf(t, readAll(t, conn))
				if resp.StatusCode != 417 || text != "no" || !resp.Close {
					t.Errorf("got %s %q, close %v", resp.Status, text, resp.Close)
				}
				if got := <-read + <-read; got != "100-continue|" {
					t.Errorf("the origin read %q", got)
				}
				if took := time.Since(start); took > time.Second {
					t.Errorf("after %v", took)
				}
				if r := f.await("the request", func(r tunnel.Record) bool { return r.Event == tunnel.Served }); r.Class != "" {
					t.Errorf("recorded %+v", r)
				}
			})
			t.Run("refused while the body comes", func(t *testing.T) {
				t.Parallel()
				f := startFront(t, local, nil)
				addr, _ := expecting(t, "", false, no)
				conn := f.dial()
				write(t, conn, ask(addr, "1.1")+body)
				if resp, text := answerOf(t, readAll(t, conn)); resp.StatusCode != 417 || text != "no" {
					t.Errorf("got %s %q", resp.Status, text)
				}
			})
			t.Run("granted", func(t *testing.T) {
				t.Parallel()
				f := startFront(t, local, nil)
				addr, read := expecting(t, proceed, true, ok)
				conn := f.dial()
				for range 2 { // the connection is kept
					write(t, conn, ask(addr, "1.1"))
					if got := readHeadOf(t, conn); got != proceed {
						t.Fatalf("got %q", got)
					}
					write(t, conn, body)
					if resp, text := answerOf(t, readHeadAndBody(t, conn)); resp.StatusCode != 200 || text != "ok" || resp.Close {
						t.Errorf("got %s %q, close %v", resp.Status, text, resp.Close)
					}
					if got := <-read; !strings.HasPrefix(got, "100-continue|") {
						t.Errorf("the origin read %q", got)
					}
					<-read
				}
			})
			t.Run("not understood", func(t *testing.T) {
				t.Parallel()
				f := startFront(t, local, nil)
				addr, read := expecting(t, "", true, ok)
				conn := f.dial()
				write(t, conn, ask(addr, "1.1")+body) // as a client does after a while
				got := readHeadAndBody(t, conn)
				if resp, text := answerOf(t, got); resp.StatusCode != 200 || text != "ok" || resp.Close || strings.Contains(got, "100 Continue") {
					t.Errorf("got %q", got)
				}
				if got := <-read; !strings.HasPrefix(got, "100-continue|") {
					t.Errorf("the origin read %q", got)
				}
			})
		})
	}
	t.Run("HTTP/1.0", func(t *testing.T) {
		t.Parallel()
		f := startFront(t, local, nil)
		addr, read := expecting(t, "", true, ok)
		conn := f.dial()
		write(t, conn, "POST http://"+addr+"/ HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
		if resp, text := answerOf(t, readAll(t, conn)); resp.StatusCode != 200 || text != "ok" {
			t.Errorf("got %s %q", resp.Status, text)
		}
		if got := <-read; got != "|hello" {
			t.Errorf("the origin read %q", got)
		}
	})
}

// Interim answers reach the client as they come, so many and no more.
//
// Promise (plain HTTP): interim answers (1xx) are passed on at once, up to 32 of
// them before an answer.
func TestInterimAnswers(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Last: 1\r\n\r\nok"
	t.Run("passed on", func(t *testing.T) {
		t.Parallel()
		f := startFront(t, local, nil)
		step := make(chan struct{})
		statuses := []int{100, 102, 103, 104, 199}
		addr := listen(t, func(c net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			for _, s := range statuses {
				fmt.Fprintf(c, "HTTP/1.1 %d X\r\nLink: x%d\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n", s, s)
				<-step
			}
			_, _ = io.WriteString(c, ok)
		})
		conn := f.dial()
		write(t, conn, get(addr, "/", "Connection: close\r\n"))
		for _, s := range statuses {
			line, got := fields(readHeadOf(t, conn))
			if !strings.HasPrefix(line, fmt.Sprintf("HTTP/1.1 %d ", s)) || got["link"] != fmt.Sprint("x", s) || len(got) != 1 {
				t.Errorf("%q with %v", line, got)
			}
			step <- struct{}{}
		}
		resp, body := answerOf(t, readAll(t, conn))
		if resp.StatusCode != 200 || body != "ok" || resp.Header.Get("Link") != "" || resp.Header.Get("X-Last") == "" {
			t.Errorf("got %s %v %q", resp.Status, resp.Header, body)
		}
	})
	t.Run("not to HTTP/1.0", func(t *testing.T) {
		t.Parallel()
		f := startFront(t, local, nil)
		addr, _ := rawOrigin(t, "HTTP/1.1 103 X\r\n\r\n"+ok)
		conn := f.dial()
		write(t, conn, "GET http://"+addr+"/ HTTP/1.0\r\n\r\n")
		if resp, body := answerOf(t, readAll(t, conn)); resp.StatusCode != 200 || body != "ok" {
			t.Errorf("got %s %q", resp.Status, body)
		}
	})
	for n, want := range map[int]int{32: 200, 33: 502, 10000: 502} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			f := startFront(t, local, nil)
			addr, _ := rawOrigin(t, strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", n)+ok)
			conn := f.dial()
			write(t, conn, get(addr, "/", "Connection: close\r\n"))
			got := readAll(t, conn)
			passed := strings.Count(got, "HTTP/1.1 103 Early Hints\r\n\r\n")
			resp, body := answerOf(t, got[passed*len("HTTP/1.1 103 Early Hints\r\n\r\n"):])
			if resp.StatusCode != want || passed > 32 || want == 200 && passed != n {
				t.Errorf("%d passed on, then %s", passed, resp.Status)
			}
			if want == 502 {
				checkRefusal(t, resp, body, string(failure.TargetProtocol))
				if !strings.Contains(body, "more than 32 interim answers") {
					t.Errorf("body %q", body)
				}
			}
			f.noPanics(t)
		})
	}
}

// What net/http would refuse in a body without a word is refused here.
func TestPlainBodiesThatNetHTTPRefuses(t *testing.T) {
	t.Parallel()
	chunk := "1;" + strings.Repeat("e", 100) + "\r\nx\r\n"
	for name, body := range map[string]string{
		"extensions":   strings.Repeat(chunk, 1000) + "0\r\n\r\n",
		"long trailer": "1\r\nx\r\n0\r\nX: " + strings.Repeat("y", 5000) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFront(t, local, nil)
			addr := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
			conn := f.dial()
			write(t, conn, "POST http://"+addr+"/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"+body)
			resp, text := answerOf(t, readAll(t, conn))
			checkRefusal(t, resp, text, string(failure.BadRequest))
			f.refused(failure.BadRequest)
		})
	}
	for name, body := range map[string]string{
		"extensions of long chunks": strings.Repeat("64;chunk-signature="+strings.Repeat("e", 64)+"\r\n"+strings.Repeat("x", 100)+"\r\n", 1000) + "0\r\n\r\n",
		"one byte each":             strings.Repeat("000000000000001\r\nx\r\n", 5000) + "0\r\n\r\n",
		"longest trailer":           "1\r\nx\r\n0\r\nX: " + strings.Repeat("y", maxTrailer-3) + "\r\n\r\n",
		"most trailers":             "1\r\nx\r\n0\r\n" + strings.Repeat("X: "+strings.Repeat("y", maxTrailer/maxTrailers-3)+"\r\n", maxTrailers) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFront(t, local, nil)
			addr := listen(t, func(c net.Conn) {
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err == nil {
					n, err := io.Copy(io.Discard, r.Body)
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d %v", n, err)
				}
			})
			conn := f.dial()
			write(t, conn, "POST http://"+addr+"/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"+body)
			if resp, text := answerOf(t, readAll(t, conn)); resp.StatusCode != 200 || !strings.HasSuffix(text, " <nil>") {
				t.Errorf("got %s %q", resp.Status, text)
			}
		})
	}
}

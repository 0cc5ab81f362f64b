package upstream

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"proxyd/internal/dialer"
	"proxyd/internal/failure"
	"proxyd/internal/testkit"
)

// The idle connections of plain HTTP end when their upstream is ejected or drained.
func TestIdleConnectionsEndWithUpstream(t *testing.T) {
	for name, end := range map[string]func(u *Upstream){
		"ejected": func(u *Upstream) { u.recordUpstreamError(failure.UpstreamRefused, 1) },
		"drained": func(u *Upstream) { u.SetDrained("", true) },
	} {
		t.Run(name, func(t *testing.T) {
			server := answering(t)
			proxy := testkit.NewProxy(t, testkit.ProxyOptions{Scheme: "socks5", Hosts: map[string]string{"*": server.Addr}})
			s := load(t, "default: "+proxy.URL()+"\n", nil)
			t.Cleanup(s.Close)
			get(t, only(t, s), 1)
			end(only(t, s).members[0].Upstream)
			testkit.Eventually(t, testkit.Patience, "it is closed", func() bool { return server.Open() == 0 })
		})
	}
}

// An answer whose body stands still is given up; while the request's body moves
// it may be late.
//
// Promise (plain HTTP): no body may pause without a limit, in either direction.
func TestPlainLinkGivesUpWhereNothingMoves(t *testing.T) {
	tests := []struct {
		name  string
		write time.Duration // for so long a byte goes out each minute
		want  time.Duration // until the read ends
	}{
		{"silent", 0, bodyIdle},
		{"sending meanwhile", 12 * time.Minute, 15 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				closed := 0
				l := &plainLink{Conn: near, release: func() { closed++ }}
				go func() { _, _ = io.Copy(io.Discard, far) }() // until l is closed
				go func() {
					for range int(tt.write / time.Minute) {
						time.Sleep(time.Minute)
						_, _ = l.Write([]byte("x"))
					}
				}()
				start := time.Now()
				_, err := l.Read(make([]byte, 1))
				if took := time.Since(start); !dialer.IsTimeout(err) || took < tt.want-time.Second || took > tt.want+bodyIdle {
					t.Errorf("ended with %v after %v, want about %v", err, took, tt.want)
				}
				_ = l.Close()
				_ = l.Close()
				if closed != 1 {
					t.Errorf("released %d times", closed)
				}
			})
		})
	}
	t.Run("not taken", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			l := &plainLink{Conn: near, release: func() {}}
			defer l.Close()
			start := time.Now()
			if _, err := l.Write([]byte("x")); !dialer.IsTimeout(err) || time.Since(start) != bodyIdle {
				t.Errorf("ended with %v after %v", err, time.Since(start))
			}
		})
	})
}

// The head of an answer is kept as it came, in whatever pieces, without the
// interim ones before it and without what was there before the request.
func TestPlainLinkKeepsTheHead(t *testing.T) {
	const interim, head, body = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "HTTP/1.1 200 OK\r\nX-Odd: 1\r\n\r\n", "the\r\n\r\nbody"
	for _, text := range []string{"\n\n", "\r\n\r\n", "HTTP/1.1 \n\n"} {
		l := &plainLink{}
		l.await()
		l.look([]byte(text))
		if got, _ := l.answer(); string(got) != text {
			t.Errorf("%q: head %q", text, got)
		}
	}
	for _, text := range []string{head + body, interim + head + body, interim + interim + head + body, head} {
		for size := 1; size <= len(text); size++ {
			l := &plainLink{}
			l.look([]byte("HTTP/1.1 408 Unasked"))
			for range 2 {
				l.await()
				for rest := text; rest != ""; {
					n := min(size, len(rest))
					l.look([]byte(rest[:n]))
					rest = rest[n:]
				}
				got, tail := l.answer()
				if string(got) != head || size == len(text) && string(tail) != text[len(text)-len(tail):] {
					t.Fatalf("in pieces of %d: head %q, tail %q", size, got, tail)
				}
				if all := text[len(text)-len(body):]; size == len(text) && all == body && string(tail) != body {
					t.Errorf("tail %q", tail)
				}
			}
		}
	}
}

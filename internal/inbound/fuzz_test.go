package inbound

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// firstBytes gives what a front answers to bytes that arrive in pieces, until
// it closes the connection or, since nothing more comes, the client does.
func firstBytes(t *testing.T, f *front, pieces [][]byte) string {
	t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	for _, p := range pieces {
		if _, err := conn.Write(p); err != nil {
			break // refused already
		}
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	b, _ := io.ReadAll(conn) // an end or a reset, as it comes
	return string(b)
}

// rejecting is a configuration in which no bytes make anything be dialled.
const rejecting = "default: reject"

func fuzzFront(f *testing.F) *front { return startFront(f, rejecting, nil) }

// checkAnswers holds what is true of whatever a front says when nothing can be
// opened.
func checkAnswers(t *testing.T, f *front, b []byte, at uint16) {
	if len(b) > 2<<10 {
		return
	}
	i := min(int(at), len(b))
	for _, pieces := range [][][]byte{{b}, {b[:i], b[i:]}} {
		got := firstBytes(t, f, pieces)
		switch {
		case got == "":
		case b[0] == 5 && len(got) <= 2+2+10:
		case b[0] == 4 && got == string(socks4Refused):
		case len(got) > 13 && got[:9] == "HTTP/1.1 " && got[9] >= '4' && got[9] <= '5' && got[12:21] == " proxyd: ":
		default:
			t.Errorf("%q was answered %q", b, got)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.panics) > 0 {
		t.Errorf("%q: panic %v", b, f.panics[0])
	}
	f.records = f.records[:0]
}

func FuzzSniff(f *testing.F) {
	for _, s := range []string{"\x16\x03\x01", "\x00", "\x05\x01\x00", "\x04\x01", "GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n", "CONNECT a.example:443 HTTP/1.1\r\n\r\n",
		"GET http://a.example/ HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n", "POST http://a.example/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"} {
		f.Add([]byte(s), uint16(1))
	}
	front := fuzzFront(f)
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		if len(b) > 0 {
			checkAnswers(t, front, b, at)
		}
	})
}

func FuzzSOCKS5(f *testing.F) {
	f.Add([]byte(greetNone[1:]+nameTo443), uint16(2))
	f.Add([]byte(greetBoth[1:]+userPass("a", "b")+nameTo443), uint16(5))
	f.Add([]byte("\x00"), uint16(0))
	front := fuzzFront(f)
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		checkAnswers(t, front, append([]byte{5}, b...), at)
	})
}

// FuzzOriginAnswer: whatever an origin answers, the client gets an answer or a
// visible cut, and nothing panics.
func FuzzOriginAnswer(f *testing.F) {
	for _, s := range []string{"", "\n\n", "HTTP/1.1 099 X\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 103 X\r\n\r\nHTTP/1.1 304 X\r\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1\r\nx\r\n0\r\nX: 1\r\nSet-Cookie: a\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: close, X\r\n x\r\n\r\nrest"} {
		f.Add([]byte(s), uint16(9))
	}
	front := startFront(f, local, nil)
	var answer atomic.Pointer[[][]byte] // of the one request at a time
	addr := listen(f, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		for _, p := range *answer.Load() {
			_, _ = c.Write(p)
		}
	})
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		i := min(int(at), len(b))
		answer.Store(&[][]byte{b[:i], b[i:]})
		for _, more := range []string{"Connection: close\r\n", "Connection: Upgrade\r\nUpgrade: websocket\r\n"} {
			conn, err := net.Dial("tcp", front.addr)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = conn.Write([]byte(get(addr, "/", more)))
			if got, err := io.ReadAll(conn); err == nil && len(got) == 0 {
				t.Errorf("%q was answered with nothing", b)
			}
			conn.Close()
		}
		front.mu.Lock()
		defer front.mu.Unlock()
		if len(front.panics) > 0 {
			t.Errorf("%q: panic %v", b, front.panics[0])
		}
		front.records = front.records[:0]
	})
}

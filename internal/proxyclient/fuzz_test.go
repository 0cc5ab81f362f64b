package proxyclient

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"proxyd/internal/config"
)

// scripted is a far end that says one thing, in pieces, and then ends. What it
// is sent goes nowhere.
type scripted struct {
	say   []byte
	piece int // bytes a read
	read  int
}

// Read returns the next piece.
func (s *scripted) Read(p []byte) (int, error) {
	if s.read == len(s.say) {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.piece)], s.say[s.read:])
	s.read += n
	return n, nil
}

// Write takes everything.
func (s *scripted) Write(p []byte) (int, error) { return len(p), nil }

// Close and the rest do nothing.
func (s *scripted) Close() error                     { return nil }
func (s *scripted) LocalAddr() net.Addr              { return nil }
func (s *scripted) RemoteAddr() net.Addr             { return nil }
func (s *scripted) SetDeadline(time.Time) error      { return nil }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }

// fuzzReply lets upstreams of one scheme answer with anything. genuine is an
// oracle of its own: how many bytes of an answer open the tunnel, 0 when it does
// not. An answer in pieces must mean what it means in one.
//
// SOCKS5 is read in pieces only: its answers come in turns, and all of them together are an error.
func fuzzReply(f *testing.F, scheme config.Scheme, c *Credentials, genuine func(b []byte) int) {
	f.Helper()
	f.Fuzz(func(t *testing.T, say []byte, piece uint16) {
		var said [2]string
		for i, size := range []int{len(say) + 1, int(piece)%64 + 1} {
			if scheme == config.SchemeSOCKS5 && i == 0 {
				continue
			}
			far := &scripted{say: say, piece: size}
			k, e := shake(far, scheme, exchange, c)
			if len(k.buf) > headLimit || k.have > headLimit || far.read > (maxInterim+2)*headLimit {
				t.Fatalf("read %d bytes, have %d in %d", far.read, k.have, len(k.buf))
			}
			if e == nil {
				end := genuine(say)
				if end == 0 {
					t.Fatalf("took %q for a success", say)
				}
				if rest := say[end:far.read]; !bytes.Equal(rest, k.rest()) {
					t.Fatalf("behind %q came %q, kept %q", say[:end], rest, k.rest())
				}
				said[i] = "ok"
				continue
			}
			if e.Class == "" || e.Text == "" || strings.Contains(e.Text+e.Hint, "hunter2") {
				t.Fatalf("%q gives %+v", say, e)
			}
			for _, r := range e.Text + e.Hint {
				if r < ' ' || r > '~' {
					t.Fatalf("%q gives the text %q", say, e.Text)
				}
			}
			said[i] = string(e.Class)
		}
		if said[0] != "" && said[0] != said[1] && len(say) < headLimit {
			t.Fatalf("%q means %s, in pieces of %d %s", say, said[0], int(piece)%64+1, said[1])
		}
	})
}

func FuzzReplyHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 Connection established\r\n\r\n", "HTTP/1.0 200\r\n\r\nearly", "HTTP/1.1 299 x\nA: b\n\n", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n\x16\x03", strings.Repeat("HTTP/1.1 103 x\r\n\r\n", 6), "HTTP/1.1 101 Switching\r\n\r\n",
		"HTTP/1.1 407 x hunter2\r\nProxy-Authenticate: Basic realm=\"a, b\", NTLM\r\n\r\n", "HTTP/1.1 503 \r\nRetry-After: 5\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
		"HTTP/1.1 403 \xff\x00\x1b[31m" + strings.Repeat("w", 80) + "\r\n\r\n", "HTTP/1.1 403 " + strings.Repeat("w", 55) + "hunter2\r\n\r\n",
		"HTTP/1.1 200 OK\r\n: x\r\n\r\n", "HTTP/1.1 200 OK\r\nx\r\n\r\n", "HTTP/1.1 200 OK\r\n\rx", "HTTP/1.1 2000\r\n\r\n", "HTTP/1.1 000\r\n\r\n", "HTTP/2 200\r\n\r\n",
		"SSH-2.0-x\r\n", "\x15\x03\x01\x00\x02", "\x05\xff", "", padded(headLimit), padded(headLimit + 1),
	} {
		f.Add([]byte(s), uint16(0))
		f.Add([]byte(s), uint16(len(s)/2))
	}
	fuzzReply(f, config.SchemeHTTP, login("acct", "hunter2"), func(b []byte) int {
		end := 0
		for range maxInterim + 1 {
			head := b[end:]
			i, j := bytes.Index(head, []byte("\n\n")), bytes.Index(head, []byte("\n\r\n"))
			size := i + 2
			if i < 0 || (j >= 0 && j < i) {
				size = j + 3
			}
			if (i < 0 && j < 0) || size > headLimit || len(head) < 13 || !bytes.HasPrefix(head, []byte("HTTP/1.")) {
				return 0
			}
			end += size
			switch head[9] {
			case '1':
				continue
			case '2':
				return end
			}
			return 0
		}
		return 0
	})
}

func FuzzSOCKS5Reply(f *testing.F) {
	for _, s := range []string{
		"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00early", "\x05\x02\x01\x00\x05\x00\x00\x03\x00\x00\x00", "\x05\x02\x05\x00\x05\x00\x00\x04" + strings.Repeat("a", 18),
		"\x05\x02\x01\x00\x05\x00\x00\x03\xff" + strings.Repeat("a", 257), "\x05\x02\x01\x01", "\x05\xff", "\x05\x01", "\x05\x00\x05\x05", "\x05\x00\x05\x09\x00",
		"\x05\x00\x05\x00\x00\x02aaaaaa", "\x05\x00\x04\x00\x00\x01aaaaaa", "\x04\x00", "\x00\x5a\x00\x00", "HTTP/1.1 400 hunter2\r\n\r\n", "", "\x05", "\x05\x00\x05\x00",
	} {
		for piece := range uint16(4) {
			f.Add([]byte(s), piece)
		}
	}
	fuzzReply(f, config.SchemeSOCKS5, login("acct", "hunter2"), func(b []byte) int {
		end := 2
		switch {
		case bytes.HasPrefix(b, []byte("\x05\x00")):
		case bytes.HasPrefix(b, []byte("\x05\x02\x01\x00")), bytes.HasPrefix(b, []byte("\x05\x02\x05\x00")):
			end = 4
		default:
			return 0
		}
		r := b[end:]
		if !bytes.HasPrefix(r, []byte("\x05\x00")) || len(r) < 5 {
			return 0
		}
		size, known := map[byte]int{1: 10, 4: 22, 3: 7 + int(r[4])}[r[3]]
		if !known || len(r) < size {
			return 0
		}
		return end + size
	})
}

func FuzzSOCKS4Reply(f *testing.F) {
	for _, s := range []string{
		"\x00\x5a\x00\x00\x00\x00\x00\x00", "\x00\x5a\x12\x34\x7f\x00\x00\x01early", "\x00\x5b", "\x00\x5c\x00\x00\x00\x00\x00\x00", "\x00\x5d", "\x00\x5e", "\x04\x5a\x00\x00\x00\x00\x00\x00",
		"\x05\xff", "HTTP/1.1 400 x\r\n\r\n", "", "\x00", "\x00\x5a\x00\x00\x00\x00\x00",
	} {
		for piece := range uint16(3) {
			f.Add([]byte(s), piece)
		}
	}
	fuzzReply(f, config.SchemeSOCKS4A, login("hunter2", ""), func(b []byte) int {
		if bytes.HasPrefix(b, []byte("\x00\x5a")) && len(b) >= 8 {
			return 8
		}
		return 0
	})
}

package inbound

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// outcome is what reading a head came to, comparable.
type outcome struct {
	Err    string
	Method string
	Target string
	Fields []string
	Length int64
	Chunk  bool
	Rest   string
}

// readOutcome reads one head that arrives in pieces.
func readOutcome(pieces [][]byte) outcome {
	in := input{conn: &bytesConn{pieces: pieces}}
	defer in.release()
	var h head
	if err := in.readHead(&h); err != nil {
		return outcome{Err: err.Error()}
	}
	o := outcome{Method: string(h.method), Target: string(h.target), Length: h.length, Chunk: h.chunked}
	for _, f := range h.fields {
		o.Fields = append(o.Fields, string(f.name)+"="+string(f.value))
	}
	in.use(len(h.raw))
	o.Rest = string(in.pending())
	return o
}

func TestHeadRefusals(t *testing.T) {
	const url = "GET http://h.example/ HTTP/1.1\r\n"
	const host = "Host: h.example\r\n"
	long := strings.Repeat("a", 9<<10)
	tests := []struct {
		name, head, want string
		status           int
	}{
		{"HTTP-04 length and coding", url + host + "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n", "both Content-Length and Transfer-Encoding", 0},
		{"HTTP-05 two lengths", url + host + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "more than one Content-Length", 0},
		{"HTTP-05 list", url + host + "Content-Length: 5, 6\r\n\r\n", "not a number", 0},
		{"HTTP-05 plus", url + host + "Content-Length: +5\r\n\r\n", "not a number", 0},
		{"HTTP-05 hex", url + host + "Content-Length: 0x5\r\n\r\n", "not a number", 0},
		{"HTTP-05 empty", url + host + "Content-Length: \r\n\r\n", "not a number", 0},
		{"HTTP-05 20 digits", url + host + "Content-Length: 12345678901234567890\r\n\r\n", "not a number", 0},
		{"HTTP-05 negative", url + host + "Content-Length: -1\r\n\r\n", "not a number", 0},
		{"HTTP-05 inner space", url + host + "Content-Length: 5 5\r\n\r\n", "not a number", 0},
		{"HTTP-06 xchunked", url + host + "Transfer-Encoding: xchunked\r\n\r\n", "not supported", 501},
		{"HTTP-06 list", url + host + "Transfer-Encoding: chunked, identity\r\n\r\n", "not supported", 501},
		{"HTTP-06 twice", url + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "more than one Transfer-Encoding", 0},
		{"HTTP-06 vertical tab", url + host + "Transfer-Encoding:\x0bchunked\r\n\r\n", "control character", 0},
		{"HTTP-06 space before colon", url + host + "Transfer-Encoding : chunked\r\n\r\n", "space before the colon", 0},
		{"HTTP-06 in 1.0", "POST http://h.example/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0", 0},
		{"HTTP-09 bare LF", "GET http://h.example/ HTTP/1.1\nHost: h.example\n\n", "bare line feed", 0},
		{"HTTP-09 bare LF later", url + "Host: h.example\nX: y\r\n\r\n", "bare line feed", 0},
		{"HTTP-09 LF alone", url + host + "\n", "bare line feed", 0},
		{"HTTP-11 fold", url + host + "X-A: 1\r\n Evil: 2\r\n\r\n", "folded", 0},
		{"HTTP-11 fold at once", url + "\tHost: h\r\n\r\n", "folded", 0},
		{"HTTP-14 two hosts", url + host + host + "\r\n", "more than one Host", 0},
		{"HTTP-14 no host", url + "\r\n", "needs a Host", 0},
		{"HTTP-14 host list", url + "Host: a, b\r\n\r\n", "not one host", 0},
		{"HTTP-14 host tab", url + "Host: a\tb\r\n\r\n", "not one host", 0},
		{"HTTP-14 host userinfo", url + "Host: a@b\r\n\r\n", "not one host", 0},
		{"HTTP-16 fragment", "GET http://127.0.0.1:80#@evil.example/ HTTP/1.1\r\n" + host + "\r\n", "has a #", 0},
		{"HTTP-16 backslash", "GET http://evil.example\\@127.0.0.1/ HTTP/1.1\r\n" + host + "\r\n", "has a \\", 0},
		{"HTTP-26 ssh", "SSH-2.0-x\r\n", "is not: METHOD", 0},
		{"HTTP-26 other protocol", "RTSP/1.0 x\r\n", "no HTTP request", 0},
		{"HTTP-26 binary after a letter", "A\x00\x01", "no HTTP request", 0},
		{"HTTP-30 long line", "GET http://h.example/" + long + " HTTP/1.1\r\n" + host + "\r\n", "longer than 8 KiB", 414},
		{"HTTP-30 long line without end", "GET http://h.example/" + long, "longer than 8 KiB", 414},
		{"HTTP-30 long header", url + host + "X: " + strings.Repeat("x", 40<<10) + "\r\n\r\n", "longer than 32 KiB", 431},
		{"HTTP-30 endless header", url + host + "X: " + strings.Repeat("x", 40<<10), "longer than 32 KiB", 431},
		{"HTTP-30 many fields", url + host + strings.Repeat("a:b\r\n", 100) + "\r\n", "more than 100 fields", 431},
		{"method too long", strings.Repeat("A", 40) + " http://h/ HTTP/1.1\r\n\r\n", "longer than 32", 0},
		{"two spaces", "GET  http://h.example/ HTTP/1.1\r\n" + host + "\r\n", "is not: METHOD", 0},
		{"space in target", "GET http://h.example/a b HTTP/1.1\r\n" + host + "\r\n", "is not: METHOD", 0},
		{"tab in line", "GET\thttp://h.example/ HTTP/1.1\r\n" + host + "\r\n", "no HTTP request", 0},
		{"no version", "GET http://h.example/\r\n\r\n", "is not: METHOD", 0},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "only HTTP/1.1", 505},
		{"HTTP/1.2", "GET http://h.example/ HTTP/1.2\r\n" + host + "\r\n", "only HTTP/1.1", 505},
		{"lower-case version", "GET http://h.example/ http/1.1\r\n" + host + "\r\n", "does not end in", 0},
		{"utf-8 in target", "GET http://h.example/ü HTTP/1.1\r\n" + host + "\r\n", "percent-encoded", 0},
		{"bare CR in line", "GET http://h.example/ HTTP/1.1\r\r\n" + host + "\r\n", "only HTTP/1.1", 505},
		{"NUL in value", url + host + "X: a\x00b\r\n\r\n", "control character", 0},
		{"CR in value", url + host + "X: a\rb\r\n\r\n", "control character", 0},
		{"DEL in value", url + host + "X: a\x7fb\r\n\r\n", "control character", 0},
		{"no colon", url + host + "nonsense\r\n\r\n", "has no colon", 0},
		{"empty name", url + host + ": x\r\n\r\n", "has no name", 0},
		{"bad name", url + host + "X(y): x\r\n\r\n", "character that no name has", 0},
		{"cut short", url + "Host: h", "in the middle of its head", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for arrival, pieces := range map[string][][]byte{"whole": whole([]byte(tt.head)), "byte by byte": byteByByte([]byte(tt.head))} {
				in := input{conn: &bytesConn{pieces: pieces}}
				var h head
				f := asFault(in.readHead(&h))
				if f == nil || !strings.Contains(f.text, tt.want) || f.status != tt.status {
					t.Errorf("%s: got %+v, want status %d and %q", arrival, f, tt.status, tt.want)
				}
				if size := cap(in.b); size > maxHead {
					t.Errorf("%s: holds %d bytes", arrival, size)
				}
				in.release()
			}
		})
	}
}

// A bad line is refused when it arrives, not when the head would be complete.
func TestHeadRefusedAtOnce(t *testing.T) {
	for _, text := range []string{"GET http://h/ HTTP/1.1\n", "SSH-2.0-OpenSSH_9.9\r\n", "GET http://h/ HTTP/3.0\r\n", "\x00"} {
		in := input{conn: &bytesConn{pieces: whole([]byte(text))}}
		var h head
		if f := asFault(in.readHead(&h)); f == nil || strings.Contains(f.text, "middle") {
			t.Errorf("%q: got %v, want a refusal before the end of input", text, f)
		}
		in.release()
	}
}

func TestHeadAccepted(t *testing.T) {
	tests := []struct {
		name, text string
		want       outcome
	}{
		{"python 3.11", "CONNECT stream.exchange.test:443 HTTP/1.0\r\n\r\n", outcome{Method: "CONNECT", Target: "stream.exchange.test:443"}},
		{"python 3.12", "CONNECT a.test:443 HTTP/1.1\r\nProxy-Authorization: Basic dS52OnA=\r\nHost: a.test:443\r\n\r\nEARLY", outcome{
			Method: "CONNECT", Target: "a.test:443", Fields: []string{"Proxy-Authorization=Basic dS52OnA=", "Host=a.test:443"}, Rest: "EARLY",
		}},
		{"httpx IPv6", "CONNECT ::1:8443 HTTP/1.1\r\nHost: ::1:8443\r\nAccept: */*\r\n\r\n", outcome{
			Method: "CONNECT", Target: "::1:8443", Fields: []string{"Host=::1:8443", "Accept=*/*"},
		}},
		{"chunked once", "POST http://h/ HTTP/1.1\r\nhost:h\r\ntransfer-encoding:\t Chunked \r\n\r\n", outcome{
			Method: "POST", Target: "http://h/", Fields: []string{"host=h", "transfer-encoding=Chunked"}, Chunk: true,
		}},
		{"length", "POST http://h/ HTTP/1.1\r\nHost:\r\nContent-Length: 007\r\n\r\nabc", outcome{
			Method: "POST", Target: "http://h/", Fields: []string{"Host=", "Content-Length=007"}, Length: 7, Rest: "abc",
		}},
		{"latin-1 value", "GET http://h/ HTTP/1.0\r\nX: caf\xe9\r\n\r\n", outcome{Method: "GET", Target: "http://h/", Fields: []string{"X=caf\xe9"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, readOutcome(whole([]byte(tt.text)))); diff != "" {
				t.Errorf("whole (-want +got):\n%s", diff)
			}
			rest := tt.want.Rest
			tt.want.Rest = ""
			got := readOutcome(byteByByte([]byte(tt.text)))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("byte by byte, without %q behind (-want +got):\n%s", rest, diff)
			}
		})
	}
}

func FuzzHTTPHead(f *testing.F) {
	f.Add([]byte("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\nEARLY"), uint16(3))
	f.Add([]byte("GET http://h/ HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n"), uint16(9))
	f.Add([]byte("POST http://h/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"), uint16(30))
	f.Add([]byte("GET / HTTP/1.1\nHost: h\n\n"), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		want := readOutcome(whole(b))
		if want.Err == "" {
			checkHead(t, b, want)
		}
		i := min(int(at), len(b))
		for name, pieces := range map[string][][]byte{"byte by byte": byteByByte(b), "in two": {b[:i], b[i:]}} {
			got := readOutcome(pieces)
			if want.Err != "" && got.Err != "" {
				continue // of several errors the first that shows is reported
			}
			got.Rest, want.Rest = "", "" // how much is read behind the head depends on how it arrives
			if diff := cmp.Diff(want, got); diff != "" && len(b) < smallBuf {
				t.Errorf("%s (-whole +split):\n%s", name, diff)
			}
		}
	})
}

// checkHead holds what is true of every head that is let through.
func checkHead(t *testing.T, b []byte, o outcome) {
	raw := b[:bytes.Index(b, []byte("\r\n\r\n"))+4]
	if bytes.Count(raw, []byte("\n")) != bytes.Count(raw, []byte("\r\n")) || bytes.Count(raw, []byte("\r")) != bytes.Count(raw, []byte("\r\n")) {
		t.Errorf("a bare CR or LF passed: %q", raw)
	}
	for _, c := range raw {
		if c < ' ' && c != '\t' && c != '\r' && c != '\n' || c == 0x7f {
			t.Errorf("a control character passed: %q", raw)
		}
	}
	if len(raw) > maxHead || len(o.Fields) > maxFields {
		t.Errorf("%d bytes, %d fields passed", len(raw), len(o.Fields))
	}
	if o.Chunk && o.Length != 0 {
		t.Errorf("two lengths: %+v", o)
	}
}

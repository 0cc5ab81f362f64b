package inbound

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// feedChunks feeds a chunked body and gives what belongs to it.
func feedChunks(b []byte, step int) (used int, done bool, f *refusal) {
	var c chunks
	for used < len(b) && !c.done {
		piece := b[used:min(used+step, len(b))]
		n, f := c.feed(piece)
		used += n
		if f != nil {
			return used, false, f
		}
	}
	return used, c.done, nil
}

func TestChunked(t *testing.T) {
	tests := []struct {
		name, body string
		used       int // -1: all of it
		done       bool
		want       string
	}{
		{"plain", "5\r\nhello\r\n0\r\n\r\nNEXT", 15, true, ""},
		{"hex and extension", "A;x=\"y z\"\r\n0123456789\r\n0\r\n\r\n", -1, true, ""},
		{"trailers", "0\r\nX-Sum: 1\r\nX-B: 2\r\n\r\nZ", 23, true, ""},
		{"unfinished", "5\r\nhel", -1, false, ""},
		{"HTTP-07 negative", "-1\r\n", 0, false, "hexadecimal"},
		{"HTTP-07 too many digits", "ffffffffffffffff1\r\n", 15, false, "hexadecimal"},
		{"HTTP-07 extension with LF", "5;ext=\nhello", 6, false, "extension"},
		{"HTTP-07 bare LF", "5\nhello\n", 1, false, "hexadecimal"},
		{"HTTP-07 prefix", "0x5\r\n", 1, false, "hexadecimal"},
		{"HTTP-07 missing CRLF", "5\r\nhelloX", 8, false, "longer than its size"},
		{"HTTP-07 trailer length", "0\r\nContent-Length: 5\r\n\r\n", 21, false, "trailer"},
		{"HTTP-07 trailer coding", "0\r\nTransfer-Encoding: chunked\r\n\r\n", 30, false, "trailer"},
		{"empty size", "\r\n", 0, false, "hexadecimal"},
		{"space before size", " 5\r\n", 0, false, "hexadecimal"},
		{"space behind size", "5 \r\n", 1, false, "hexadecimal"},
		{"CR without LF behind size", "5\rX", 2, false, "hexadecimal"},
		{"long extension", "5;" + strings.Repeat("x", 300), 258, false, "extension"},
		{"folded trailer", "0\r\nX: 1\r\n Y: 2\r\n\r\n", 15, false, "trailer"},
		{"bare LF trailer", "0\r\nX: 1\n\n", 7, false, "trailer"},
		{"endless trailer", "0\r\nX: " + strings.Repeat("y", 9<<10), 3 + maxTrailer, false, "3 KiB"},
		{"many trailers", "0\r\n" + strings.Repeat("X: 1\r\n", 40), 3 + 33*6 - 1, false, "32"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.used
			if want < 0 {
				want = len(tt.body)
			}
			for _, step := range []int{1, 2, 3, 7, len(tt.body)} {
				used, done, f := feedChunks([]byte(tt.body), step)
				text := ""
				if f != nil {
					text = f.text
				}
				if used != want || done != tt.done || (text == "") != (tt.want == "") || !strings.Contains(text, tt.want) {
					t.Errorf("by %d: used %d, done %v, refusal %q; want %d, %v, %q", step, used, done, text, want, tt.done, tt.want)
				}
			}
		})
	}
}

func FuzzChunked(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\nX: y\r\n\r\nNEXT"), uint16(4))
	f.Add([]byte("5;ext=\nhello"), uint16(2))
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		used, done, refusal := feedChunks(b, max(1, len(b)))
		for _, step := range []int{1, int(at) + 1} {
			u, d, fl := feedChunks(b, step)
			if u != used || d != done || (fl == nil) != (refusal == nil) {
				t.Errorf("by %d: %d, %v, %v; whole: %d, %v, %v", step, u, d, fl, used, done, refusal)
			}
		}
		if !done {
			return
		}
		// The standard library, which is more lenient, must see the same end.
		body := bytes.NewReader(b)
		got, err := decodeChunked(body)
		if err != nil || len(b)-body.Len() != used {
			t.Errorf("net/http reads %q, %d of %d bytes (%v); we read %d", got, len(b)-body.Len(), len(b), err, used)
		}
	})
}

// oneByte keeps a buffered reader from reading ahead.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

// decodeChunked decodes a chunked body as net/http does.
func decodeChunked(r io.Reader) ([]byte, error) {
	head := "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), oneByte{r})))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(req.Body)
}

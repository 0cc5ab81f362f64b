package admin

import (
	"bufio"
	"io"
	"strconv"
)

// harmless reads an answer whose text goes to a terminal. What listens at the
// admin address may be another's: each control character but the line end and the
// tab, as it is or as JSON escapes it, becomes a "?". It keeps no byte back.
type harmless struct {
	io.Closer
	r       *bufio.Reader
	escaped bool // a backslash is behind it
}

func newHarmless(body io.ReadCloser) *harmless {
	return &harmless{Closer: body, r: bufio.NewReaderSize(body, 32<<10)}
}

// Read implements io.Reader.
func (h *harmless) Read(p []byte) (n int, err error) {
	for n < len(p) && (n == 0 || h.r.Buffered() > 0) {
		b, err := h.r.ReadByte()
		if err != nil {
			return n, err
		}
		p[n] = h.clean(b)
		n++
	}
	return n, nil
}

// clean returns what stands for b, and skips the rest of what it begins.
func (h *harmless) clean(b byte) byte {
	escaped := h.escaped
	h.escaped = false
	switch {
	case b == '\\' && !escaped:
		if n := h.escapedControl(); n > 0 {
			_, _ = h.r.Discard(n) // it was looked at
			return '?'
		}
		h.escaped = true
	case b < ' ' && b != '\n' && b != '\t', b == 0x7f:
		return '?'
	case b == 0xc2: // U+0080 to U+009F in UTF-8
		if next, err := h.r.Peek(1); err == nil && next[0] >= 0x80 && next[0] <= 0x9f {
			_, _ = h.r.Discard(1)
			return '?'
		}
	}
	return b
}

// escapedControl returns the length of the control character that follows a
// backslash, 0 if there is none.
func (h *harmless) escapedControl() int {
	next, err := h.r.Peek(1)
	switch {
	case err != nil:
	case next[0] == 'b', next[0] == 'f', next[0] == 'r':
		return 1
	case next[0] == 'u':
		five, err := h.r.Peek(5)
		if err != nil {
			break
		}
		c, err := strconv.ParseUint(string(five[1:]), 16, 16)
		if err == nil && (c < ' ' && c != '\n' && c != '\t' || c >= 0x7f && c <= 0x9f) {
			return 5
		}
	}
	return 0
}

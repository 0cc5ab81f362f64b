package inbound

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// plainWriter is what goproxy writes an answer to. Everything reaches the
// client at once, and nothing is added that the server did not say.
type plainWriter struct {
	w      http.ResponseWriter
	length int64 // of the answer's body; -1 unknown
	silent bool  // what is written goes nowhere

	mu       sync.Mutex // interim answers are another goroutine's
	written  int64
	answered bool // or refused: no interim answer goes out any more
}

// Header returns the answer's fields, or fields that are never sent.
func (w *plainWriter) Header() http.Header {
	if w.silent {
		return http.Header{}
	}
	return w.w.Header()
}

// WriteHeader writes the head.
func (w *plainWriter) WriteHeader(status int) {
	if w.silent {
		return
	}
	h := w.w.Header()
	for _, name := range []string{"Content-Type", "Date"} { // net/http would add them
		if _, ok := h[name]; !ok {
			h[name] = nil
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.w.WriteHeader(status)
}

// interim writes a 1xx answer with these fields. It does nothing once the
// exchange has its answer: the server's goroutine may come late.
func (w *plainWriter) interim(status int, fields http.Header) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answered {
		return
	}
	stripResponse(fields, nil)
	h := w.w.Header()
	for name, values := range fields {
		h[name] = values
	}
	w.w.WriteHeader(status)
	clear(h)
}

// settle ends the interim answers: none is sent afterwards.
func (w *plainWriter) settle() {
	w.mu.Lock()
	w.answered = true
	w.mu.Unlock()
}

// Write passes bytes on, to the client at once unless they are the last: then
// net/http's own flush follows.
func (w *plainWriter) Write(p []byte) (int, error) {
	if w.silent {
		return len(p), nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.w.Write(p)
	w.written += int64(n)
	if err == nil && (w.length < 0 || w.written < w.length) {
		err = http.NewResponseController(w.w).Flush()
	}
	return n, err
}

// Flush sends what is buffered; trailers need it.
func (w *plainWriter) Flush() {
	if w.silent {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = http.NewResponseController(w.w).Flush()
}

// answerBody is an answer's body. If it breaks off, so does the client's
// connection: an answer that is not whole must not look whole.
type answerBody struct {
	io.ReadCloser
	x    *transaction
	resp *http.Response
	late bool // nothing of it is here yet: the head goes first
}

var copyBufs = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// WriteTo copies to the client (io.Copy asks for it).
func (b *answerBody) WriteTo(w io.Writer) (int64, error) {
	buf := copyBufs.Get().(*[32 << 10]byte)
	defer copyBufs.Put(buf)
	if b.late {
		b.x.Flush()
	}
	var total int64
	for {
		n, err := b.Read(buf[:])
		if n > 0 {
			m, werr := w.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			dropTrailers(b.resp.Trailer)
			return total, nil
		case err != nil:
			b.x.Flush() // what has come is the client's: without it some would ask again
			panic(http.ErrAbortHandler)
		}
	}
}

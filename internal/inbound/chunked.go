package inbound

import "strings"

// The most that is accepted of what surrounds the data of a chunked body.
const (
	maxChunkDigits = 15 // of a chunk's size: fits an int64 for certain
	maxChunkExt    = 256
	maxChunkExcess = 8 << 10 // of sizes and extensions above what the data would excuse
	maxTrailer     = 3 << 10 // net/http takes 4 KiB with the line ends
	maxTrailers    = 32
)

// chunks reads along a chunked body (RFC 9112 section 7.1) to find its end,
// and refuses what others might read differently: sizes with a sign, a prefix
// or too many digits, bare line feeds, control characters, and trailers that
// would change the message. It changes nothing.
type chunks struct {
	state   chunkState
	size    int64  // of the chunk; what is left of its data
	count   int    // digits, bytes of extension, bytes of trailers
	line    int    // bytes of the line with the chunk's size
	excess  int64  // of such lines, as net/http counts it
	fields  int    // trailers
	trailer []byte // the line at hand
	done    bool
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExt
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
	chunkTrailerLF
)

// feed looks at the next bytes and returns how many of them belong to the body.
// All of them do unless the body ends among them or one is wrong.
func (c *chunks) feed(b []byte) (int, *refusal) {
	for i := 0; i < len(b); {
		if c.state == chunkData {
			n := int(min(c.size, int64(len(b)-i)))
			i += n
			if c.size -= int64(n); c.size == 0 {
				c.state = chunkDataCR
			}
			continue
		}
		if f := c.step(b[i]); f != nil {
			return i, f
		}
		i++
		if c.done {
			return i, nil
		}
	}
	return len(b), nil
}

var (
	badChunkSize  = bad("the body's chunk size is not a hexadecimal number that ends in CR LF")
	badChunkEnd   = bad("a chunk of the body is longer than its size says")
	badChunkExt   = bad("a chunk's extension is too long or has a control character in it")
	badChunkExts  = bad("the extensions of the body's chunks are far longer than their data")
	badTrailer    = bad("a trailer behind the body is malformed, or a field that cannot stand there")
	tooManyTrails = badStatus(431, "the trailers behind the body are longer than 3 KiB or more than 32", "")
)

// step takes one byte that is not data.
func (c *chunks) step(b byte) *refusal {
	if c.state <= chunkSizeLF {
		c.line++
	}
	switch c.state {
	case chunkSize:
		return c.sizeByte(b)
	case chunkExt:
		if b == '\r' {
			c.state = chunkSizeLF
			return nil
		}
		if c.count++; c.count > maxChunkExt || b < ' ' && b != '\t' || b == 0x7f {
			return badChunkExt
		}
	case chunkSizeLF:
		if b != '\n' {
			return badChunkSize
		}
		// net/http refuses a body with so much besides its data, and would not say so.
		if c.excess = max(0, c.excess+int64(c.line)+2-16-2*c.size); c.excess > maxChunkExcess {
			return badChunkExts
		}
		c.count, c.line = 0, 0
		c.state = chunkData
		if c.size == 0 {
			c.state = chunkTrailer
		}
	case chunkDataCR:
		if b != '\r' {
			return badChunkEnd
		}
		c.state = chunkDataLF
	case chunkDataLF:
		if b != '\n' {
			return badChunkEnd
		}
		c.state = chunkSize
	case chunkTrailer:
		return c.trailerByte(b)
	case chunkTrailerLF:
		return c.trailerEnd(b)
	}
	return nil
}

func (c *chunks) sizeByte(b byte) *refusal {
	digit, ok := unhex(b)
	switch {
	case ok && c.count < maxChunkDigits:
		c.size = c.size<<4 | int64(digit)
		c.count++
		return nil
	case c.count == 0 || ok:
		return badChunkSize
	case b == '\r':
		c.state = chunkSizeLF
		return nil
	case b == ';':
		c.count, c.state = 0, chunkExt
		return nil
	}
	return badChunkSize
}

func (c *chunks) trailerByte(b byte) *refusal {
	if b == '\r' {
		c.state = chunkTrailerLF
		return nil
	}
	if b == '\n' {
		return badTrailer
	}
	if c.count++; c.count > maxTrailer {
		return tooManyTrails
	}
	c.trailer = append(c.trailer, b)
	return nil
}

// trailerEnd takes the line feed behind a trailer, or behind the body.
func (c *chunks) trailerEnd(b byte) *refusal {
	if b != '\n' {
		return badTrailer
	}
	if len(c.trailer) == 0 {
		c.done = true
		return nil
	}
	x, f := parseField(c.trailer)
	if f != nil || !mayTrail(string(x.name)) {
		return badTrailer
	}
	if c.fields++; c.fields > maxTrailers {
		return tooManyTrails
	}
	c.trailer, c.state = c.trailer[:0], chunkTrailer
	return nil
}

// mayTrail reports whether a field may stand in a trailer: not if it frames,
// routes, authenticates or controls the message, or says what its content is
// (RFC 9110 section 6.5.1).
func mayTrail(name string) bool { return !noTrailer[strings.ToLower(name)] }

var noTrailer = func() map[string]bool {
	set := map[string]bool{}
	for name := range strings.FieldsSeq(`content-length transfer-encoding trailer host connection upgrade te expect keep-alive
		max-forwards proxy-connection content-encoding content-type content-range range
		authorization proxy-authorization www-authenticate proxy-authenticate cookie set-cookie
		if-match if-none-match if-modified-since if-unmodified-since if-range
		age cache-control date expires location pragma retry-after vary warning`) {
		set[name] = true
	}
	return set
}()

func unhex(b byte) (byte, bool) {
	switch {
	case '0' <= b && b <= '9':
		return b - '0', true
	case 'a' <= b && b <= 'f':
		return b - 'a' + 10, true
	case 'A' <= b && b <= 'F':
		return b - 'A' + 10, true
	}
	return 0, false
}

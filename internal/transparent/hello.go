package transparent

import "encoding/binary"

// Numbers of TLS (RFC 8446 sections 4, 4.2 and 5.1; RFC 6066 section 3).
const (
	recordHandshake     = 0x16
	messageClientHello  = 1
	extensionServerName = 0
	nameTypeHost        = 0
	maxRecord           = 16 << 10 // of a record in clear
	recordHead          = 5
)

var (
	malformed = First{Speaks: TLS, Why: "its ClientHello is malformed"}
	unnamed   = First{Speaks: TLS, Why: "its ClientHello has no server name"}
	cutHello  = First{Speaks: TLS, Why: "its ClientHello has not come whole"}
)

// lookTLS reads the server name of a ClientHello as soon as it has come; large key
// shares may follow in other segments. With an encrypted ClientHello it is the outer
// name: the one that any network on the path sees, too.
func lookTLS(b []byte, last bool) (First, bool) {
	message, more, ok := handshake(b)
	if !ok {
		return neither, true
	}
	f, done := serverName(message, more)
	if !done && last {
		return cutHello, true
	}
	return f, done
}

// handshake returns the handshake bytes of the records in b, and whether more may
// follow: the last record need not be whole. It copies only where a ClientHello is
// spread over several records.
func handshake(b []byte) (message []byte, more, ok bool) {
	for first := true; len(b) > 0; first = false {
		if b[0] != recordHandshake || len(b) > 1 && b[1] != 3 {
			return message, false, !first // what follows is no part of the message
		}
		if len(b) < recordHead {
			return message, true, true
		}
		n := int(binary.BigEndian.Uint16(b[3:5]))
		if n == 0 || n > maxRecord {
			return message, false, !first
		}
		body := b[recordHead:]
		whole := len(body) >= n
		if whole {
			body = body[:n]
		}
		if first {
			message = body[:len(body):len(body)]
		} else {
			message = append(message, body...)
		}
		if !whole {
			return message, true, true
		}
		b = b[recordHead+n:]
	}
	return message, true, true
}

// serverName reads the name in the beginning of a ClientHello; more is whether the
// rest may follow.
func serverName(b []byte, more bool) (First, bool) {
	m := hello{b: b, more: more}
	head := m.take(4)
	if head == nil {
		return m.short()
	}
	if head[0] != messageClientHello {
		return neither, true
	}
	m.limit(int(head[1])<<16 | int(head[2])<<8 | int(head[3]))
	if m.take(2+32) == nil || !m.skip(1) || !m.skip(2) || !m.skip(1) { // version and random; session, ciphers, compression
		return m.short()
	}
	if m.atEnd() {
		return unnamed, true // TLS 1.0 without extensions
	}
	length := m.take(2)
	if length == nil {
		return m.short()
	}
	m.limit(int(binary.BigEndian.Uint16(length)))
	for !m.atEnd() {
		x := m.take(4)
		if x == nil {
			return m.short()
		}
		n := int(binary.BigEndian.Uint16(x[2:]))
		if binary.BigEndian.Uint16(x) != extensionServerName {
			if m.take(n) == nil {
				return m.short()
			}
			continue
		}
		value := m.take(n)
		if value == nil {
			return m.short()
		}
		return hostName(value), true
	}
	return unnamed, true
}

// hostName reads the value of the extension server_name.
func hostName(b []byte) First {
	m := hello{b: b}
	length := m.take(2)
	if length == nil || int(binary.BigEndian.Uint16(length)) != len(m.b) {
		return malformed
	}
	for len(m.b) > 0 {
		kind := m.take(1)
		n := m.take(2)
		if n == nil {
			return malformed
		}
		name := m.take(int(binary.BigEndian.Uint16(n)))
		switch {
		case name == nil:
			return malformed
		case kind[0] != nameTypeHost:
		case len(name) == 0:
			return malformed
		default:
			return First{Speaks: TLS, Host: string(name)}
		}
	}
	return unnamed
}

// hello reads a message of which only the beginning may be there.
type hello struct {
	b       []byte // what is there and not read
	more    bool   // what lacks may still come
	limited bool
	left    int  // until the end that a length has set, where limited
	bad     bool // a length goes beyond the one around it
}

// limit sets the end of what is read. An inner length may not go beyond the outer
// one, and one that does not reach it leaves bytes that nothing describes.
func (m *hello) limit(n int) {
	if m.limited && n != m.left {
		m.bad = true
	}
	m.limited, m.left = true, n
}

func (m *hello) atEnd() bool { return m.limited && m.left == 0 && !m.bad }

// take returns the next n bytes, nil if they are not there: then short says why.
func (m *hello) take(n int) []byte {
	if m.bad || m.limited && n > m.left {
		m.bad = true
		return nil
	}
	if n > len(m.b) {
		return nil
	}
	b := m.b[:n:n]
	m.b = m.b[n:]
	m.left -= n
	return b
}

// skip reads a vector whose length has so many bytes.
func (m *hello) skip(size int) bool {
	n := 0
	length := m.take(size)
	if length == nil {
		return false
	}
	for _, c := range length {
		n = n<<8 | int(c)
	}
	return m.take(n) != nil
}

// short returns what it means that bytes were not there.
func (m *hello) short() (First, bool) {
	if m.more && !m.bad {
		return First{}, false
	}
	return malformed, true
}

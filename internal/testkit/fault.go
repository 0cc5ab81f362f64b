package testkit

import (
	"io"
	"net"
	"strconv"
	"time"
)

// Stage is a point in a fake proxy's work.
type Stage int

// The stages.
const (
	AtAccept   Stage = iota + 1 // nothing has been read (with an https proxy: not even the TLS hello)
	AtGreeting                  // SOCKS5: the greeting has been read; other schemes: as AtRequest
	AtRequest                   // the whole request has been read
)

// Fault is what a fake proxy does instead of its work.
type Fault struct {
	At   Stage
	Do   func(net.Conn) // the connection is closed when it returns
	Host string         // AtRequest: for this target host alone; "": for all
}

// On returns a Fault that runs do at a stage.
func On(at Stage, do func(net.Conn)) *Fault { return &Fault{At: at, Do: do} }

// Close closes at once: a FIN, or a RST where the peer's bytes lie unread.
func Close(net.Conn) {}

// Say writes text and a FIN, and closes when the peer has.
func Say(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, text)
		CloseWrite(c)
		Hang(c)
	}
}

// SayAndHang writes text and then never anything more.
func SayAndHang(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, text)
		Hang(c)
	}
}

// Drip writes text byte by byte, every so often, and hangs then.
func Drip(text string, every time.Duration) func(net.Conn) {
	return func(c net.Conn) {
		for i := range len(text) {
			if _, err := io.WriteString(c, text[i:i+1]); err != nil {
				return
			}
			time.Sleep(every)
		}
		Hang(c)
	}
}

// Endless writes head, and then line without end, until the peer closes.
func Endless(head, line string) func(net.Conn) {
	return func(c net.Conn) {
		_, err := io.WriteString(c, head)
		for err == nil {
			_, err = io.WriteString(c, line)
		}
	}
}

// Answer returns an HTTP answer with a body, after which the proxy closes; each
// of header is a "Name: value".
func Answer(status, body string, header ...string) func(net.Conn) {
	text := "HTTP/1.1 " + status + "\r\n"
	for _, h := range header {
		text += h + "\r\n"
	}
	return Say(text + "Content-Length: " + strconv.Itoa(len(body)) + "\r\nConnection: close\r\n\r\n" + body)
}

// SOCKS5Reply returns a SOCKS5 reply with this code (RFC 1928 section 6).
func SOCKS5Reply(code byte) func(net.Conn) {
	return Say(string([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0}))
}

// SOCKS4Reply returns a SOCKS4 reply: 90 granted, 91 to 93 refused.
func SOCKS4Reply(code byte) func(net.Conn) {
	return Say(string([]byte{0, code, 0, 0, 0, 0, 0, 0}))
}

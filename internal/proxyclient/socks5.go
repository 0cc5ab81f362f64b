package proxyclient

import (
	"fmt"

	"proxyd/internal/failure"
)

// SOCKS5 methods and address types (RFC 1928, RFC 1929).
const (
	socks5NoAuth   = 0x00
	socks5UserPass = 0x02
	socks5None     = 0xff

	atypIPv4 = 1
	atypName = 3
	atypIPv6 = 4
)

// socks5Connect asks a SOCKS5 proxy for a connection. A name is sent as it is,
// never as an address that was looked up here.
func (k *handshake) socks5Connect(to Addr, c *Credentials) *failure.Error {
	if c.given && (len(c.user.Reveal()) > 255 || len(c.password.Reveal()) > 255) {
		return &failure.Error{Class: failure.UpstreamAuth, Text: "cannot be given a user or password of more than 255 bytes by SOCKS5"}
	}
	if e := k.socks5Greet(c); e != nil {
		return e
	}
	b := append(k.buf[:0], 5, 1, 0)
	switch {
	case to.IP.IsValid() && to.IP.Unmap().Is4():
		a := to.IP.Unmap().As4()
		b = append(append(b, atypIPv4), a[:]...)
	case to.IP.IsValid():
		a := to.IP.As16()
		b = append(append(b, atypIPv6), a[:]...)
	default: // Addr.IsValid limits the name to 253 bytes
		b = append(append(b, atypName, byte(len(to.Name))), to.Name...)
	}
	b = append(b, byte(to.Port>>8), byte(to.Port))
	if e := k.send("the SOCKS request", b); e != nil {
		return e
	}
	k.step, k.asked = "the SOCKS reply", true
	return k.socks5Reply(to)
}

// socks5Greet offers the methods and, if asked, gives user and password.
func (k *handshake) socks5Greet(c *Credentials) *failure.Error {
	b := append(k.buf[:0], 5, 1, socks5NoAuth)
	if c.given {
		b = append(k.buf[:0], 5, 2, socks5NoAuth, socks5UserPass)
	}
	if e := k.send("the SOCKS greeting", b); e != nil {
		return e
	}
	if e := k.receiveAll(1); e != nil {
		return e
	}
	if k.buf[0] != 5 {
		return k.garbage()
	}
	if e := k.receiveAll(2); e != nil {
		return e
	}
	method := k.buf[1]
	if k.have > 2 {
		return &failure.Error{Class: failure.UpstreamProtocol, Text: "sent more than an answer to the SOCKS greeting"}
	}
	k.take(2)
	switch {
	case method == socks5NoAuth:
		return nil
	case method == socks5UserPass && c.given:
		return k.socks5Auth(c)
	case method == socks5None && c.given:
		return &failure.Error{Class: failure.UpstreamAuth, Text: "takes neither user and password nor none at all", Hint: "proxyd speaks no other SOCKS5 method"}
	case method == socks5None, method == socks5UserPass:
		return &failure.Error{Class: failure.UpstreamAuth, Text: "wants a user and a password", Hint: "put them into its URL"}
	default:
		return &failure.Error{Class: failure.UpstreamProtocol, Text: fmt.Sprintf("chose the SOCKS method %d, which was not offered", method)}
	}
}

// socks5Auth is RFC 1929.
func (k *handshake) socks5Auth(c *Credentials) *failure.Error {
	user, password := c.user.Reveal(), c.password.Reveal()
	b := append(k.buf[:0], 1, byte(len(user)))
	b = append(b, user...)
	b = append(append(b, byte(len(password))), password...)
	if e := k.send("the SOCKS user and password", b); e != nil {
		return e
	}
	if e := k.receiveAll(2); e != nil {
		return e
	}
	// The version should be 1; some servers repeat SOCKS's own.
	version, status := k.buf[0], k.buf[1]
	if version != 1 && version != 5 {
		return &failure.Error{Class: failure.UpstreamProtocol, Text: "answered the SOCKS user and password with garbage"}
	}
	if status != 0 {
		return &failure.Error{Class: failure.UpstreamAuth, Text: "rejected the user or the password", Hint: "check both in its URL"}
	}
	if k.have > 2 {
		return &failure.Error{Class: failure.UpstreamProtocol, Text: "sent more than an answer to the SOCKS user and password"}
	}
	k.take(2)
	return nil
}

// socks5Reply reads the reply to the request, to its last byte and no further.
func (k *handshake) socks5Reply(to Addr) *failure.Error {
	if e := k.receiveAll(2); e != nil {
		return e
	}
	if k.buf[0] != 5 {
		return k.garbage()
	}
	if code := k.buf[1]; code != 0 {
		return socks5Error(code, to) // some servers send no more than this
	}
	if e := k.receiveAll(5); e != nil {
		return e
	}
	n := 4 + 2
	switch k.buf[3] {
	case atypIPv4:
		n += 4
	case atypIPv6:
		n += 16
	case atypName:
		n += 1 + int(k.buf[4])
	default:
		return &failure.Error{Class: failure.UpstreamProtocol, Text: fmt.Sprintf("sent a SOCKS reply with an unknown address type, %d", k.buf[3])}
	}
	if e := k.receiveAll(n); e != nil {
		return e
	}
	k.take(n)
	return nil
}

// socks5Error returns the error of a failure code (RFC 1928 section 6).
func socks5Error(code byte, to Addr) *failure.Error {
	e := &failure.Error{Class: failure.TargetUnreachable}
	at := to.String()
	switch code {
	case 1: // microsocks answers so for unknown names, others for anything
		e.Unsure, e.Text = true, "could not reach "+at
	case 2:
		e.Class, e.Text = failure.UpstreamDenied, "does not allow connections to "+at
	case 3:
		e.Text = "has no route to the network of " + at
	case 4:
		e.Text = "cannot reach the host of " + at + ", or does not know it"
	case 5:
		e.Class, e.Text = failure.TargetRefused, "found that "+at+" refused the connection"
	case 6:
		e.Class, e.Unsure, e.Text = failure.TargetTimeout, true, "got no answer from "+at
	case 7:
		e.Class, e.Text = failure.UpstreamDenied, "does not do SOCKS CONNECT"
	case 8:
		e.Class, e.Text = failure.UpstreamDenied, "does not take this kind of address for "+at
	default:
		return &failure.Error{Class: failure.UpstreamProtocol, Text: fmt.Sprintf("sent an unknown SOCKS reply code, %d", code)}
	}
	e.Text += fmt.Sprintf(" (SOCKS reply %d)", code)
	return e
}

package proxyclient

import (
	"fmt"
	"net/netip"

	"proxyd/internal/config"
	"proxyd/internal/failure"
)

// SOCKS4 reply codes.
const (
	socks4Granted   = 0x5a
	socks4Failed    = 0x5b
	socks4NoIdent   = 0x5c
	socks4WrongUser = 0x5d
)

// socks4Connect asks a SOCKS4 proxy for a connection to ip, or, when ip is not
// set, a SOCKS4a proxy for one to the target's name.
func (k *handshake) socks4Connect(to Addr, ip netip.Addr, c *Credentials) *failure.Error {
	if len(c.user.Reveal()) > 255 {
		return &failure.Error{Class: failure.UpstreamAuth, Text: "cannot be given a user of more than 255 bytes by SOCKS4"}
	}
	b := append(k.buf[:0], 4, 1, byte(to.Port>>8), byte(to.Port))
	if ip.IsValid() {
		a := ip.As4()
		b = append(b, a[:]...)
	} else {
		b = append(b, 0, 0, 0, 1) // "a name follows"
	}
	b = append(append(b, c.user.Reveal()...), 0)
	if !ip.IsValid() {
		b = append(append(b, to.Name...), 0)
	}
	if e := k.send("the SOCKS4 request", b); e != nil {
		return e
	}
	k.step, k.asked = "the SOCKS4 reply", true
	if e := k.receiveAll(1); e != nil {
		return e
	}
	if k.buf[0] != 0 {
		return k.garbage()
	}
	if e := k.receiveAll(2); e != nil {
		return e
	}
	if code := k.buf[1]; code != socks4Granted {
		return socks4Error(code, to, k)
	}
	if e := k.receiveAll(8); e != nil {
		return e
	}
	k.take(8)
	return nil
}

func socks4Error(code byte, to Addr, k *handshake) *failure.Error {
	switch code {
	case socks4Failed:
		return &failure.Error{
			Class: failure.TargetUnreachable, Unsure: true,
			Text: fmt.Sprintf("could not reach %s, or does not want to (SOCKS4 reply 91)", to.String()),
		}
	case socks4NoIdent, socks4WrongUser:
		return &failure.Error{
			Class: failure.UpstreamAuth, Text: fmt.Sprintf("rejected the user (SOCKS4 reply %d)", code),
			Hint: "check the user in its URL; SOCKS4 may ask for an identd on this machine",
		}
	default:
		return k.garbage()
	}
}

// socks4Carries returns why SOCKS4 cannot carry a target, nil if it can.
func socks4Carries(to Addr, scheme config.Scheme) *failure.Error {
	ip := to.IP.Unmap()
	if !ip.IsValid() || ip.Is4() && (ip.As4()[0] != 0 || ip.As4()[1] != 0 || ip.As4()[2] != 0) {
		return nil
	}
	return &failure.Error{
		Class: failure.UpstreamDenied,
		Text:  fmt.Sprintf("cannot carry %s: %s has IPv4 addresses only", to, scheme),
		Hint:  "use a socks5:// or http:// upstream for it",
	}
}

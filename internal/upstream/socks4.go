package upstream

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
func (k *talk) socks4Connect(t Target, ip netip.Addr, c *credentials) *failure.Error {
	if len(c.user.Reveal()) > 255 {
		return &failure.Error{Class: failure.UpstreamAuth, Text: "cannot be given a user of more than 255 bytes by SOCKS4"}
	}
	b := append(k.buf[:0], 4, 1, byte(t.Port>>8), byte(t.Port))
	if ip.IsValid() {
		a := ip.As4()
		b = append(b, a[:]...)
	} else {
		b = append(b, 0, 0, 0, 1) // "a name follows"
	}
	b = append(append(b, c.user.Reveal()...), 0)
	if !ip.IsValid() {
		b = append(append(b, t.Host...), 0)
	}
	if fault := k.send("the SOCKS4 request", b); fault != nil {
		return fault
	}
	k.step, k.asked = "the SOCKS4 reply", true
	if fault := k.receiveAll(1); fault != nil {
		return fault
	}
	if k.buf[0] != 0 {
		return k.garbage()
	}
	if fault := k.receiveAll(2); fault != nil {
		return fault
	}
	if code := k.buf[1]; code != socks4Granted {
		return socks4Fault(code, t, k)
	}
	if fault := k.receiveAll(8); fault != nil {
		return fault
	}
	k.take(8)
	return nil
}

func socks4Fault(code byte, t Target, k *talk) *failure.Error {
	switch code {
	case socks4Failed:
		return &failure.Error{
			Class: failure.TargetUnreachable, Unsure: true,
			Text: fmt.Sprintf("could not reach %s, or does not want to (SOCKS4 reply 91)", hostPort(t)),
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

// socks4Address is the target's address as SOCKS4 can carry it; it is not set
// when the name is to be sent (4a).
func socks4Address(t Target, scheme config.Scheme) (netip.Addr, *failure.Error) {
	ip := t.IP.Unmap()
	if !ip.IsValid() {
		return netip.Addr{}, nil
	}
	if !ip.Is4() || (ip.As4()[0] == 0 && ip.As4()[1] == 0 && ip.As4()[2] == 0) {
		return ip, &failure.Error{
			Class: failure.UpstreamDenied,
			Text:  fmt.Sprintf("cannot carry %s: %s has IPv4 addresses alone", hostPort(t), scheme),
			Hint:  "use a socks5:// or http:// upstream for it",
		}
	}
	return ip, nil
}

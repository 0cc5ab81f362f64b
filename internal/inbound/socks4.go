package inbound

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

// The replies of SOCKS4. There is one code for every refusal.
var (
	socks4Granted = []byte{0, 0x5a, 0, 0, 0, 0, 0, 0}
	socks4Refused = []byte{0, 0x5b, 0, 0, 0, 0, 0, 0}
)

// maxSOCKS4 bounds the user id and the name, each.
const maxSOCKS4 = 255

// serveSOCKS4 serves SOCKS4 and, by its address 0.0.0.x, SOCKS4a.
func (c *client) serveSOCKS4() {
	r := &c.req.Request
	*r = tunnel.Request{Protocol: "socks4"}
	for {
		n, f := parseSOCKS4(c.in.pending(), r)
		if f == nil && n == 0 {
			if err := c.in.fill(); err != nil {
				if isTimeout(err) {
					c.drop("socks4", "the SOCKS4 request was not complete within 10 s")
				} else {
					c.close()
				}
				return
			}
			continue
		}
		if f == nil && c.users != nil {
			f = &refusal{
				class: failure.Auth, text: "SOCKS4 cannot authenticate, and this listener has users",
				hint: "use socks5h:// or http:// with NAME:PASSWORD",
			}
		}
		if f != nil {
			c.refuseSOCKS4(c.record(r, f))
			return
		}
		c.in.use(n)
		break
	}
	t, refusal := c.open(c.complete(r))
	if refusal != nil {
		c.refuseSOCKS4(refusal)
		return
	}
	if _, err := c.Write(socks4Granted); err != nil {
		t.Abandon(err)
		c.close()
		return
	}
	c.carry(t)
}

func (c *client) refuseSOCKS4(r *tunnel.Refusal) {
	if r.Class == failure.ClientGone || !c.wait(r.Delay) {
		c.close()
		return
	}
	c.reply(socks4Refused)
	c.linger()
}

// parseSOCKS4 reads a request of "4 command port address userid 0 [name 0]" and
// gives its length, 0 if there must be more of it.
func parseSOCKS4(b []byte, r *tunnel.Request) (int, *refusal) {
	const fixed = 8
	if len(b) >= 2 && b[1] != 1 {
		return 0, bad("a SOCKS4 command other than CONNECT")
	}
	if len(b) < fixed {
		return 0, nil
	}
	r.Port = binary.BigEndian.Uint16(b[2:4])
	ip := netip.AddrFrom4([4]byte(b[4:8]))
	userid, n, f := cString(b[fixed:], "user id")
	if f != nil || n == 0 {
		return 0, f
	}
	user, kind := cutKind(userid)
	r.Label, r.Hint.Kind = label(user), kind
	end := fixed + n
	switch {
	case ip == netip.IPv4Unspecified():
		return 0, bad("the target address 0.0.0.0 is none")
	case b[4] == 0 && b[5] == 0 && b[6] == 0:
		name, n, f := cString(b[end:], "name")
		if f != nil || n == 0 {
			return 0, f
		}
		r.Host = name
		return end + n, nil
	}
	r.Host = ip.String()
	return end, nil
}

// cString reads up to a zero byte and gives the length with it, 0 if there must
// be more.
func cString(b []byte, what string) (string, int, *refusal) {
	i := bytes.IndexByte(b, 0)
	switch {
	case i > maxSOCKS4, i < 0 && len(b) > maxSOCKS4:
		return "", 0, bad("the SOCKS4 " + what + " is longer than 255 bytes")
	case i < 0:
		return "", 0, nil
	}
	return string(b[:i]), i + 1, nil
}

package inbound

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/things-go/go-socks5/statute"

	"proxyd/internal/failure"
	"proxyd/internal/router"
	"proxyd/internal/tunnel"
)

// serveSOCKS5 parses what the client says up to its request. Every read is
// inside the handshake's deadline.
func (c *client) serveSOCKS5() {
	s := &socksConn{client: c}
	s.r.Protocol = "socks5"
	err := s.serve()
	switch {
	case s.ended:
	case s.settled:
		c.linger()
	case isTimeout(s.readErr):
		c.drop("socks5", "the SOCKS5 handshake was not complete within "+handshakeWords)
	case s.readErr != nil:
		c.close() // it left in the middle
	case errors.Is(err, statute.ErrNoSupportedAuth):
		f := bad("the client offers no SOCKS5 method that is spoken here: 00 (none) or 02 (user and password)")
		if c.users != nil {
			f = &refusal{
				class: failure.Auth, text: "the client offers no user and password, which this listener needs",
				hint: "put them into the proxy URL: socks5h://NAME:PASSWORD@HOST:PORT",
			}
		}
		c.record(&s.r, f)
		c.linger()
	default:
		c.record(&s.r, bad(cleanLine("malformed SOCKS5 request: %v", err)))
		c.linger()
	}
}

// socksConn is a client for go-socks5's parsers.
type socksConn struct {
	*client
	r       tunnel.Request
	readErr error
	settled bool // refused, recorded and answered
	ended   bool // a tunnel, or closed
}

// Read returns what was read already, or reads on.
func (s *socksConn) Read(b []byte) (int, error) {
	for len(s.in.pending()) == 0 {
		if err := s.in.fill(); err != nil {
			s.readErr = err
			return 0, err
		}
	}
	n := copy(b, s.in.pending())
	s.in.use(n)
	return n, nil
}

// serve has go-socks5 parse greeting, credentials and request. It resolves no
// names and dials nothing: tunnel does, by the configuration. Of the commands
// only CONNECT is served. SOCKS4, which go-socks5 lacks, is parsed in this file.
func (s *socksConn) serve() error {
	greeting, err := statute.ParseMethodRequest(s)
	if err != nil {
		return err
	}
	if err := s.authenticate(greeting.Methods); err != nil {
		return fmt.Errorf("failed to authenticate: %w", err)
	}
	r, err := statute.ParseRequest(s)
	switch {
	case errors.Is(err, statute.ErrUnrecognizedAddrType):
		s.reply(socks5Reply(statute.RepAddrTypeNotSupported))
		fallthrough
	case err != nil:
		return fmt.Errorf("failed to read destination address, %w", err)
	}
	switch r.Command {
	case statute.CommandConnect:
		s.connect(&r)
	case statute.CommandBind, statute.CommandAssociate:
		s.settled = true
		s.record(&s.r, bad("a SOCKS5 command other than CONNECT: neither BIND nor UDP is served"))
		s.reply(socks5Reply(statute.RepCommandNotSupported))
	default:
		s.reply(socks5Reply(statute.RepCommandNotSupported))
		return fmt.Errorf("unrecognized command[%d]", r.Command)
	}
	return nil
}

// connect serves the CONNECT command.
func (s *socksConn) connect(r *statute.Request) {
	if s.r.Host = r.DstAddr.FQDN; s.r.Host == "" && len(r.DstAddr.IP) > 0 {
		s.r.Host = r.DstAddr.IP.String()
	}
	s.r.Port = uint16(r.DstAddr.Port)
	t, refusal := s.open(s.complete(&s.r))
	if refusal != nil {
		s.refused(refusal)
		return
	}
	s.ended = true
	if _, err := s.Write(socks5Reply(statute.RepSuccess)); err != nil {
		t.Abandon(err)
		s.close()
		return
	}
	s.carry(t)
}

// refused answers from the one table.
func (s *socksConn) refused(r *tunnel.Refusal) {
	s.settled = true
	if r.Class == failure.ClientGone || !s.wait(r.Delay) {
		s.ended = true
		s.close()
		return
	}
	s.reply(socks5Reply(failure.AnswerTo(r.Class).SOCKS5))
}

// socks5Reply bears no address of ours: the client has no use for it.
func socks5Reply(code byte) []byte { return []byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0} }

// authenticate picks the method. Its order decides, not the client's: a name may
// be a label, so it is asked for whenever it is offered.
func (s *socksConn) authenticate(offered []byte) error {
	switch {
	case bytes.IndexByte(offered, statute.MethodUserPassAuth) >= 0:
		return s.authenticateUser()
	case bytes.IndexByte(offered, statute.MethodNoAuth) >= 0 && s.users == nil:
		_, err := s.Write([]byte{statute.VersionSocks5, statute.MethodNoAuth})
		return err
	}
	_, _ = s.Write([]byte{statute.VersionSocks5, statute.MethodNoAcceptable})
	return statute.ErrNoSupportedAuth
}

// authenticateUser reads the credentials (RFC 1929). Without users any will do,
// and the name is a label.
func (s *socksConn) authenticateUser() error {
	if _, err := s.Write([]byte{statute.VersionSocks5, statute.MethodUserPassAuth}); err != nil {
		return err
	}
	up, err := statute.ParseUserPassRequest(s)
	if err != nil {
		return err
	}
	id, f := s.users.identify(string(up.User), string(up.Pass))
	if f != nil {
		s.settled = true
		refusal := s.record(&s.r, f)
		if s.wait(refusal.Delay + f.delay) {
			s.reply([]byte{statute.UserPassAuthVersion, statute.AuthFailure})
		}
		return statute.ErrUserAuthFailed
	}
	s.r.Label = id.label
	s.r.Hint = router.Hint{Kind: id.kind}
	_, err = s.Write([]byte{statute.UserPassAuthVersion, statute.AuthSuccess})
	return err
}

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
					c.drop("socks4", "the SOCKS4 request was not complete within "+handshakeWords)
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
// returns its length, 0 if it is not complete.
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

// cString reads up to a zero byte. It returns the length with that byte, 0 if
// there is none yet.
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

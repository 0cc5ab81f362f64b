package testkit

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"syscall"
)

func (p *Proxy) socks4(c net.Conn, r *bufio.Reader) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil || head[0] != 4 {
		return
	}
	user, err := r.ReadString(0)
	if err != nil {
		return
	}
	a := Asked{Protocol: "socks4", Port: portText(head[2:4]), Host: net.IP(head[4:8]).String(), User: user[:len(user)-1]}
	a.HasAuth = a.User != ""
	if head[4] == 0 && head[5] == 0 && head[6] == 0 && head[7] != 0 {
		name, err := r.ReadString(0)
		if err != nil {
			return
		}
		a.Protocol, a.Host = "socks4a", name[:len(name)-1]
	}
	p.note(a, c)
	if p.fails(AtGreeting, c, a.Host) || p.fails(AtRequest, c, a.Host) {
		return
	}
	if p.o.User != "" && a.User != p.o.User {
		SOCKS4Reply(93)(c)
		return
	}
	if head[1] != 1 || a.Protocol == "socks4a" && p.o.Scheme == "socks4" {
		SOCKS4Reply(91)(c)
		return
	}
	target, err := p.dial(a.Host, a.Port)
	if err != nil {
		SOCKS4Reply(91)(c)
		return
	}
	p.carry(c, target, r, string([]byte{0, 90, 0, 0, 0, 0, 0, 0}))
}

func (p *Proxy) socks5(c net.Conn, r *bufio.Reader) {
	a := Asked{Protocol: "socks5"}
	if !p.socks5Greeting(c, r, &a) || !socks5Request(r, &a) {
		return
	}
	p.note(a, c)
	if p.fails(AtRequest, c, a.Host) {
		return
	}
	target, err := p.dial(a.Host, a.Port)
	switch {
	case errors.Is(err, errUnknownHost):
		SOCKS5Reply(4)(c)
	case errors.Is(err, syscall.ECONNREFUSED):
		SOCKS5Reply(5)(c)
	case err != nil:
		SOCKS5Reply(1)(c)
	default:
		p.carry(c, target, r, string([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}))
	}
}

// socks5Greeting reports whether the client may go on.
func (p *Proxy) socks5Greeting(c net.Conn, r *bufio.Reader, a *Asked) bool {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil || head[0] != 5 {
		return false
	}
	a.Methods = make([]byte, head[1])
	if _, err := io.ReadFull(r, a.Methods); err != nil {
		return false
	}
	if p.fails(AtGreeting, c, "") {
		p.note(*a, c)
		return false
	}
	want := byte(0)
	if p.o.User != "" {
		want = 2
	}
	if !slices.Contains(a.Methods, want) {
		p.note(*a, c)
		Say("\x05\xff")(c)
		return false
	}
	p.send(c, string([]byte{5, want}))
	if want == 0 {
		return true
	}
	if _, err := r.Discard(1); err != nil {
		return false
	}
	user, err1 := shortText(r)
	password, err2 := shortText(r)
	if err1 != nil || err2 != nil {
		return false
	}
	a.User, a.Password, a.HasAuth = user, password, true
	if user != p.o.User || password != p.o.Password {
		p.note(*a, c)
		Say("\x01\x01")(c)
		return false
	}
	p.send(c, "\x01\x00")
	return true
}

func socks5Request(r *bufio.Reader, a *Asked) bool {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil || head[0] != 5 || head[1] != 1 {
		return false
	}
	a.ATYP = head[3]
	switch a.ATYP {
	case 1, 4:
		ip := make(net.IP, 4*int(a.ATYP))
		if _, err := io.ReadFull(r, ip); err != nil {
			return false
		}
		a.Host = ip.String()
	case 3:
		name, err := shortText(r)
		if err != nil {
			return false
		}
		a.Host = name
	default:
		return false
	}
	var p [2]byte
	if _, err := io.ReadFull(r, p[:]); err != nil {
		return false
	}
	a.Port = portText(p[:])
	return true
}

// shortText reads a byte of length and that many bytes.
func shortText(r *bufio.Reader) (string, error) {
	n, err := r.ReadByte()
	if err != nil {
		return "", err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return string(b), err
}

func portText(b []byte) string { return strconv.Itoa(int(binary.BigEndian.Uint16(b))) }

package transparent

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// soOriginalDst is SO_ORIGINAL_DST of linux/netfilter_ipv4.h, and
// IP6T_SO_ORIGINAL_DST of linux/netfilter_ipv6/ip6_tables.h.
const soOriginalDst = 80

// OriginalDestination returns the address that the client of an accepted connection
// connected to before netfilter redirected it. The error is ErrNotRedirected when
// there is no such address, or when it is the listener's own.
func OriginalDestination(c *net.TCPConn) (netip.AddrPort, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	// The connection tracking knows an IPv4 client of an IPv6 socket as IPv4.
	v4 := isV4(c.RemoteAddr())
	var to netip.AddrPort
	var failed error
	err = raw.Control(func(fd uintptr) {
		if v4 {
			to, failed = original4(int(fd))
		} else {
			to, failed = original6(int(fd))
		}
	})
	switch {
	case err != nil:
		return netip.AddrPort{}, err
	case errors.Is(failed, syscall.ENOENT), errors.Is(failed, syscall.ENOPROTOOPT):
		return netip.AddrPort{}, ErrNotRedirected // no such entry; no connection tracking at all
	case failed != nil:
		return netip.AddrPort{}, failed
	}
	if local, ok := c.LocalAddr().(*net.TCPAddr); ok && unmapped(local.AddrPort()) == to {
		return to, ErrNotRedirected
	}
	return to, nil
}

func isV4(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.AddrPort().Addr().Unmap().Is4()
}

// original4 asks for a struct sockaddr_in, for which the syscall package has no
// getter: one of another struct of at least its 16 bytes does.
func original4(fd int) (netip.AddrPort, error) {
	m, err := syscall.GetsockoptIPv6Mreq(fd, syscall.IPPROTO_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := m.Multiaddr // family, port, address
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

// original6 asks for a struct sockaddr_in6 by a struct that begins with one.
func original6(fd int) (netip.AddrPort, error) {
	m, err := syscall.GetsockoptIPv6MTUInfo(fd, syscall.IPPROTO_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], m.Addr.Port) // it is in network order there
	return unmapped(netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), binary.BigEndian.Uint16(port[:]))), nil
}

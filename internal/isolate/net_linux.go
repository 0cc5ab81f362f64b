package isolate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bringUp makes every address lead to this namespace: a connection to one must be
// routable before netfilter can redirect it. The address of the interface is what
// connections come from, and what tells resolvers that there is IPv4.
func bringUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("link lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("link lo up: %w", err)
	}
	if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(own, 32))}); err != nil {
		return fmt.Errorf("address %s: %w", own, err)
	}
	route := netlink.Route{LinkIndex: lo.Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
		Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Src: own.AsSlice()}
	if err := netlink.RouteAdd(&route); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	route = netlink.Route{LinkIndex: lo.Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
		Dst: ipNet(netip.MustParsePrefix("::/0"))}
	if err := netlink.RouteAdd(&route); err != nil && !noIPv6(err) && !errors.Is(err, syscall.EACCES) { // the last: it is disabled for lo
		return fmt.Errorf("default route of IPv6: %w", err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// noIPv6 reports whether an error means that this machine has no IPv6.
func noIPv6(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EOPNOTSUPP)
}

// sockets are what the child opens. They are blocking descriptors: nothing reads
// them here.
type sockets struct {
	uses                     []socket
	files                    []*os.File
	transparentPort, dnsPort uint16
}

func (s *sockets) close() { closeFiles(s.files) }

func (s *sockets) fds() (list []int) {
	for _, f := range s.files {
		list = append(list, int(f.Fd()))
	}
	return list
}

// openSockets opens what the request names, and the listeners that connections and
// name queries are redirected to, on free ports.
func openSockets(r *request) (*sockets, error) {
	s := new(sockets)
	if err := s.open(r); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *sockets) open(r *request) error {
	for _, address := range r.Listen {
		if _, err := s.listen(socket{Use: useListen, Listen: address}, address); err != nil && !noIPv6(err) {
			return err
		}
	}
	for _, port := range r.Ports {
		if _, err := s.both(socket{Use: usePort, Port: port}, port, (*sockets).listen); err != nil {
			return err
		}
	}
	var err error
	if s.transparentPort, err = s.both(socket{Use: useTransparent}, 0, (*sockets).listen); err != nil {
		return err
	}
	if s.dnsPort, err = s.both(socket{Use: useTCP}, 0, (*sockets).listen); err != nil {
		return err
	}
	if _, err = s.both(socket{Use: useUDP}, s.dnsPort, (*sockets).listenUDP); err != nil {
		return err
	}
	return s.add(useCounters, openCounters)
}

// add opens a descriptor that is no socket to listen on.
func (s *sockets) add(what use, open func() (*os.File, error)) error {
	f, err := open()
	if err != nil {
		return err
	}
	s.uses, s.files = append(s.uses, socket{Use: what}), append(s.files, f)
	return nil
}

// both opens a socket on 127.0.0.1 and on ::1, where there is IPv6, with one port.
func (s *sockets) both(what socket, port uint16, open func(*sockets, socket, string) (uint16, error)) (uint16, error) {
	port, err := open(s, what, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return 0, err
	}
	if _, err := open(s, what, net.JoinHostPort("::1", strconv.Itoa(int(port)))); err != nil && !noIPv6(err) {
		return 0, err
	}
	return port, nil
}

func (s *sockets) listen(what socket, address string) (uint16, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false)                                 // the kernel has an original destination for no other connection
	l, err := c.Listen(context.Background(), "tcp", address) // it never waits
	if err != nil {
		return 0, err
	}
	defer l.Close() // a copy of the descriptor stays
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return 0, err
	}
	s.uses, s.files = append(s.uses, what), append(s.files, f)
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

func (s *sockets) listenUDP(what socket, address string) (uint16, error) {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	f, err := c.(*net.UDPConn).File()
	if err != nil {
		return 0, err
	}
	s.uses, s.files = append(s.uses, what), append(s.files, f)
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
}

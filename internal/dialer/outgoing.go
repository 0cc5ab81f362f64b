package dialer

import (
	"net"
	"net/netip"
	"sync"
)

// Outgoing is the set of connections that this process has opened, by their two
// addresses: no two open connections share both. Where netfilter redirects a
// connection to a listener of the process that opened it, the listener finds it here.
// The zero value is ready for use. It is safe for concurrent use.
type Outgoing struct {
	mu   sync.Mutex
	open map[ends]struct{}
}

// ends are the local and the remote address of a connection.
type ends struct{ from, to netip.AddrPort }

// Add adds a connection that has just been opened. remove takes it out again, when
// it is closed.
func (o *Outgoing) Add(c net.Conn) (remove func()) {
	e := ends{addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open = map[ends]struct{}{}
	}
	o.open[e] = struct{}{}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.open, e)
	}
}

// Has reports whether the connection between two addresses, the local one first, is
// in the set.
func (o *Outgoing) Has(from, to netip.AddrPort) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, there := o.open[ends{plainAddr(from), plainAddr(to)}]
	return there
}

// addrPort returns the address of a TCP connection's end, the zero value for others.
func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return plainAddr(tcp.AddrPort())
	}
	return netip.AddrPort{}
}

// plainAddr returns an address without a zone, and no IPv4 address in IPv6 form.
func plainAddr(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

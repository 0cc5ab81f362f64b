package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// keepAlive finds a dead client within 45 s.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 3}

func noFamily(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

func listenError(address string, err error) error {
	_, port, _ := net.SplitHostPort(address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen %s: the port is taken, perhaps by another proxyd; see who holds it with: ss -ltnp 'sport = :%s'; or set listen to another address", address, port)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen %s: not permitted; use a port from 1024 on", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listen %s: this machine does not have that address; see: ip addr", address)
	}
	return fmt.Errorf("listen %s: %w", address, err)
}

func closeAll(bound []boundListener) {
	for _, b := range bound {
		_ = b.ln.Close()
	}
}

// own reports whether an address is one of proxyd's own, so that nothing is
// proxied into proxyd itself.
func (d *Daemon) own(a netip.AddrPort) bool {
	for _, b := range d.listeners() {
		if matches(b.ln.Addr(), a) {
			return true
		}
	}
	if ln := d.adminBound.Load().ln; ln != nil {
		return matches(ln.Addr(), a)
	}
	return false
}

// matches reports whether connecting to a reaches a listener at l.
func matches(l net.Addr, a netip.AddrPort) bool {
	tcp, ok := l.(*net.TCPAddr)
	if !ok || tcp.Port != int(a.Port()) {
		return false
	}
	listens, ip := tcp.AddrPort().Addr().Unmap(), a.Addr().Unmap()
	if listens == ip || ip.IsUnspecified() {
		return true
	}
	return listens.IsUnspecified() && (ip.IsLoopback() || ours(ip))
}

// ours reports whether an address belongs to one of the machine's interfaces.
func ours(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // cannot tell: refuse rather than loop
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == ip
	})
}

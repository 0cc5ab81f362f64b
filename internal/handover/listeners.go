package handover

import (
	"net"
	"net/netip"
	"strings"
	"sync"
)

// Listeners are the listening sockets that another process has opened.
type Listeners struct {
	mu    sync.Mutex
	left  []Listener
	taken []Listener
}

// Take returns the socket that was handed over under a name, or else one that
// listens at the address that the name is; nil if there is none. Each is returned
// once. The caller closes it.
func (l *Listeners) Take(name string) net.Listener {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, same := range []func(Listener) bool{
		func(have Listener) bool { return have.Name == name },
		func(have Listener) bool { return listensAt(have.Addr(), name) },
	} {
		for i, have := range l.left {
			if same(have) {
				l.left = append(l.left[:i:i], l.left[i+1:]...)
				l.taken = append(l.taken, have)
				return have.Listener
			}
		}
	}
	return nil
}

// Close closes what was not taken, and returns it for a line in the log.
func (l *Listeners) Close() (left []Listener) {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	left, l.left = l.left, nil
	for _, have := range left {
		_ = have.Listener.Close()
	}
	return left
}

// removeFiles makes the taken unix sockets' files this process's to remove.
func (l *Listeners) removeFiles() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, have := range l.taken {
		if u, ok := have.Listener.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(true)
		}
	}
}

// listensAt reports whether a socket listens at an address as configurations
// write it: IP:PORT, :PORT, unix:PATH.
func listensAt(have net.Addr, name string) bool {
	if path, ok := strings.CutPrefix(name, "unix:"); ok {
		return have.Network() == "unix" && have.String() == path
	}
	if strings.HasPrefix(name, ":") {
		name = "[::]" + name
	}
	want, err := netip.ParseAddrPort(name)
	if err != nil || want.Port() == 0 { // any free port: found by name alone
		return false
	}
	at, err := netip.ParseAddrPort(have.String())
	if err != nil || at.Port() != want.Port() {
		return false
	}
	return at.Addr() == want.Addr() || at.Addr().IsUnspecified() && want.Addr().IsUnspecified() // Go makes :: of 0.0.0.0
}

// keepAliveListener is a listener whose conns get their keepalive from us: on a socket
// that another process opened Go would set its own.
type keepAliveListener struct {
	*net.TCPListener
	keepAlive net.KeepAliveConfig
}

// Accept accepts a conn.
func (l *keepAliveListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	_ = c.SetKeepAliveConfig(l.keepAlive) // fails only on a conn that its peer has reset
	return c, nil
}

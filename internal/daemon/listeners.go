package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"proxyd/internal/admin"
	"proxyd/internal/config"
	"proxyd/internal/event"
	"proxyd/internal/handover"
)

// keepAlive finds a dead client within 45 s.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 3}

// boundListener is an open listener and the address that the configuration gives it.
type boundListener struct {
	address string
	admin   bool // for the admin server, not for clients
	ln      net.Listener
}

// name returns the address for people.
func (b boundListener) name() string {
	name := b.address
	if at := b.ln.Addr().String(); portOf(name) == "0" {
		name = at
	}
	if b.admin {
		name += " (admin)"
	}
	return name
}

// listenerSet is all that proxyd listens on. It never changes once in force.
type listenerSet struct {
	bound   []boundListener
	noAdmin string // why the built-in admin address is not bound; "" if it is, or if none is wanted
}

// clients returns the listeners that clients connect to.
func (s *listenerSet) clients() (list []boundListener) {
	for _, b := range s.bound {
		if !b.admin {
			list = append(list, b)
		}
	}
	return list
}

// at returns the clients' listener that the configuration calls address, nil if
// it is not open.
func (s *listenerSet) at(address string) *boundListener {
	for _, b := range s.clients() {
		if b.address == address {
			return &b
		}
	}
	return nil
}

// admin returns where the admin server listens, nil if it does not.
func (s *listenerSet) admin() net.Addr {
	for _, b := range s.bound {
		if b.admin {
			return b.ln.Addr()
		}
	}
	return nil
}

// own reports whether an address is one of proxyd's own, so that nothing is
// proxied into proxyd itself.
func (s *listenerSet) own(a netip.AddrPort) bool {
	return slices.ContainsFunc(s.bound, func(b boundListener) bool { return matches(b.ln.Addr(), a) })
}

// handover returns the sockets to hand over, by the names that the configuration
// has for them.
func (s *listenerSet) handover() (list []handover.Listener) {
	for _, b := range s.bound {
		list = append(list, handover.Listener{Name: b.address, Listener: b.ln})
	}
	return list
}

// Configured returns what tells the addresses that a daemon listens on if it runs
// with c, as Snapshot wants it where none runs.
func Configured(c *config.Config) func(netip.AddrPort) bool {
	var all []net.Addr
	add := func(address string) {
		if strings.HasPrefix(address, ":") {
			address = "[::]" + address
		}
		if at, err := netip.ParseAddrPort(address); err == nil && at.Port() != 0 { // 0: any free one
			all = append(all, net.TCPAddrFromAddrPort(at))
		}
	}
	for _, l := range c.Listen {
		add(l.Address)
	}
	add(c.Admin.Address)
	return func(a netip.AddrPort) bool {
		return slices.ContainsFunc(all, func(l net.Addr) bool { return matches(l, a) })
	}
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
		return true // unknown: refuse rather than loop
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == ip
	})
}

// wantedListener is an address that a configuration wants to be listened on.
type wantedListener struct {
	address string
	admin   bool
	builtIn bool // not written in the file: it may be missing
}

func wantedListeners(c *config.Config) (list []wantedListener) {
	for _, l := range c.Listen {
		list = append(list, wantedListener{address: l.Address, builtIn: l.Default})
	}
	if c.Admin.Address != "" {
		list = append(list, wantedListener{address: c.Admin.Address, admin: true, builtIn: c.Admin.Default})
	}
	return list
}

// inheritedListeners takes over the sockets that a configuration wants and that
// another process, or systemd, has opened.
func inheritedListeners(c *config.Config, from *handover.Listeners) (list []boundListener) {
	for _, l := range wantedListeners(c) {
		ln := from.Take(l.address)
		if ln == nil && l.admin {
			ln = from.Take("admin") // FileDescriptorName=admin
		}
		if ln != nil {
			list = append(list, boundListener{l.address, l.admin, ln})
		}
	}
	return list
}

// listeners returns the open sockets that a configuration wants.
func (in *Inside) listeners(c *config.Config) (list []boundListener) {
	for _, l := range c.Listen {
		if ln := in.Sockets[l.Address]; ln != nil {
			list = append(list, boundListener{l.Address, false, ln})
		}
	}
	return list
}

// listenerChange is a set of listeners that is bound and not yet in force.
type listenerChange struct {
	kept, added []boundListener
	leaving     []boundListener // those in force that the new set has not
	closed      []boundListener // of those: had to make room
	restored    []boundListener // of those: it was in vain, and they are open again
	noAdmin     string
}

// set returns what is open once the change is in force.
func (r *listenerChange) set() *listenerSet {
	return &listenerSet{slices.Concat(r.kept, r.added), r.noAdmin}
}

// rebind opens the listeners of a configuration that are not open already, all
// of them or none; have are those that are. What is in force stays open until
// the change is committed.
func rebind(c *config.Config, have []boundListener) (*listenerChange, error) {
	r := &listenerChange{leaving: slices.Clone(have)}
	var missing []wantedListener
	for _, l := range wantedListeners(c) {
		i := slices.IndexFunc(r.leaving, func(b boundListener) bool { return b.address == l.address && b.admin == l.admin })
		if i < 0 {
			missing = append(missing, l)
			continue
		}
		r.kept = append(r.kept, r.leaving[i])
		r.leaving = slices.Delete(r.leaving, i, i+1)
	}
	for _, l := range missing {
		ln, err := r.open(l)
		switch {
		case err == nil:
			r.added = append(r.added, boundListener{l.address, l.admin, ln})
		case l.builtIn && l.admin: // it may be another proxyd's: this one goes without
			r.noAdmin = err.Error()
		case l.builtIn && noFamily(err): // a machine without IPv6
		default:
			return r, errors.Join(listenError(l, err), r.undo())
		}
	}
	if len(r.set().clients()) == 0 {
		return r, errors.Join(errors.New("no address to listen on could be bound; set listen"), r.undo())
	}
	return r, nil
}

// open binds an address. Where listeners that leave hold the port, as when
// 127.0.0.1:8877 becomes 0.0.0.0:8877, they are closed first.
func (r *listenerChange) open(l wantedListener) (net.Listener, error) {
	ln, err := bind(l.address, l.admin)
	closed := len(r.closed)
	for _, old := range r.leaving {
		if err == nil || !l.admin && !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		if port := portOf(l.address); port != "" && portOf(old.ln.Addr().String()) == port && !slices.Contains(r.closed, old) {
			_ = old.ln.Close()
			r.closed = append(r.closed, old)
			ln, err = bind(l.address, l.admin)
		}
	}
	if err != nil && len(r.closed) > closed {
		return rebound(l.address, l.admin)
	}
	return ln, err
}

// releaseTime is how long a port may still be held after its listener was closed:
// a process that is being started has a copy of the descriptor until it executes
// its program.
const releaseTime = time.Second

// rebound binds an address whose port was this process's a moment ago.
func rebound(address string, forAdmin bool) (net.Listener, error) {
	for end := time.Now().Add(releaseTime); ; time.Sleep(releaseTime / 100) {
		ln, err := bind(address, forAdmin)
		if err == nil || time.Now().After(end) {
			return ln, err
		}
	}
}

// undo closes what was opened, and opens again what had to make room for it.
func (r *listenerChange) undo() (failed error) {
	closeAll(r.added)
	for _, old := range r.closed {
		again, err := rebound(old.ln.Addr().String(), old.admin)
		if err != nil { // another process was quicker
			failed = errors.Join(failed, fmt.Errorf("and %s, which had to make room, cannot be opened again: %w", old.address, err))
			continue
		}
		r.restored = append(r.restored, boundListener{old.address, old.admin, again})
	}
	return failed
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// bind opens a listener.
func bind(address string, forAdmin bool) (net.Listener, error) {
	if forAdmin {
		return admin.Listen(address)
	}
	return listenConfig().Listen(context.Background(), "tcp", address) // it never waits
}

// serve accepts on listeners until they are closed.
func (d *Daemon) serve(listeners []boundListener) {
	for _, b := range listeners { // each ends without an error when its listener is closed
		if b.admin {
			d.servers.Go(func() { _ = d.admin.Serve(b.ln) })
			continue
		}
		settings := d.settings(b.address)
		d.servers.Go(func() {
			if err := d.inbound.Serve(b.ln, settings); err != nil {
				d.journal.Add(event.Event{
					Severity: event.Error, Type: event.Listening, Text: "lost " + b.address + ": " + err.Error(), Hint: "start proxyd again",
				})
			}
		})
	}
}

// settings returns what the configuration in force says of a listener, the last
// known when it no longer does.
func (d *Daemon) settings(address string) func() config.Listener {
	var last atomic.Pointer[config.Listener]
	look := func() config.Listener {
		listen := d.snapshot.Load().Config().Listen
		for i := range listen {
			if listen[i].Address == address {
				last.Store(&listen[i])
			}
		}
		return *last.Load()
	}
	look() // a connection may be the first when the address is gone already
	return look
}

func closeAll(bound []boundListener) {
	for _, b := range bound {
		_ = b.ln.Close()
	}
}

// noFamily reports whether an address cannot be bound because the machine has no
// such address family.
func noFamily(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// listenError returns a failure to bind with what to do about it.
func listenError(l wantedListener, err error) error {
	_, port, _ := net.SplitHostPort(l.address)
	switch {
	case l.admin:
		return err // says so itself
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen %s: the port is taken, perhaps by another proxyd; see who holds it with: ss -ltnp 'sport = :%s'; or set listen to another address", l.address, port)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen %s: not permitted; use a port from 1024 on", l.address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listen %s: this machine does not have that address; see: ip addr", l.address)
	}
	return fmt.Errorf("listen %s: %w", l.address, err)
}

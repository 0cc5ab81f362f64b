package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"proxyd/internal/config"
)

// boundListener is a listener and the address that the configuration gives it.
type boundListener struct {
	address string
	ln      net.Listener
}

// listenerChange is a set of listeners that is bound and not yet in force.
type listenerChange struct {
	kept, added []boundListener
	leaving     []boundListener // those in force that the new set has not
	closed      []boundListener // of those: had to make room
	restored    []boundListener // of those: it was in vain, and they are open again
}

// rebind opens the listeners of a configuration that are not open already, all
// of them or none; have are those that are. What is in force stays open until
// settle.
func rebind(listen []config.Listener, have []boundListener) (*listenerChange, error) {
	r := &listenerChange{leaving: slices.Clone(have)}
	var missing []config.Listener
	for _, l := range listen {
		i := slices.IndexFunc(r.leaving, func(b boundListener) bool { return b.address == l.Address })
		if i < 0 {
			missing = append(missing, l)
			continue
		}
		r.kept = append(r.kept, r.leaving[i])
		r.leaving = slices.Delete(r.leaving, i, i+1)
	}
	for _, l := range missing {
		ln, err := r.open(l.Address)
		if err != nil && l.Default && noFamily(err) {
			continue // a built-in address, and a machine without IPv6
		}
		if err != nil {
			return r, errors.Join(listenError(l.Address, err), r.undo())
		}
		r.added = append(r.added, boundListener{l.Address, ln})
	}
	if len(r.kept)+len(r.added) == 0 {
		return r, errors.New("no address to listen on could be bound; set listen")
	}
	return r, nil
}

// open binds an address. Where listeners that leave hold the port, as when
// 127.0.0.1:8877 becomes 0.0.0.0:8877, they are closed first.
func (r *listenerChange) open(address string) (net.Listener, error) {
	ln, err := bind(address)
	for _, old := range r.leaving {
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		if portOf(old.ln.Addr().String()) == portOf(address) && !slices.Contains(r.closed, old) {
			_ = old.ln.Close()
			r.closed = append(r.closed, old)
			ln, err = bind(address)
		}
	}
	return ln, err
}

// undo closes what was opened, and opens again what had to make room for it.
func (r *listenerChange) undo() (fault error) {
	closeAll(r.added)
	for _, old := range r.closed {
		again, err := bind(old.ln.Addr().String())
		if err != nil { // somebody was quicker
			fault = errors.Join(fault, fmt.Errorf("and %s, which had to make room, cannot be opened again: %w", old.address, err))
			continue
		}
		r.restored = append(r.restored, boundListener{old.address, again})
	}
	return fault
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

func bind(address string) (net.Listener, error) {
	return listenConfig().Listen(context.Background(), "tcp", address)
}

// listeners are those in force.
func (d *Daemon) listeners() []boundListener { return *d.bound.Load() }

// commit puts a new set in force: what came with it is served, what left is closed.
func (d *Daemon) commit(r *listenerChange) {
	all := slices.Concat(r.kept, r.added)
	d.bound.Store(&all)
	d.serveEach(r.added)
	closeAll(r.leaving)
}

// rollback keeps the set in force after a rebind that failed.
func (d *Daemon) rollback(r *listenerChange) {
	all := slices.Clone(d.listeners())
	for _, b := range r.restored {
		i := slices.IndexFunc(all, func(x boundListener) bool { return x.address == b.address })
		all[i] = b
	}
	d.bound.Store(&all)
	d.serveEach(r.restored)
}

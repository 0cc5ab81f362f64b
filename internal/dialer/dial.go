// Package dialer opens TCP connections from this machine: it resolves names,
// races the addresses of a target, binds to a source address or an interface,
// and refuses what must not be reached from here.
//
// It knows nothing of proxies' protocols, of pools, or of the configuration.
package dialer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// nextAddress is the head start of an address before the next one is tried as
// well (RFC 8305 section 5).
const nextAddress = 250 * time.Millisecond

// keepAlive finds a dead peer of an idle connection within 45 s.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 3}

// Dialer opens TCP connections from this machine. The zero value is ready for
// use. It is safe for concurrent use.
type Dialer struct {
	Source    netip.Addr // the local address; invalid: the kernel chooses
	Interface string     // the network interface; "": the kernel chooses
	History   *History   // of earlier races; nil: none is kept
}

// errNoFamily is the error of a target without an address of the source's family.
var errNoFamily = errors.New("no address of the source address's family")

// Dial connects to the first of addrs that answers, at port. The caller closes
// the connection; the others of the race are closed when Dial returns. The error
// is the one that says most about the target.
func (d *Dialer) Dial(ctx context.Context, addrs []netip.Addr, port uint16) (*net.TCPConn, error) {
	if d.Source.IsValid() {
		addrs = sameFamily(addrs, d.Source)
	}
	switch len(addrs) {
	case 0:
		return nil, errNoFamily
	case 1:
		return d.one(ctx, netip.AddrPortFrom(addrs[0], port))
	}
	if d.History != nil {
		addrs = d.History.order(d, addrs)
	}
	return d.race(ctx, addrs, port)
}

func (d *Dialer) one(ctx context.Context, a netip.AddrPort) (*net.TCPConn, error) {
	nd := net.Dialer{KeepAliveConfig: keepAlive} // TCP_NODELAY is Go's default
	if d.Source.IsValid() {
		nd.LocalAddr = &net.TCPAddr{IP: d.Source.AsSlice(), Zone: d.Source.Zone()}
	}
	if d.Source.IsValid() || d.Interface != "" {
		nd.ControlContext = d.control
	}
	// Not DialTCP: it binds even without a source address, a system call that
	// moreover ties up a local port for each connection.
	conn, err := nd.DialContext(ctx, "tcp", a.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil // network "tcp" gives nothing else
}

// control runs on the new socket just before it connects.
func (d *Dialer) control(_ context.Context, _, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = bindSource(fd, d.Source.IsValid(), d.Interface) })
	if err != nil {
		return err
	}
	return failed
}

type dialled struct {
	at   int // among the addresses
	conn *net.TCPConn
	err  error
}

// race is Happy Eyeballs (RFC 8305): the next address is tried when the ones
// before have failed, or beside them after a while.
func (d *Dialer) race(ctx context.Context, addrs []netip.Addr, port uint16) (*net.TCPConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan dialled, len(addrs)) // a slot for each, so that none ever blocks
	begun := make([]time.Time, 0, len(addrs)) // when each was tried; zero: it has answered, or failed
	timer := time.NewTimer(0)
	defer timer.Stop()
	var won *net.TCPConn
	var worst error
	running, winner := 0, 0
	for won == nil && (running > 0 || len(begun) < len(addrs)) {
		next := timer.C
		if len(begun) == len(addrs) {
			next = nil
		}
		select {
		case <-next:
			at := len(begun)
			a := netip.AddrPortFrom(addrs[at], port)
			begun = append(begun, time.Now())
			running++
			go func() { // ends with ctx at the latest; collected below
				conn, err := d.one(ctx, a)
				results <- dialled{at, conn, err}
			}()
			timer.Reset(nextAddress)
		case r := <-results:
			running--
			won, worst, winner = r.conn, moreTelling(worst, r.err), r.at
			if !IsTimeout(r.err) {
				begun[r.at] = time.Time{}
			}
			timer.Reset(0)
		}
	}
	if won != nil && d.History != nil {
		d.History.success(d, addrs[winner], overdue(addrs, begun))
	}
	cancel()
	for ; running > 0; running-- {
		if r := <-results; r.conn != nil {
			_ = r.conn.Close()
		}
	}
	if won != nil {
		return won, nil
	}
	return nil, worst
}

// overdue returns the addresses that have not answered within nextAddress.
func overdue(addrs []netip.Addr, begun []time.Time) (list []netip.Addr) {
	for i, since := range begun {
		if !since.IsZero() && time.Since(since) >= nextAddress {
			list = append(list, addrs[i])
		}
	}
	return list
}

// moreTelling returns the error that says more about the far end: a refusal
// before an address that is out of reach from here.
func moreTelling(a, b error) error {
	if a == nil || (b != nil && kindOf(b) >= kindOf(a)) {
		return b
	}
	return a
}

// sameFamily returns the addresses of the family of as.
func sameFamily(addrs []netip.Addr, as netip.Addr) []netip.Addr {
	var same []netip.Addr
	for _, a := range addrs {
		if a.Is4() == as.Unmap().Is4() {
			same = append(same, a)
		}
	}
	return same
}

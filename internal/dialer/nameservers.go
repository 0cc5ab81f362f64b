package dialer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	nextServer      = 700 * time.Millisecond // the head start of a name server before the next one is asked as well
	resolutionDelay = 50 * time.Millisecond  // how long to wait for the other family's answer (RFC 8305 section 3)
	serversFresh    = 5 * time.Second        // the system's list is read again after this
	serverRounds    = 2                      // how often each server is asked in one look-up
)

// nameservers looks names up with Go's own resolver, which reads the hosts file
// and the system's search list. But it asks for A and AAAA separately, and does
// not wait long for one name server before it asks the next: if the first one is
// dead, or drops one of the two questions, Go's resolver alone needs 5 s for each.
// The server that answered last is asked first. It is safe for concurrent use.
type nameservers struct {
	system func(context.Context) []string // the system's list, as host:port

	mu       sync.Mutex
	list     []string
	read     time.Time
	good     string
	answered atomic.Int64 // when a server last sent anything, in Unix nanoseconds
}

// NoDNSError is the error of a look-up that no name server answered.
type NoDNSError struct {
	Servers []string
	Cause   error
}

// Error returns the text, which names the servers.
func (e *NoDNSError) Error() string {
	who := "this machine's DNS"
	if len(e.Servers) > 0 {
		who += " (" + strings.Join(e.Servers, ", ") + ")"
	}
	if dns, ok := errors.AsType[*net.DNSError](e.Cause); ok && !dns.IsTimeout {
		return who + " did not answer: " + dns.Err[strings.LastIndex(": "+dns.Err, ": "):]
	}
	return who + " did not answer"
}

// Unwrap returns the cause.
func (e *NoDNSError) Unwrap() error { return e.Cause }

// found is one family's answer.
type found struct {
	v6    bool
	addrs []netip.Addr
	err   error
}

// lookup has the signature of net.Resolver.LookupNetIP.
func (n *nameservers) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if network != "ip" {
		return n.ask(ctx, network, host)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan found, 2)
	for _, family := range []string{"ip4", "ip6"} {
		go func() { // ends with ctx at the latest
			addrs, err := n.ask(ctx, family, host)
			results <- found{family == "ip6", addrs, err}
		}()
	}
	first := <-results
	patience := resolutionDelay
	switch {
	case first.err == nil && first.v6 && !reachesV6(first.addrs[0]), first.err != nil && !isNotFound(first.err):
		return n.both(first, <-results)
	// Without an answer, most likely there is no such name, and the other question was
	// dropped. With IPv6 alone, a target that listens on IPv4 alone would be lost.
	case first.err != nil, first.v6:
		patience = serverRounds * nextServer
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case second := <-results:
		return n.both(first, second)
	case <-timer.C:
		return first.addrs, first.err
	}
}

// both merges the answers of both families, IPv6 first if this machine reaches it
// (RFC 6724, as far as it is about the families).
func (n *nameservers) both(a, b found) ([]netip.Addr, error) {
	switch {
	case a.err != nil && b.err != nil:
		if isNotFound(a.err) { // no such name, or no address of this family: the other error says more
			return nil, b.err
		}
		return nil, a.err
	case a.err != nil:
		return b.addrs, nil
	case b.err != nil:
		return a.addrs, nil
	}
	if !a.v6 {
		a, b = b, a
	}
	if !reachesV6(a.addrs[0]) {
		a, b = b, a
	}
	return slices.Concat(a.addrs, b.addrs), nil
}

// ask looks up one family.
func (n *nameservers) ask(ctx context.Context, network, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	servers := n.servers(ctx)
	queue := []string{""} // no server to choose: the library decides
	if len(servers) > 0 {
		queue = slices.Repeat(servers, serverRounds)
	}
	type reply struct {
		server string
		addrs  []netip.Addr
		err    error
	}
	replies := make(chan reply, len(queue)) // a slot for each, so that none ever blocks
	timer := time.NewTimer(0)
	defer timer.Stop()
	running := 0
	var failed error
	for running > 0 || len(queue) > 0 {
		next := timer.C
		if len(queue) == 0 {
			next = nil
		}
		select {
		case <-next:
			server := queue[0]
			queue = queue[1:]
			running++
			go func() { // ends with ctx
				addrs, err := n.resolver(server).LookupNetIP(ctx, network, host)
				if err == nil && len(addrs) == 0 {
					err = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
				}
				replies <- reply{server, addrs, err}
			}()
			timer.Reset(nextServer)
		case r := <-replies:
			running--
			if r.err == nil || isNotFound(r.err) {
				n.prefer(r.server)
				return r.addrs, r.err
			}
			failed = r.err
			timer.Reset(0)
		case <-ctx.Done():
			queue, failed = nil, ctx.Err()
			running = 0
		}
	}
	if errors.Is(failed, context.Canceled) || n.answered.Load() >= start.UnixNano() {
		return nil, failed
	}
	return nil, &NoDNSError{servers, failed}
}

// isNotFound reports whether a look-up ended in an answer that holds no address.
func isNotFound(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	_, unsuitable := errors.AsType[*net.AddrError](err) // the hosts file has the other family alone
	return ok && dns.IsNotFound || unsuitable
}

// resolver returns Go's resolver with server in place of every name server, or
// with the system's list for "". Each look-up has its own: one resolver asks the
// same question only once at a time.
func (n *nameservers) resolver(server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if server != "" {
			address = server
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		// The library respects only the deadline.
		context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		if udp, ok := conn.(*net.UDPConn); ok {
			return &heardUDP{udp, &n.answered}, nil
		}
		return conn, nil
	}}
}

// heardUDP records when something is received. It is a net.PacketConn: the library
// distinguishes UDP from TCP by that.
type heardUDP struct {
	*net.UDPConn
	at *atomic.Int64
}

// Read records when it has read something.
func (c *heardUDP) Read(p []byte) (int, error) {
	n, err := c.UDPConn.Read(p)
	if n > 0 {
		c.at.Store(time.Now().UnixNano())
	}
	return n, err
}

// servers returns the name servers in the order in which to ask them. The caller
// must not modify the list.
func (n *nameservers) servers(ctx context.Context) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := time.Now(); n.read.IsZero() || now.Sub(n.read) >= serversFresh {
		n.list, n.read = n.system(context.WithoutCancel(ctx)), now
	}
	if i := slices.Index(n.list, n.good); i > 0 {
		n.list = slices.Concat([]string{n.good}, n.list[:i], n.list[i+1:])
	}
	return n.list
}

// prefer makes server the first one to ask.
func (n *nameservers) prefer(server string) {
	n.mu.Lock()
	n.good = server
	n.mu.Unlock()
}

var errListing = errors.New("only listing the name servers")

// systemServers returns the name servers that Go's resolver would ask, in its
// order and on every system, without asking any.
func systemServers(ctx context.Context) []string {
	var mu sync.Mutex
	var list []string
	r := &net.Resolver{PreferGo: true, Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if !slices.Contains(list, address) {
			list = append(list, address)
		}
		return nil, errListing
	}}
	_, _ = r.LookupNetIP(ctx, "ip4", "name-servers.invalid.")
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(list)
}

// reachesV6 reports whether this machine has a source address that leads to a
// global IPv6 address. Nothing is sent.
func reachesV6(to netip.Addr) bool {
	c, err := net.DialUDP("udp6", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 53)))
	if err != nil {
		return false
	}
	defer c.Close()
	from, ok := netip.AddrFromSlice(c.LocalAddr().(*net.UDPAddr).IP)
	return ok && from.IsPrivate() == to.IsPrivate() && !embedded(from).IsValid()
}

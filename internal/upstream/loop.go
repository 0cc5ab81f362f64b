package upstream

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	"proxyd/internal/config"
	"proxyd/internal/dialer"
	"proxyd/internal/target"
)

// A transparent listener gets what netfilter redirects, and a rule that forgets to
// leave proxyd out redirects what proxyd itself opens: without end, since each such
// connection opens the next. So while a configuration has such a listener, its Set
// keeps the addresses of the connections that it has opened, and knows its upstreams
// by address.
type loopGuard struct {
	outgoing *dialer.Outgoing
	upstream map[netip.AddrPort]string // names by address, where the URL has one
	named    map[uint16][]*Upstream    // those whose URL has a name, by port
}

// newLoopGuard returns nil where c has no transparent listener: nothing is kept then.
func (s *Set) newLoopGuard(c *config.Config) *loopGuard {
	if !slices.ContainsFunc(c.Listen, func(l config.Listener) bool { return l.Transparent }) {
		return nil
	}
	g := &loopGuard{outgoing: &s.shared.outgoing, upstream: map[netip.AddrPort]string{}, named: map[uint16][]*Upstream{}}
	for _, u := range s.list {
		switch {
		case u.IsDirect() || u.via != nil: // which is not reached from here
		case u.url.Host.IsIP():
			g.upstream[netip.AddrPortFrom(u.url.Host.IP, u.url.Port)] = u.name
		default:
			g.named[u.url.Port] = append(g.named[u.url.Port], u)
		}
	}
	return g
}

// track notes a connection that has just been opened. The result is to be called when
// it is closed.
func (s *Set) track(c net.Conn) (release func()) {
	if s.loops == nil {
		return func() {}
	}
	return s.loops.outgoing.Add(c)
}

// Loop returns why a redirected connection between two addresses would go round, ""
// if it does not. host is what a client names, or the address again. It opens nothing
// and looks up no names.
func (s *Set) Loop(from, to netip.AddrPort, host string) string {
	switch g := s.loops; {
	case s.guard.IsOwn(to):
		return "its destination " + to.String() + " is proxyd itself"
	case g == nil: // the listener has just left the configuration
		return ""
	case g.outgoing.Has(from, to):
		return "proxyd itself has opened it, to " + to.String()
	}
	if name := s.loops.at(s, to); name != "" {
		return "its destination " + to.String() + " is the upstream " + name
	}
	if u := s.loops.called(host, to.Port()); u != nil {
		return "its destination " + u.url.Host.Name + ":" + strconv.Itoa(int(to.Port())) + " is the upstream " + u.name
	}
	return ""
}

// called returns the upstream whose URL has a host's name and a port, nil if there is none.
func (g *loopGuard) called(host string, port uint16) *Upstream {
	for _, u := range g.named[port] {
		if h, err := target.ParseHost(host); err == nil && h.Name == u.url.Host.Name {
			return u
		}
	}
	return nil
}

// at returns the name of the upstream at an address, "" if there is none.
func (g *loopGuard) at(s *Set, to netip.AddrPort) string {
	if name := g.upstream[to]; name != "" {
		return name
	}
	for _, u := range g.named[to.Port()] {
		if slices.Contains(s.shared.resolver.Known(u.url.Host.Name), to.Addr()) {
			return u.name
		}
	}
	return ""
}

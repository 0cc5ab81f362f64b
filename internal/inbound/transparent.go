package inbound

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/target"
	"proxyd/internal/transparent"
	"proxyd/internal/tunnel"
)

// refusedWait is how long a redirected connection that is refused by its address
// alone is looked at, for whether its client understands an answer.
const refusedWait = 250 * time.Millisecond

// serveTransparent serves a connection that netfilter has redirected here. Its client
// believes to be connected to its destination already, so there is no reply, and a
// refusal is a reset, except that one which speaks plain HTTP gets an answer.
//
// Its target is the name that a name server of ours has given the address out for; the
// address, where a CIDR of routes lists it; else the name in its first bytes. In the first
// two cases nothing is waited for: the server may be the one that speaks first.
func (c *client) serveTransparent() {
	c.reportProtocol(tunnel.Transparent)
	r := &c.req.Request
	*r = tunnel.Request{Protocol: tunnel.Transparent}
	to, f := c.destination(r)
	looked := false
	if f == nil {
		switch name, known := c.nameOf(to.Addr()); {
		case known:
			r.Host = name
		case c.s.handler.ListsAddress(to.Addr(), c.settings.Address):
		default:
			first, left := c.look()
			if left {
				c.close()
				return
			}
			looked = true
			f = setName(r, first)
		}
		if f == nil {
			f = c.loop(to, r.Host) // again: what has written first bytes is known by now
		}
	}
	if f != nil {
		c.refuseTransparent(answer{Refusal: c.record(r, f), proxy: f.proxy}, f.delay, looked)
		return
	}
	t, refusal := c.open(c.complete(r))
	if refusal != nil {
		c.refuseTransparent(answer{Refusal: refusal}, 0, looked)
		return
	}
	if f := c.loop(to, r.Host); f != nil && !looked { // it may have been accepted before its own dial had returned
		c.refuseTransparent(answer{Refusal: t.Refuse(tunnel.Refusal{Class: f.class, Text: f.text, Hint: f.hint, ProxyError: f.proxy})}, 0, false)
		return
	}
	c.carry(t)
}

// destination returns where the connection was to go, and makes it the target. A
// refusal says why it may not go there, whatever the rules say.
func (c *client) destination(r *tunnel.Request) (netip.AddrPort, *refusal) {
	to, err := netip.AddrPort{}, transparent.ErrNotRedirected
	if c.tcp != nil {
		to, err = c.s.opts.Destination(c.tcp)
	}
	if to.IsValid() {
		r.Host, r.Port = to.Addr().String(), to.Port()
	}
	switch {
	case errors.Is(err, transparent.ErrNotRedirected):
		return to, looped("the connection was not redirected here, but made to the listener itself",
			"this listener is for what netfilter redirects (docs/any-program.md); clients that know of a proxy need another one")
	case err != nil:
		return to, &refusal{class: failure.Local, text: cleanLine("the connection's destination is not known: %v", err),
			hint: "the listener must be a socket of plain TCP, on a kernel with connection tracking (nf_conntrack)"}
	case !c.allowed():
		return to, c.notAllowed()
	}
	return to, c.loop(to, r.Host)
}

// loop returns why the connection would go round, nil if it does not. host is its
// target's, as far as it is known.
func (c *client) loop(to netip.AddrPort, host string) *refusal {
	if why := c.s.handler.Loop(c.addr, to, host); why != "" {
		return looped(why, "except proxyd and its upstreams from what is redirected (docs/any-program.md)")
	}
	return nil
}

func looped(why, hint string) *refusal {
	const loop = "proxy_loop_detected"
	return &refusal{class: failure.Denied, proxy: loop, text: loop + ": " + why, hint: hint}
}

func (c *client) nameOf(ip netip.Addr) (string, bool) {
	if c.s.opts.NameOf == nil {
		return "", false
	}
	return c.s.opts.NameOf(ip)
}

// look reads first bytes until they say what they are for, within the handshake's
// deadline. It takes none of them. left reports that the client has gone, by a reset or
// without any.
func (c *client) look() (first transparent.First, left bool) {
	last := false
	for {
		b := c.in.pending()
		if len(b) >= transparent.MaxFirst {
			b, last = b[:transparent.MaxFirst], true
		}
		if first, done := transparent.Look(b, last); done {
			return first, false
		}
		if err := c.in.fill(); err != nil {
			if !isTimeout(err) && (len(c.in.pending()) == 0 || !errors.Is(err, io.EOF)) {
				return first, true
			}
			last = true
		}
	}
}

// setName makes the name in the first bytes the target, if they have one. An address
// there is none, and the one that the client has connected to stands. What is no host is
// refused; it may hold a password, so the target stays the address.
func setName(r *tunnel.Request, first transparent.First) *refusal {
	h, err := target.ParseHost(first.Host)
	switch {
	case first.Host == "":
		r.Hint.Nameless = first.Why
	case err == nil && h.IsIP():
		r.Hint.Nameless = "its first bytes have an address in place of one"
	case err != nil:
		return bad(err.Error())
	default:
		r.Host = first.Host
	}
	return nil
}

// refuseTransparent ends a connection whose refusal has been recorded. looked is whether
// its first bytes have been looked at already.
func (c *client) refuseTransparent(a answer, delay time.Duration, looked bool) {
	if a.Class == failure.ClientGone {
		c.close()
		return
	}
	if !looked {
		c.conn.SetReadDeadline(time.Now().Add(refusedWait))
	}
	if b := c.in.pending(); looked || len(b) > 0 || c.in.fill() == nil {
		if first, _ := transparent.Look(c.in.pending(), true); first.Speaks == transparent.HTTP {
			a.head = bytes.HasPrefix(c.in.pending(), []byte("HEAD "))
			c.sendRefusal(a, delay)
			return
		}
	}
	if c.wait(a.Delay + delay) {
		c.reset()
	}
	c.close()
}

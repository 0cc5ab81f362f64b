package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/dialer"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
	"proxyd/internal/proxyclient"
	"proxyd/internal/target"
)

// open opens a connection to t, which is not counted yet.
func (u *Upstream) open(ctx context.Context, s *Set, t Target) (*Conn, error) {
	if u.url.Scheme == config.SchemeDirect {
		conn, err := u.openDirect(ctx, s, t)
		if err != nil {
			return nil, err
		}
		return &Conn{Conn: conn, Member: u.detached, Release: s.track(conn), local: true}, nil
	}
	if !t.addr().IsValid() {
		return nil, failure.New(failure.BadRequest, "the target's name cannot be sent to a proxy")
	}
	l, err := u.hop(ctx, s, &t)
	if err != nil {
		return nil, err
	}
	outer, early, err := u.connect(ctx, s, l, t)
	if err != nil {
		l.close()
		if e, ok := errors.AsType[*failure.Error](err); ok && t.Upgrade && u.forwards() && e.Class == failure.UpstreamDenied {
			return u.openForward(ctx, s, t)
		}
		return nil, err
	}
	return &Conn{Conn: outer, Early: early, Member: u.detached, Release: l.release, local: l.beside, Via: l.via}, nil
}

// openForward opens a connection to an HTTP upstream that takes the request in
// absolute form.
func (u *Upstream) openForward(ctx context.Context, s *Set, t Target) (*Conn, error) {
	l, err := u.hopTLS(ctx, s, &t)
	if err != nil {
		return nil, err
	}
	var fields strings.Builder
	if basic, ok := u.client.Credentials.Basic(); ok {
		fields.WriteString("Proxy-Authorization: " + basic.Reveal() + "\r\n")
	}
	if l.beside {
		fields.WriteString("Via: " + s.via(t) + "\r\n")
	}
	return &Conn{
		Conn: l.conn, Member: u.detached, Forward: &Forward{Fields: config.NewSecret(fields.String())}, Release: l.release, local: l.beside, Via: l.via,
	}, nil
}

// chain returns a function that calls both, such as to release a connection and
// then the hop before it.
func chain(first, second func()) func() { return func() { first(); second() } }

// link is a connection to an upstream.
type link struct {
	conn    net.Conn
	release func()
	beside  bool   // the upstream is a process on this machine
	via     string // the hops before it, as Conn.Via has them
}

func (l *link) close() {
	_ = l.conn.Close()
	l.release()
}

// hop connects to the upstream itself: from here, or through the hop before. t
// is what it will be asked for, and is refused before anything is sent; nil for
// nothing.
func (u *Upstream) hop(ctx context.Context, s *Set, t *Target) (*link, error) {
	if t != nil {
		if e := s.refuses(t); e != nil {
			return nil, e
		}
	}
	l, err := u.connectHop(ctx, s)
	if err != nil {
		return nil, err
	}
	if t != nil && l.beside {
		if e := s.refusesLocal(t); e != nil {
			l.close()
			return nil, e
		}
	}
	return l, nil
}

func (u *Upstream) connectHop(ctx context.Context, s *Set) (*link, error) {
	start := time.Now()
	if u.via == nil {
		addrs := []netip.Addr{u.url.Host.IP}
		if !u.url.Host.IsIP() {
			var err error
			if addrs, err = s.shared.resolver.LookupCached(ctx, u.url.Host.Name); err != nil {
				if e := dialer.DNSError(err, "its name "+u.url.Host.Name, time.Since(start)); e != nil {
					return nil, e
				}
				if dialer.IsTimeout(err) {
					return nil, failure.New(failure.UpstreamTimeout, "has the name %s, which was not resolved within %s", u.url.Host.Name, printable.Seconds(time.Since(start))).With(err, "check this machine's DNS")
				}
				return nil, failure.New(failure.UpstreamDNS, "has the name %s, which is not found", u.url.Host.Name).With(err, "check the host in its URL, and this machine's DNS")
			}
		}
		if err := s.guard.CheckUpstream(addrs, u.url.Port); err != nil {
			return nil, err
		}
		conn, err := (&dialer.Dialer{History: s.shared.reached}).Dial(ctx, addrs, u.url.Port)
		if err != nil {
			return nil, u.unconnected(s, dialer.UpstreamError(err, time.Since(start)))
		}
		return &link{conn: conn, release: s.track(conn), beside: isBeside(conn)}, nil
	}
	conn, err := u.via.dialHop(ctx, hostOf(u.url))
	if err == nil {
		l := &link{conn: conn.Conn, release: conn.Release, beside: conn.local && u.isHere(s, conn), via: conn.Member.name}
		if conn.Via != "" {
			l.via += ", " + conn.Via
		}
		if l.beside && u.url.Host.IsIP() {
			if err := s.guard.CheckUpstream([]netip.Addr{u.url.Host.IP}, u.url.Port); err != nil {
				l.close()
				return nil, err
			}
		}
		return l, nil
	}
	var e *failure.Error
	if !errors.As(err, &e) {
		return nil, err
	}
	class, ok := map[failure.Class]failure.Class{
		failure.TargetRefused: failure.UpstreamRefused, failure.TargetUnreachable: failure.UpstreamUnreachable,
		failure.TargetDNS: failure.UpstreamDNS, failure.TargetTimeout: failure.UpstreamTimeout,
	}[e.Class]
	if !ok {
		class = e.Class
	}
	mine := failure.New(class, "via %s: %s", u.via.name, e.Error()).With(err, e.Hint)
	mine.Hop, mine.ProxyError = !ok, e.ProxyError
	return nil, mine
}

// unconnected returns the error of a connection to u that could not be made: where its
// name is gone, that says more than what its last address does.
func (u *Upstream) unconnected(s *Set, e *failure.Error) *failure.Error {
	if e.Class == failure.Local || u.url.Host.IsIP() || !s.shared.resolver.Doubt(u.url.Host.Name) {
		return e
	}
	return failure.New(failure.UpstreamDNS, "has the name %s, which is not found any more; at its last address it %s", u.url.Host.Name, e.Text).
		With(e, "check the host in its URL: the provider may have renamed it")
}

// isHere reports whether u, which conn leads to from this machine, is on this
// machine too.
func (u *Upstream) isHere(s *Set, conn *Conn) bool {
	if conn.Member.IsDirect() {
		return isBeside(conn.Conn)
	}
	if !u.url.Host.IsIP() {
		return s.guard.IsLocalName(u.url.Host.Name)
	}
	return isOurAddress(u.url.Host.IP)
}

// connect asks the upstream for t on a connection to it.
func (u *Upstream) connect(ctx context.Context, s *Set, l *link, t Target) (tunnel net.Conn, early []byte, err error) {
	r := proxyclient.Request{To: t.addr()}
	if l.beside {
		r.Via = s.via(t)
	}
	if u.client.NeedsIP(r.To) {
		if r.IP, err = u.lookupTarget(ctx, s, l, t); err != nil {
			return nil, nil, err
		}
	}
	tunnel, early, fail := u.client.Connect(ctx, l.conn, r)
	if fail != nil {
		return nil, nil, fail
	}
	return tunnel, early, nil
}

// lookupTarget returns an address of t for an upstream that takes no names.
func (u *Upstream) lookupTarget(ctx context.Context, s *Set, l *link, t Target) (netip.Addr, error) {
	start := time.Now()
	addrs, err := s.shared.resolver.Lookup(ctx, "ip4", t.Host)
	if e := dialer.DNSError(err, "the target's name, which socks4 needs", time.Since(start)); e != nil {
		return netip.Addr{}, e
	}
	if err != nil {
		return netip.Addr{}, failure.New(failure.TargetDNS, "needs the target's address, and this machine does not find its name").With(err, "use socks4a:// or socks5://")
	}
	t.IP = addrs[0] // the upstream sees the address, so that is what counts
	if e := s.refuses(&t); e != nil {
		return netip.Addr{}, e
	}
	if l.beside {
		if e := s.refusesLocal(&t); e != nil {
			return netip.Addr{}, e
		}
	}
	return t.IP, nil
}

// openDirect connects from this machine, past the guard.
func (u *Upstream) openDirect(ctx context.Context, s *Set, t Target) (net.Conn, error) {
	start := time.Now()
	addrs := []netip.Addr{t.IP}
	if !t.IP.IsValid() {
		if e := s.guard.CheckName(t.Host); e != nil {
			return nil, e
		}
		var err error
		if addrs, err = s.shared.resolver.Lookup(ctx, "ip", t.Host); err != nil {
			if e := dialer.DNSError(err, "the target's name", time.Since(start)); e != nil {
				return nil, e
			}
			if dialer.IsTimeout(err) {
				e := failure.New(failure.TargetTimeout, "did not resolve the target's name within %s", printable.Seconds(time.Since(start))).With(err, "")
				e.Unsure = true
				return nil, e
			}
			return nil, failure.New(failure.TargetDNS, "does not find the target's name").With(err, "")
		}
	}
	var allowed []netip.Addr
	var denied *failure.Error
	for _, a := range addrs {
		e := s.guard.CheckDirect(netip.AddrPortFrom(a, t.Port), t.Trusted)
		if e == nil && t.NoLink {
			e = dialer.CheckLinkLocal(a)
		}
		if e != nil {
			denied = e
			continue
		}
		if len(allowed) < 8 {
			allowed = append(allowed, a)
		}
	}
	if len(allowed) == 0 && denied != nil {
		return nil, denied
	}
	conn, err := (&dialer.Dialer{Source: u.url.Source, Interface: u.url.Interface, History: s.shared.reached}).Dial(ctx, allowed, t.Port)
	if err != nil {
		e := dialer.TargetError(err, time.Since(start))
		if denied != nil && (e.Class == failure.TargetRefused || e.Class == failure.TargetUnreachable) {
			return nil, denied // localhost is 127.0.0.1, which is proxyd itself, and ::1, where nothing listens
		}
		e.Sent = e.Class != failure.TargetUnreachable && e.Class != failure.Local
		return nil, e
	}
	return conn, nil
}

// Cut returns the error of an answer that ended with err before its end.
// Through an upstream that forwards requests it may be the upstream's.
func (u *Upstream) Cut(err error) *failure.Error {
	e := &failure.Error{Class: failure.TargetProtocol, Upstream: u.name, ProxyError: proxyIncomplete, Err: err}
	switch {
	case dialer.IsTimeout(err):
		e.Class, e.Text = failure.TargetTimeout, "gave an answer that stopped coming"
	case dialer.IsReset(err):
		e.Text = "gave an answer that was cut short by a reset"
	case dialer.IsClosed(err):
		e.Text = "gave an answer that was cut short by the end of the connection"
	default:
		e.Text = "gave an answer whose body is malformed"
	}
	return e
}

// Target is where a connection goes, normalised when it came in.
type Target struct {
	Host     string     // a name, or an address's canonical text
	IP       netip.Addr // set when Host is an address
	Port     uint16
	Exchange string // "" when the host belongs to no exchange
	Kind     catalog.Kind
	Trusted  bool           // a route names this host and says direct: private addresses are allowed
	Named    bool           // a route names this host and does not refuse it: a proxy on this machine may be asked for any such host
	NoLink   bool           // no address of this machine's own links may be reached, trusted or not
	Hop      bool           // it is an upstream, reached through the hop before
	Hops     string         // the hop markers in the request (see Hops); they are passed on to an upstream on this machine
	Client   netip.AddrPort // of a plain request: idle connections are kept only for it
	Upgrade  bool           // a plain request that asks for an upgrade: absolute form will do if CONNECT is denied
}

// addr returns the target as a proxy is asked for it.
func (t *Target) addr() proxyclient.Addr { return proxyclient.Addr{Host: t.host(), Port: t.Port} }

// host returns the target's host.
func (t *Target) host() target.Host { return target.Host{Name: t.Host, IP: t.IP} }

// Conn is an open connection to a target. The caller owns it and must call Release
// once, when it has ended.
type Conn struct {
	Conn    net.Conn          // a bare *net.TCPConn unless TLS ends in it
	Early   []byte            // what the upstream sent behind its reply
	Forward *Forward          // set when Conn leads to an HTTP upstream that awaits the request in absolute form
	Member  *Upstream         // for what is known of it; it keeps no set in memory
	Via     string            // the hops that it was reached through, the nearest to it first: "corp-1, hq-2"; "" for none
	Tried   []failure.Attempt // the failed attempts before this one
	Queued  time.Duration     // waited for a budget or a free dial slot
	Dial    time.Duration     // what the successful attempt took
	Release func()
	local   bool // it leaves from this machine: direct, or through a proxy that runs here
}

// Forward is what a request in absolute form needs beyond the client's fields.
type Forward struct {
	Fields   config.Secret // whole lines for its head, credentials among them; may be empty
	Answered func()        // to be called when the answer has come: only then has the target certainly seen the connection
}

// hopTLS is hop, and TLS on it where the upstream speaks it.
func (u *Upstream) hopTLS(ctx context.Context, s *Set, t *Target) (*link, error) {
	l, err := u.hop(ctx, s, t)
	if err != nil {
		return nil, err
	}
	secured, e := u.client.Secure(ctx, l.conn)
	if e != nil {
		l.close()
		return nil, e
	}
	l.conn = secured
	return l, nil
}

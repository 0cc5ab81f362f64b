// Package upstream holds the ways out: how to dial a target through one
// upstream, how to choose among many, and what is remembered of how they did.
//
// It knows nothing of clients, of routing rules, or of bytes once a way is open.
package upstream

import (
	"net"
	"net/netip"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/failure"
	"proxyd/internal/proxyclient"
	"proxyd/internal/target"
)

// Target is where a connection goes, normalised once at the border.
type Target struct {
	Host     string     // a name, or an address's canonical text
	IP       netip.Addr // set when Host is an address
	Port     uint16
	Exchange string // "" when the host is no exchange's
	Kind     catalog.Kind
	Trusted  bool           // a route names this host and says direct: private addresses are allowed
	Named    bool           // a route names this host and does not refuse it: a proxy on this machine may be asked for it whatever it is
	Hop      bool           // it is an upstream, reached through the hop before
	Hops     string         // the hop markers that the request bore (see Hops); they are passed on to an upstream on this machine
	Client   netip.AddrPort // of a plain request: connections are kept for it alone
	Upgrade  bool           // a plain request that asks for an upgrade: where CONNECT is denied, absolute form will do
}

// addr returns the target as a proxy is asked for it.
func (t *Target) addr() proxyclient.Addr { return proxyclient.Addr{Host: t.host(), Port: t.Port} }

// host returns the target's host.
func (t *Target) host() target.Host { return target.Host{Name: t.Host, IP: t.IP} }

// Conn is an open way to a target. The caller owns Conn and must call Release
// once, when the connection has ended.
type Conn struct {
	Conn    net.Conn          // a bare *net.TCPConn unless TLS ends in it
	Early   []byte            // what the upstream sent behind its reply
	Forward *Forward          // set when Conn leads to an HTTP upstream that awaits the request in absolute form
	Member  *Upstream         // for what is known of it; it holds on to no set
	Via     string            // the hops that it was reached through, the nearest to it first: "corp-1, hq-2"; "" for none
	Tried   []failure.Attempt // the failed attempts before this one
	Queued  time.Duration     // waited for a budget or a free dial slot
	Dial    time.Duration     // what the successful attempt took
	Release func()
	local   bool // it begins on this machine: direct, or through a proxy that runs here
}

// Forward is what a request in absolute form needs beyond the client's fields.
type Forward struct {
	Fields   config.Secret // whole lines for its head, credentials among them; may be empty
	Answered func()        // to be called when the answer is there: only then has the target seen the connection for sure
}

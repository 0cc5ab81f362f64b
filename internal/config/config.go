// Package config turns the YAML file and the environment into checked, plain,
// comparable data. All errors are reported together, each with its position and a
// hint; nothing is guessed, and defaults are set in one place.
//
// It opens no connections, starts nothing, and its results hold no live objects.
package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/target"
)

// Config is one complete, valid configuration.
type Config struct {
	File              string    // the file it came from; "" for the built-in defaults
	Sum               [32]byte  // SHA-256 of the texts of File, of its lists and of CatalogFile
	Enabled           bool      // false: what would go through a proxy goes direct, every reject stays
	Default           Outbounds // for hosts that no route and no exchange entry serves
	Pools             []Pool    // the named ones in file order, then the inline ones
	Exchanges         []Exchange
	Routes            []Route
	Listen            []Listener
	Admin             Admin
	Log               Log
	AllowPrivate      []netip.Prefix // private addresses that direct connections may reach
	Drain             time.Duration
	StopGrace         time.Duration
	Watch             bool
	OnRemoved         string // "keep" or "drain"
	DrainAfter        time.Duration
	Upgrade           Upgrade
	Tunnel            Tunnel
	Silence           Silence       // of what no exchange's entry says otherwise
	Attempt           time.Duration // limit of one attempt while other members are left
	RetryTargetErrors bool
	MaxTunnels        int      // 0: derived from the file descriptor limit
	MaxDials          int      // limit of connections that are being opened
	MaxDialsPerHost   int      // of them through one pool or, direct, to one target's host
	SecretFiles       []string // the files that ${file:…} named
	ListFiles         []string // the lists of pools
	CatalogFile       string   // the user's rows, laid over the embedded catalogue; "" for none
	Catalog           *catalog.Catalog
	UserAgent         string // what checks of exchanges send
	Fleet             Fleet  // the zero Fleet: this host is alone
	StateDir          string // where lists from URLs are kept; "" for nowhere
	Warnings          Errors // what an operator should know, though it is valid

	// again builds the configuration once more from the same texts, with other texts of
	// its lists from URLs. It is nil without such a list.
	again func(func(*ListSource) *ListText) (*Config, error)
}

// Known returns the catalogue of exchanges in force.
func (c *Config) Known() *catalog.Catalog {
	if c.Catalog == nil { // not loaded from a file
		return catalog.Embedded()
	}
	return c.Catalog
}

// Files returns the files that the configuration was read from, apart from
// File.
func (c *Config) Files() []string {
	files := slices.Concat(c.SecretFiles, c.ListFiles)
	if c.CatalogFile != "" {
		files = append(files, c.CatalogFile)
	}
	return files
}

// Outbounds holds an outbound for each kind; nil means not set.
type Outbounds struct {
	HTTP, Websocket *Outbound
}

// Of returns the outbound for a kind, nil when none is set.
func (w Outbounds) Of(k catalog.Kind) *Outbound {
	if k == catalog.KindWebsocket {
		return w.Websocket
	}
	return w.HTTP
}

// Action is what an outbound does with a connection.
type Action uint8

// The actions.
const (
	Direct Action = iota + 1 // from this machine, without a proxy
	Reject                   // refuse
	Use                      // through the pool that Outbound.Pool names
)

// Outbound is where a rule sends a connection. A URL in the file is a pool of one.
type Outbound struct {
	Action  Action
	Pool    string        // a Pool.Name, for Use
	Timeout time.Duration // for the whole connection to the target, all attempts included
	Source  string        // the key path it was written at, such as "exchanges.binance.http"
}

// Pool is a set of upstreams and how to choose among them.
type Pool struct {
	Name     string // a named pool's name; an inline pool's key path
	Inline   bool
	Strategy Strategy
	HashOver string      // "host" or "exchange", for the hash strategy
	Proxies  []Proxy     // those of List last
	List     string      // the file with more members, or the host of the URL; "" for none
	Source   *ListSource // of a list from a URL; nil for others
	NoList   bool        // the text of Source is not known: no member comes from it
	Scheme   Scheme      // of lines of List without one; "" without a list
	Limits   Limits
	Health   Health
	Eject    Eject
}

// ListSource is a list of members that comes from a URL. Pools that are copies of one
// another share it.
type ListSource struct {
	Name    string // the pool's, for metrics and events
	URL     Secret // all of it
	Shown   string // its scheme and host
	Via     *Outbound
	Refresh time.Duration
	Max     int    // proxies
	Scheme  Scheme // of lines without one
	Dir     string // Config.StateDir
}

// Strategy is how a pool chooses its first member.
type Strategy string

// The strategies.
const (
	RoundRobin       Strategy = "round_robin"
	Random           Strategy = "random"
	LeastConnections Strategy = "least_connections"
	LowestLatency    Strategy = "lowest_latency"
	Failover         Strategy = "failover"
	Hash             Strategy = "hash"
)

// Proxy is a pool's member. Identity, and so health and counters, belongs to
// Name; Weight, Tier, Enabled and Limits belong to this membership.
type Proxy struct {
	Name       string // unique for an identity; "host:port" unless set
	URL        URL
	TLS        TLS
	Via        *Outbound // the hop before; nil when dialled from this machine
	Hop        string    // identifies Via, whatever its pool is called
	Listed     bool      // it comes from the pool's list
	Apart      bool      // others differ from it in their password alone: its name is part of its identity
	Weight     float64   // 0.1 to 100
	Tier       int       // 1 is used first
	Enabled    bool
	Exit       string // members with the same exit share budgets; Name unless set, for direct its source address or "direct"
	ExitSet    bool   // Exit is written in the file
	ExitStable bool   // Exit is the same on each host with this file: it is written in it, or that of the only session of a list at its address
	Limits     Limits
}

// Scheme is the protocol of an upstream.
type Scheme string

// The schemes.
const (
	SchemeDirect  Scheme = "direct"
	SchemeHTTP    Scheme = "http"
	SchemeHTTPS   Scheme = "https"
	SchemeSOCKS4  Scheme = "socks4"
	SchemeSOCKS4A Scheme = "socks4a"
	SchemeSOCKS5  Scheme = "socks5"
	SchemeSOCKS5H Scheme = "socks5h"
)

// URL is an upstream's address. It cannot print its credentials.
type URL struct {
	Scheme    Scheme
	User      Secret // masked too: residential proxies keep account names in it
	Password  Secret
	HasAuth   bool        // userinfo was given, even an empty one
	Host      target.Host // unset for direct
	Port      uint16
	Source    netip.Addr // direct://ADDR: the local address to dial from
	Interface string     // direct://…?interface=NAME
}

// TLS is how the connection to an https upstream is verified.
type TLS struct {
	CAFile, CertFile, KeyFile, ServerName string
	Insecure                              bool
}

// Limits are budgets of new and of open connections, as written. Zero means none.
type Limits struct {
	Connects       int
	Per            time.Duration
	MaxConnections int
	Share          Share // this host's part of Connects and MaxConnections
	Queue          time.Duration
	Published      bool // the limits are the catalogue's; none if it has none
	Shared         bool // with the other hosts of the fleet, where the exit is written in the file
}

// Fleet is the hosts that share budgets.
type Fleet struct {
	Redis   Secret // the URL, as the client library takes it
	Address string // the same, masked
	Name    string
	Hosts   int // 0: not set
}

// Health is a pool's active check. Method "" means none.
type Health struct {
	Method            string // tcp, connect, exchange
	Interval, Timeout time.Duration
	Rise, Fall        int
}

// Eject is when a failing member is ejected, and for how long.
type Eject struct {
	After      int
	Base, Max  time.Duration
	MaxPercent int
}

// Exchange is the configuration of one exchange.
type Exchange struct {
	ID        string // canonical id: catalogue's, or a venue of the user's own
	Outbounds Outbounds
	Hosts     []Host
	Limits    KindLimits // for each kind by itself, and for each exit
	Probe     Probe
	Silence   ExchangeSilence

	UnlistedDefault bool // hosts below its domains that no row lists take the default
}

// KindLimits are the budgets of an exchange.
type KindLimits struct {
	HTTP, Websocket Limits
}

// Of returns the budgets of a kind.
func (l KindLimits) Of(k catalog.Kind) Limits {
	if k == catalog.KindWebsocket {
		return l.Websocket
	}
	return l.HTTP
}

// Probe holds the URLs that checks request instead of the catalogue's; "" keeps
// the catalogue's. They hold no credentials.
type Probe struct {
	HTTP, Websocket ProbeURL // http(s)://, ws(s)://
}

// ProbeURL is an address that checks request. Its String masks the values of its
// query, where keys are put that should not be in a URL.
type ProbeURL string

func (u ProbeURL) String() string {
	address, query, found := strings.Cut(string(u), "?")
	if !found {
		return address
	}
	list := strings.Split(query, "&")
	for i, part := range list {
		switch name, value, set := strings.Cut(part, "="); {
		case !set:
			list[i] = "***"
		case value != "":
			list[i] = name + "=***"
		}
	}
	return address + "?" + strings.Join(list, "&")
}

// Of returns the address for a kind.
func (p Probe) Of(k catalog.Kind) ProbeURL {
	if k == catalog.KindWebsocket {
		return p.Websocket
	}
	return p.HTTP
}

// Host is a user's host for an exchange.
type Host struct {
	Pattern target.Pattern
	Kind    catalog.Kind
}

// Route sets the outbound of hosts; routes come before the exchanges.
type Route struct {
	Hosts    []target.Pattern
	Outbound Outbound
	Flag     string // what of a command line it stands for, as messages name it; "" for one of the file
}

// Listener is where clients connect.
type Listener struct {
	Address string       // as written, "host:port"
	Default bool         // one of the built-in addresses; may be skipped when it cannot be bound for lack of IPv6
	Use     *Outbound    // the outbound of all connections that enter here
	Kind    catalog.Kind // for hosts that serve both kinds
	// UnlistedReject refuses what no route and no exchange's entry covers.
	UnlistedReject bool
	Transparent    bool   // for connections that netfilter has redirected here
	Users          []User // none: no authentication
	Allow          []netip.Prefix
	TLSCert        string
	TLSKey         string
}

// User is a client's credentials.
type User struct {
	Name     string
	Password Secret
}

// Admin is where the admin server listens. Address "" turns it off.
type Admin struct {
	Address string // host:port, or unix:/path
	Default bool   // the built-in address; may be left out when another process has it
	Allow   []netip.Prefix
	Hosts   []string
	Token   Secret
	Local   string // "open" or "token": what connections from this machine need for all but the open pages
	Pprof   bool
}

// Log is how the log is written.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // auto, console, json
}

// Upgrade is what happens to tunnels when the binary is replaced.
type Upgrade struct {
	Tunnels string // drain or move
	Drain   time.Duration
}

// Tunnel is the limits of a tunnel in use. Zero means no limit.
type Tunnel struct {
	Idle, HalfClose, Stall time.Duration
	StallBytes             int64
	Buffer                 int // bytes; 0 is the kernel's own limit
}

// Package raw is the configuration file as it is written: the types that viper
// decodes into and from which the schema is generated. A value's many spellings
// (an outbound as a string or as a mapping) are one type here, whose field with the
// key "=" holds the short spelling.
//
// It checks nothing: package config checks the values. The tags range, excludes
// (a key that may not stand beside it) and with (one that must) are for the schema;
// tests hold it to what package config says.
package raw

// Short is the key under which the short spelling of a mapping stands once the
// file has been read. A file cannot contain it.
const Short = "="

// File is the whole file.
type File struct {
	// Where clients connect: an address, or a list of addresses and mappings. Default: 127.0.0.1:8877 and [::1]:8877.
	Listen []Listener `mapstructure:"listen" shape:"one"`
	// Where the admin server listens: an address, unix:/path, "" for nowhere, or a mapping. Default: 127.0.0.1:8878.
	Admin *Admin `mapstructure:"admin"`
	// How the log is written.
	Log *Log `mapstructure:"log"`
	// CIDRs that direct connections may reach although they are private.
	AllowPrivate []string `mapstructure:"allow_private"`
	// false: what would go through a proxy goes direct, every reject stays. Default: true.
	Enabled *bool `mapstructure:"enabled"`
	// The outbound of every host that no route and no exchange serves. Default: direct, with a warning.
	Default *Outbounds `mapstructure:"default"`
	// Sets of upstream proxies, by name.
	Pools map[string]Pool `mapstructure:"pools"`
	// The outbounds of the exchanges, by id or alias.
	Exchanges map[string]Exchange `mapstructure:"exchanges"`
	// A file with rows of your own for the catalogue of exchanges, in the columns exchange,host,kind,env,sources and, if you like, sessions.
	Catalog *string `mapstructure:"catalog"`
	// How checks of all exchanges ask.
	Probe *Asking `mapstructure:"probe"`
	// Looked at before the exchanges, in this order; the first match wins.
	Routes []Route `mapstructure:"routes"`
	// How long a stop waits for tunnels. Default: 10.
	DrainSeconds *float64 `mapstructure:"drain_seconds" range:"0,86400"`
	// What happens between the signal to stop and the drain.
	Stop *Stop `mapstructure:"stop"`
	// Reload when the file is saved. Default: true.
	Watch *bool `mapstructure:"watch"`
	// What becomes of the tunnels of upstreams that a reload has removed: keep or drain. Default: keep.
	OnRemoved *string `mapstructure:"on_removed" enum:"keep,drain"`
	// Time in which on_removed: drain closes them. Default: 60.
	DrainAfterSeconds *float64 `mapstructure:"drain_after_seconds" range:"0,86400"`
	// What becomes of tunnels when the binary is replaced.
	Upgrade *Upgrade `mapstructure:"upgrade"`
	// Limits of tunnels in use. Default: none.
	Tunnel *Tunnel `mapstructure:"tunnel"`
	// When a feed counts as silent: auto, off, or a window. Default: auto.
	Silence *Silence `mapstructure:"silence"`
	// Most that one attempt may take while other members are left. Default: 1.5.
	AttemptSeconds *float64 `mapstructure:"attempt_seconds" range:"0.05,300"`
	// Try the next member too when the target refuses. Default: false.
	RetryTargetErrors *bool `mapstructure:"retry_target_errors"`
	// Most tunnels at once. Default: (file descriptor limit - 64) / 2.
	MaxTunnels *int `mapstructure:"max_tunnels" range:"1,10000000"`
	// Most connections that are being opened at once; more wait. Default: 256.
	MaxDials *int `mapstructure:"max_dials" range:"1,100000"`
	// Most of them through one pool or, direct, to one target's host. Default: 64.
	MaxDialsPerHost *int `mapstructure:"max_dials_per_host" range:"1,100000"`
}

// Listener is where clients connect: an address, or this mapping.
type Listener struct {
	Text *string `mapstructure:"="`
	// host:port; port 0 is any free one.
	Address *string `mapstructure:"address"`
	// The outbound of all connections that enter here.
	Use *Outbound `mapstructure:"use"`
	// What happens to what no route and no exchange's entry covers. Default: use.
	Unlisted *string `mapstructure:"unlisted" enum:"use,reject"`
	// The kind of hosts that serve both kinds or are unknown.
	Kind *string `mapstructure:"kind" enum:"http,websocket"`
	// Who may connect, by name and password.
	Auth *Auth `mapstructure:"auth"`
	// Client addresses that may connect.
	Allow []string `mapstructure:"allow"`
	// Speak TLS with clients.
	TLS *ServerTLS `mapstructure:"tls"`
}

// Auth is who may connect.
type Auth struct {
	Users []User `mapstructure:"users"`
}

// User is one client's credentials.
type User struct {
	Name     *string `mapstructure:"name"`
	Password *string `mapstructure:"password"`
}

// ServerTLS is a listener's certificate.
type ServerTLS struct {
	CertFile *string `mapstructure:"cert_file" with:"key_file"`
	KeyFile  *string `mapstructure:"key_file" with:"cert_file"`
}

// Admin is where the admin server listens: an address, or this mapping.
type Admin struct {
	Text *string `mapstructure:"="`
	// host:port, unix:/path, or "" for nowhere.
	Address *string `mapstructure:"address"`
	// Who else than this machine may read /metrics, /healthz and /readyz.
	Allow []string `mapstructure:"allow"`
	// Names in the Host header that it answers to.
	Hosts []string `mapstructure:"hosts"`
	// Opens everything else from elsewhere than this machine.
	Token *string `mapstructure:"token"`
	// Whether this machine itself needs the token, but for /metrics, /healthz and
	// /readyz. Default: open.
	Local *string `mapstructure:"local" enum:"open,token"`
	// Serve profiles. Default: false.
	Pprof *bool `mapstructure:"pprof"`
}

// Log is how the log is written.
type Log struct {
	// Default: info.
	Level *string `mapstructure:"level" enum:"debug,info,warn,error"`
	// auto is console on a terminal, json otherwise. Default: auto.
	Format *string `mapstructure:"format" enum:"auto,console,json"`
}

// Outbounds is one outbound for both kinds, or one for each.
type Outbounds struct {
	Outbound `mapstructure:",squash"`
	// The outbound of REST connections.
	HTTP *Outbound `mapstructure:"http" alias:"rest"`
	// The outbound of websocket connections.
	Websocket *Outbound `mapstructure:"websocket" alias:"ws"`
}

// Outbound is where a connection leaves: direct, reject, a URL, a pool's name, or this mapping.
type Outbound struct {
	Text *string `mapstructure:"="`
	// direct, reject, or a proxy's URL.
	URL *string `mapstructure:"url"`
	// A pool's name, or a pool.
	Pool *PoolRef `mapstructure:"pool" excludes:"url"`
	// The whole time to the target, all attempts included: 1 to 300. Default: 4.
	TimeoutSeconds *float64 `mapstructure:"timeout_seconds" range:"1,300"`
	// The hop before: how the proxy itself is reached.
	Via *Outbound `mapstructure:"via"`
	// Budgets of this kind's connections, for an exchange's outbound.
	Limits *Limits `mapstructure:"limits"`
	// When this kind's feeds count as silent, for an exchange's outbound. Default: as at the top.
	Silence *Silence `mapstructure:"silence"`
	// The name of the proxy at url. Default: its host:port.
	Name *string `mapstructure:"name"`
	// Proxies with the same exit share budgets. Default: the name; for direct, its address.
	Exit *string `mapstructure:"exit"`
	// How an https proxy is verified.
	TLS *TLS `mapstructure:"tls"`
}

// PoolRef is a pool's name, or a pool.
type PoolRef struct {
	Text *string `mapstructure:"="`
	Pool `mapstructure:",squash"`
}

// Pool is a set of upstream proxies.
type Pool struct {
	// How the first one is chosen. Default: round_robin.
	Strategy *string `mapstructure:"strategy" enum:"round_robin,random,least_connections,lowest_latency,failover,hash"`
	// What the hash strategy looks at. Default: exchange.
	HashOver *string `mapstructure:"hash_over" enum:"host,exchange"`
	// The members.
	Proxies []Proxy `mapstructure:"proxies"`
	// A file with more members, one a line, relative to this file's folder: URLs, host:port, host:port:user:password, user:password@host:port, user:password:host:port, or CSV with a header.
	List *string `mapstructure:"list"`
	// That of lines of list without one. Default: http.
	Scheme *string `mapstructure:"scheme" enum:"http,https,socks4,socks4a,socks5,socks5h"`
	// How the members are reached.
	Via *Outbound `mapstructure:"via"`
	// Budgets of all connections through the pool.
	Limits *Limits `mapstructure:"limits"`
	// Active checks.
	HealthCheck *Health `mapstructure:"health_check"`
	// When a failing member is taken out of use.
	Eject *Eject `mapstructure:"eject"`
}

// Proxy is a member of a pool: a URL, direct, or this mapping.
type Proxy struct {
	Text *string `mapstructure:"="`
	// The proxy's URL, or direct.
	URL *string `mapstructure:"url"`
	// How it is called in logs and metrics. Default: its host:port.
	Name *string `mapstructure:"name"`
	// Its share of new connections: a number from 0.1 to 100. Default: 1.
	Weight *float64 `mapstructure:"weight" range:"0.1,100"`
	// Members of tier 2 are used when none of tier 1 can be. Default: 1.
	Tier *int `mapstructure:"tier" range:"1,100"`
	// false: it stays in the file and is not used. Default: true.
	Enabled *bool `mapstructure:"enabled"`
	// Proxies with the same exit share budgets. Default: the name; for direct, its address.
	Exit *string `mapstructure:"exit"`
	// Budgets of all connections through it.
	Limits *Limits `mapstructure:"limits"`
	// How an https proxy is verified.
	TLS *TLS `mapstructure:"tls"`
	// How it is reached.
	Via *Outbound `mapstructure:"via"`
}

// TLS is how the connection to an https proxy is verified.
type TLS struct {
	// Certificates to trust in place of the system's.
	CAFile *string `mapstructure:"ca_file"`
	// A certificate to show, with key_file.
	CertFile *string `mapstructure:"cert_file" with:"key_file"`
	KeyFile  *string `mapstructure:"key_file" with:"cert_file"`
	// The name in the proxy's certificate. Default: the host in the URL.
	ServerName *string `mapstructure:"server_name"`
	// Accept any certificate. Default: false.
	Insecure *bool `mapstructure:"insecure"`
}

// Limits are budgets: published (the exchange's own limits), or this mapping.
type Limits struct {
	Text *string `mapstructure:"=" enum:"published"`
	// New connections in any window, such as 300/5m.
	Connects *string `mapstructure:"connects"`
	// Connections at once.
	MaxConnections *int `mapstructure:"max_connections" range:"1,10000000"`
	// How long a connection may wait for room. Default: 0.
	QueueSeconds *float64 `mapstructure:"queue_seconds" range:"0,300"`
}

// Silence is when a feed counts as silent: auto (learned from each tunnel and feed), off, or this mapping.
type Silence struct {
	Text *string `mapstructure:"=" enum:"auto,off"`
	// The length of the window: 5 to 86400.
	WindowSeconds *float64 `mapstructure:"window_seconds" range:"5,86400" with:"bytes"`
	// A tunnel is silent when fewer bytes have come from the exchange in the window.
	Bytes *int `mapstructure:"bytes" range:"1,2147483647" with:"window_seconds"`
	// report: an event, and the first line of status; close: end the tunnel too, so that its client reconnects. Default: report.
	Action *string `mapstructure:"action" enum:"report,close"`
}

// Health is how the members of a pool are checked.
type Health struct {
	// false: no checks. Default: true.
	Enabled *bool `mapstructure:"enabled"`
	// tcp: the proxy accepts; connect: it opens a tunnel; exchange: the exchange answers through it. Default: connect.
	Method *string `mapstructure:"method" enum:"tcp,connect,exchange"`
	// Default: 30.
	IntervalSeconds *float64 `mapstructure:"interval_seconds" range:"1,86400"`
	// Default: 5.
	TimeoutSeconds *float64 `mapstructure:"timeout_seconds" range:"0.1,300"`
	// Good checks in a row that bring a member back. Default: 2.
	Rise *int `mapstructure:"rise" range:"1,100"`
	// Bad checks in a row that take it out. Default: 3.
	Fall *int `mapstructure:"fall" range:"1,100"`
}

// Eject is when a failing member is taken out of use, and for how long.
type Eject struct {
	// Failures in a row. Default: 3.
	After *int `mapstructure:"after" range:"1,1000"`
	// The first time out. Default: 5.
	BaseSeconds *float64 `mapstructure:"base_seconds" range:"0.1,86400"`
	// The longest time out. Default: 300.
	MaxSeconds *float64 `mapstructure:"max_seconds" range:"0.1,86400"`
	// Most of a pool that may be out at once. Default: 100.
	MaxPercent *int `mapstructure:"max_percent" range:"0,100"`
}

// Exchange is an outbound for both kinds, or one for each, and the other settings of an exchange.
type Exchange struct {
	Outbounds `mapstructure:",squash"`
	// Hosts that the catalogue lacks.
	Hosts *Hosts `mapstructure:"hosts"`
	// Hosts below its domains that the catalogue does not list: follow the exchange, or the default. Default: follow.
	UnlistedHosts *string `mapstructure:"unlisted_hosts" enum:"follow,default"`
	// URLs that checks request, in place of the catalogue's.
	Probe *Probe `mapstructure:"probe"`
}

// Asking is how checks of all exchanges ask.
type Asking struct {
	// The User-Agent that they send. Default: that of a usual HTTP client.
	UserAgent *string `mapstructure:"user_agent"`
}

// Probe is the public addresses of an exchange that checks ask.
type Probe struct {
	// An https:// (or http://) address that answers 2xx without a key.
	HTTP *string `mapstructure:"http" alias:"rest"`
	// A wss:// (or ws://) address that takes an upgrade without a key.
	Websocket *string `mapstructure:"websocket" alias:"ws"`
}

// Hosts is a list of hosts for both kinds, or one list for each.
type Hosts struct {
	Both      []string `mapstructure:"="`
	HTTP      []string `mapstructure:"http" alias:"rest"`
	Websocket []string `mapstructure:"websocket" alias:"ws"`
}

// Route sets the outbound of hosts; routes come before the exchanges.
type Route struct {
	// Names, *.names, addresses, CIDRs, or * for all.
	Hosts []string `mapstructure:"hosts"`
	// The outbound, for both kinds.
	Use *Outbound `mapstructure:"use"`
}

// Stop is what happens between the signal to stop and the drain.
type Stop struct {
	// How long new connections are still served. Default: 0.
	GraceSeconds *float64 `mapstructure:"grace_seconds" range:"0,86400"`
}

// Upgrade is what becomes of tunnels when the binary is replaced.
type Upgrade struct {
	// drain: the old process serves them to their end; move: the new one takes them. Default: drain.
	Tunnels *string `mapstructure:"tunnels" enum:"drain,move"`
	// How long the old process serves them. Default: 86400.
	DrainSeconds *float64 `mapstructure:"drain_seconds" range:"0,2592000"`
}

// Tunnel is the limits of a tunnel in use; 0 is no limit.
type Tunnel struct {
	// Closed when no byte has passed for so long.
	IdleSeconds *float64 `mapstructure:"idle_seconds" range:"0,2592000"`
	// Closed so long after one side has ended.
	HalfCloseSeconds *float64 `mapstructure:"half_close_seconds" range:"0,2592000"`
	// Closed when fewer than stall_bytes have passed in so long.
	StallSeconds *float64 `mapstructure:"stall_seconds" range:"0,2592000" with:"stall_bytes"`
	StallBytes   *int     `mapstructure:"stall_bytes" range:"0,2147483647" with:"stall_seconds"`
	// Most that the kernel keeps of bulk on either side for a reader that has stalled. Default: 0, the kernel's own limits.
	BufferBytes *int `mapstructure:"buffer_bytes" range:"0,1073741824"`
}

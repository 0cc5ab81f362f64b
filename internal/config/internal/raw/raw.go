// Package raw is the configuration file as it is written: the types that viper
// decodes into and from which the schema is generated. A value's many spellings
// (an outbound as a string or as a mapping) are one type here, whose field with the
// key "=" holds the short spelling.
//
// It checks nothing: package config checks the values. The tags range, excludes
// (a key that may not stand beside it) and with (one that must) are for the schema;
// tests hold it to what package config says. The tag names:"file" marks a path, which
// package config resolves.
package raw

// Short is the key under which the short spelling of a mapping stands once the
// file has been read. A file cannot contain it.
const Short = "="

// File is the whole file.
type File struct {
	// Where clients connect: an address, or a list of addresses and mappings. On a machine without IPv6 the second default is left out. Default: `127.0.0.1:8877` and `[::1]:8877`.
	Listen []Listener `mapstructure:"listen" shape:"one"`
	// Where the admin server listens: an address, `unix:/path`, `""` to turn it off, or a mapping. If the default address is in use, proxyd starts without the admin server. Default: 127.0.0.1:8878.
	Admin *Admin `mapstructure:"admin"`
	// The log, which goes to standard error.
	Log *Log `mapstructure:"log"`
	// CIDRs that direct connections may reach although they are private, and that upstreams on this machine may be asked for. Default: none.
	AllowPrivate []string `mapstructure:"allow_private"`
	// `false`: what would go through a proxy goes direct, and `reject` still applies. The log warns of it at start. Default: true.
	Enabled *bool `mapstructure:"enabled"`
	// The outbound of every connection that no other rule matches. Default: direct, with a warning.
	Default *Outbounds `mapstructure:"default"`
	// Named sets of upstreams.
	Pools map[string]Pool `mapstructure:"pools"`
	// The outbounds of exchanges, by id or alias. `proxyd exchanges` lists both. Two names of one exchange are an error, unless both have the same value.
	Exchanges map[string]Exchange `mapstructure:"exchanges"`
	// A file with additional rows for the catalogue of exchanges. It is watched and reloaded like this file. A relative path begins at the folder of this file. Default: none.
	Catalog *string `mapstructure:"catalog" names:"file"`
	// The hosts that share budgets, by a Redis. Default: none.
	Fleet *Fleet `mapstructure:"fleet"`
	// What probes send.
	Probe *Asking `mapstructure:"probe"`
	// The directory in which the last good list from each URL is kept, for a start without a network: an absolute path, or one that begins with `./` at the folder of this file. Default: `$STATE_DIRECTORY`, which systemd sets; else none.
	StateDir *string `mapstructure:"state_dir" names:"file"`
	// Rules that come before the exchanges. The first that matches applies. Default: none.
	Routes []Route `mapstructure:"routes"`
	// How long a stop waits for tunnels to end. Default: 10.
	DrainSeconds *float64 `mapstructure:"drain_seconds" range:"0,86400"`
	// What happens between the signal to stop and the drain.
	Stop *Stop `mapstructure:"stop"`
	// Reload when the file is saved. Default: true.
	Watch *bool `mapstructure:"watch"`
	// Tunnels of upstreams that a reload removes: `keep` them, or `drain`, which closes them after `drain_after_seconds`. Default: keep.
	OnRemoved *string `mapstructure:"on_removed" enum:"keep,drain"`
	// With `on_removed: drain`, each tunnel is closed at a random time between this and twice this. Default: 60.
	DrainAfterSeconds *float64 `mapstructure:"drain_after_seconds" range:"0,86400"`
	// What happens to tunnels when the binary is replaced.
	Upgrade *Upgrade `mapstructure:"upgrade"`
	// Limits of open tunnels.
	Tunnel *Tunnel `mapstructure:"tunnel"`
	// When a feed counts as silent: `auto`, `off`, or a mapping. Default: auto.
	Silence *Silence `mapstructure:"silence"`
	// The longest time of one attempt while other members are left. A slower dial that succeeds counts as a failure. Default: 1.5.
	AttemptSeconds *float64 `mapstructure:"attempt_seconds" range:"0.05,300"`
	// Also try the next member after `target_refused` and other errors of the target. Default: false.
	RetryTargetErrors *bool `mapstructure:"retry_target_errors"`
	// The most tunnels and plain requests at the same time. Further ones get 503 `overload`. A value above the default is reduced to it, with a warning. Default: (file descriptor limit − 64) / 2.
	MaxTunnels *int `mapstructure:"max_tunnels" range:"1,10000000"`
	// The most connections that are being opened at the same time. Open tunnels do not count. Further ones wait. Default: 256.
	MaxDials *int `mapstructure:"max_dials" range:"1,100000"`
	// The most of them through one pool or, for direct connections, to one host. Default: 64.
	MaxDialsPerHost *int `mapstructure:"max_dials_per_host" range:"1,100000"`
}

// Listener is where clients connect: an address, or this mapping.
type Listener struct {
	Text *string `mapstructure:"="`
	// `HOST:PORT`. Port 0 is any free port, which the log names. An address that other machines can reach needs `auth` or `allow`.
	Address *string `mapstructure:"address"`
	// The outbound of all connections to this listener.
	Use *Outbound `mapstructure:"use"`
	// `reject` refuses every host that no route and no entry of `exchanges` covers, whatever `use` and `default` say. Default: use.
	Unlisted *string `mapstructure:"unlisted" enum:"use,reject"`
	// The kind of connections to hosts that serve both kinds or that no exchange has.
	Kind *string `mapstructure:"kind" enum:"http,websocket"`
	// Linux: this port takes connections that netfilter redirects to it, whose clients know of no proxy. Default: false.
	Transparent *bool `mapstructure:"transparent"`
	// Clients must present one of these users. Default: none.
	Auth *Auth `mapstructure:"auth"`
	// CIDRs of clients that may connect. Default: all.
	Allow []string `mapstructure:"allow"`
	// Clients speak TLS to this port, and their proxy URL begins with `https://`. Default: off.
	TLS *ServerTLS `mapstructure:"tls"`
}

// Auth is who may connect.
type Auth struct {
	// The users. Clients present them by Basic authentication or SOCKS5; SOCKS4 is refused.
	Users []User `mapstructure:"users"`
}

// User is one client's credentials.
type User struct {
	// The name of the user, without `:`, `+` and `$`.
	Name *string `mapstructure:"name"`
	// The password, preferably as `${NAME}` or `${file:/path}`.
	Password *string `mapstructure:"password"`
}

// ServerTLS is a listener's certificate.
type ServerTLS struct {
	// The certificate, in PEM. A renewed file is loaded automatically. A relative path begins at the folder of this file.
	CertFile *string `mapstructure:"cert_file" with:"key_file" names:"file"`
	// The key of the certificate. A relative path begins at the folder of this file.
	KeyFile *string `mapstructure:"key_file" with:"cert_file" names:"file"`
}

// Admin is where the admin server listens: an address, or this mapping.
type Admin struct {
	Text *string `mapstructure:"="`
	// `HOST:PORT`, `unix:/path`, or `""` to turn the server off. Default: 127.0.0.1:8878.
	Address *string `mapstructure:"address"`
	// CIDRs of other machines that may read `/metrics`, `/healthz` and `/readyz`. Default: none.
	Allow []string `mapstructure:"allow"`
	// Names in the `Host` header that the server answers to, beside addresses and `localhost`. Default: none.
	Hosts []string `mapstructure:"hosts"`
	// The bearer token that gives other machines access to everything else. Preferably as `${NAME}` or `${file:/path}`. Default: none.
	Token *string `mapstructure:"token"`
	// `token`: connections from this machine need the token too, except for `/metrics`, `/healthz` and `/readyz`. Default: open.
	Local *string `mapstructure:"local" enum:"open,token"`
	// Serve the profiles of Go. Default: false.
	Pprof *bool `mapstructure:"pprof"`
}

// Log is how the log is written.
type Log struct {
	// The least severe level that is written. Default: info.
	Level *string `mapstructure:"level" enum:"debug,info,warn,error"`
	// `auto` is `console` on a terminal, else `json`. Default: auto.
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

// Outbound is where a rule sends a connection: direct, reject, a URL, the name of a pool, or this mapping.
type Outbound struct {
	Text *string `mapstructure:"="`
	// `direct`, `reject`, or the URL of an upstream.
	URL *string `mapstructure:"url"`
	// The name of a pool, or a pool.
	Pool *PoolRef `mapstructure:"pool" excludes:"url"`
	// The time to open the connection to the target, with all attempts. Many clients give up after 5 s and do not see a later answer. Default: 4.
	TimeoutSeconds *float64 `mapstructure:"timeout_seconds" range:"1,300"`
	// The hop before: how the upstream itself is reached.
	Via *Outbound `mapstructure:"via"`
	// Budgets of an exchange, or of one kind of it. Elsewhere an error. Default: none.
	Limits *Limits `mapstructure:"limits"`
	// When feeds of an exchange, or of one kind of it, count as silent. Elsewhere an error. Default: as at the top level.
	Silence *Silence `mapstructure:"silence"`
	// The name of the upstream at `url`. Default: its `host:port`.
	Name *string `mapstructure:"name"`
	// The exit. Upstreams with the same exit share budgets. Default: the name; for a direct one, its address.
	Exit *string `mapstructure:"exit"`
	// How the certificate of an `https` proxy is verified.
	TLS *TLS `mapstructure:"tls"`
}

// PoolRef is a pool's name, or a pool.
type PoolRef struct {
	Text *string `mapstructure:"="`
	Pool `mapstructure:",squash"`
}

// Pool is a set of upstream proxies.
type Pool struct {
	// Which usable member of the lowest tier is tried first. Default: round_robin.
	Strategy *string `mapstructure:"strategy" enum:"round_robin,random,least_connections,lowest_latency,failover,hash"`
	// What `hash` keeps on one member: the REST and websocket connections of an `exchange`, or a `host`. Default: exchange.
	HashOver *string `mapstructure:"hash_over" enum:"host,exchange"`
	// The members: URLs, `direct`, or mappings. Required without `list`.
	Proxies []Proxy `mapstructure:"proxies"`
	// A file with more members, one a line; or a mapping, for a list from a URL. A relative path begins at the folder of this file. Default: none.
	List *List `mapstructure:"list"`
	// The scheme of lines of `list` that have none. Default: http.
	Scheme *string `mapstructure:"scheme" enum:"http,https,socks4,socks4a,socks5,socks5h"`
	// The hop before each member that has none of its own.
	Via *Outbound `mapstructure:"via"`
	// Budgets of all connections through the pool. Default: none.
	Limits *Limits `mapstructure:"limits"`
	// Active checks of the members. Default: none.
	HealthCheck *Health `mapstructure:"health_check"`
	// When a failing member is ejected, and for how long.
	Eject *Eject `mapstructure:"eject"`
}

// List is more members of a pool: a file, or this mapping, which names a URL.
type List struct {
	Text *string `mapstructure:"=" names:"file"`
	// The `https://` or `http://` address of the list. What is secret in it is written as `${NAME}` or `${file:/path}`; only its host is ever shown. Required.
	From *string `mapstructure:"from" jsonschema:"required"`
	// The outbound through which the list is fetched, and nothing else. Default: direct, if `default` is direct; else required.
	Via *Outbound `mapstructure:"via"`
	// The scheme of lines that have none. Default: that of the pool.
	Scheme *string `mapstructure:"scheme" enum:"http,https,socks4,socks4a,socks5,socks5h"`
	// The time between two fetches, less a random part of up to a fifth. Default: 300.
	RefreshSeconds *float64 `mapstructure:"refresh_seconds" range:"10,604800"`
	// A list with more proxies is not applied. Default: 10000.
	Max *int `mapstructure:"max" range:"1,10000"`
}

// Proxy is a member of a pool: a URL, direct, or this mapping.
type Proxy struct {
	Text *string `mapstructure:"="`
	// The URL of the upstream, or `direct`. Required.
	URL *string `mapstructure:"url"`
	// The name in logs, metrics and answers. One name for two upstreams is an error. Default: `host:port`.
	Name *string `mapstructure:"name"`
	// The share of new connections. Default: 1.
	Weight *float64 `mapstructure:"weight" range:"0.1,100"`
	// The priority, 1 first. A higher tier is used only if no member of a lower one is usable. Default: 1.
	Tier *int `mapstructure:"tier" range:"1,100"`
	// `false`: the member is never used. Default: true.
	Enabled *bool `mapstructure:"enabled"`
	// Members with the same exit share budgets. Default: the name; for `direct://ADDR` the address; for `direct` the word.
	Exit *string `mapstructure:"exit"`
	// Budgets of all connections through the exit. Default: none.
	Limits *Limits `mapstructure:"limits"`
	// How the certificate of an `https` proxy is verified.
	TLS *TLS `mapstructure:"tls"`
	// The hop before.
	Via *Outbound `mapstructure:"via"`
}

// TLS is how the connection to an https proxy is verified.
type TLS struct {
	// Certificates to trust instead of those of the system, in PEM. A relative path begins at the folder of this file.
	CAFile *string `mapstructure:"ca_file" names:"file"`
	// A client certificate to present to the proxy, in PEM. A relative path begins at the folder of this file.
	CertFile *string `mapstructure:"cert_file" with:"key_file" names:"file"`
	// The key of the client certificate. A relative path begins at the folder of this file.
	KeyFile *string `mapstructure:"key_file" with:"cert_file" names:"file"`
	// The name in the certificate of the proxy. Default: the host of the URL.
	ServerName *string `mapstructure:"server_name"`
	// Accept any certificate, with a warning. Default: false.
	Insecure *bool `mapstructure:"insecure"`
}

// Limits are budgets: published (the exchange's own limits), or this mapping.
type Limits struct {
	Text *string `mapstructure:"=" enum:"published"`
	// The most new connections in any window of that length, such as `300/5m`. Up to 1000000, in up to 24 h, with `s`, `m` or `h`; `100/m` is `100/1m`.
	Connects *string `mapstructure:"connects"`
	// The most open connections.
	MaxConnections *int `mapstructure:"max_connections" range:"1,10000000"`
	// This host's part of both where several hosts have the same exits, such as `1/30`: rounded down. Default: all.
	Share *string `mapstructure:"share"`
	// How long a connection may wait for the budget, within its `timeout_seconds`. Default: 0.
	QueueSeconds *float64 `mapstructure:"queue_seconds" range:"0,300"`
	// `true`: all hosts of the `fleet` share the budget. It needs an `exit` that is the same on each host ([fleet.md](fleet.md)), and is an error on a pool. Default: false.
	Shared *bool `mapstructure:"shared"`
}

// Fleet is the other hosts whose traffic leaves by the same exits.
type Fleet struct {
	// The Redis that the hosts share, such as `rediss://:${REDIS_PASSWORD}@redis.example:6379`. For Sentinel and Cluster see [fleet.md](fleet.md). Required.
	Redis *string `mapstructure:"redis" jsonschema:"required"`
	// The name of the fleet. Hosts with the same name at the same Redis share budgets. Default: proxyd.
	Name *string `mapstructure:"name"`
	// The most hosts that there are, for a host that has not reached Redis since its start. Without it such a host gets no share. Default: none.
	Hosts *int `mapstructure:"hosts" range:"1,100000"`
}

// Silence is when a feed counts as silent: auto (learned from each tunnel and feed), off, or this mapping.
type Silence struct {
	Text *string `mapstructure:"=" enum:"auto,off"`
	// The length of the window.
	WindowSeconds *float64 `mapstructure:"window_seconds" range:"5,86400" with:"bytes"`
	// A tunnel is silent when fewer bytes have come from the exchange in the window.
	Bytes *int `mapstructure:"bytes" range:"1,2147483647" with:"window_seconds"`
	// `report` makes an event and shows it in line 1. `close` also ends the tunnel, so that its client reconnects. Default: report.
	Action *string `mapstructure:"action" enum:"report,close"`
}

// Health is how the members of a pool are checked.
type Health struct {
	// `false`: no checks. Default: true.
	Enabled *bool `mapstructure:"enabled"`
	// `tcp`: the proxy accepts a connection. `connect`: it opens a connection to the exchange. `exchange`: the exchange answers a request through it. Default: connect.
	Method *string `mapstructure:"method" enum:"tcp,connect,exchange"`
	// The time between two checks, less a random part of up to a fifth. Default: 30.
	IntervalSeconds *float64 `mapstructure:"interval_seconds" range:"1,86400"`
	// The most time for one check. Default: 5.
	TimeoutSeconds *float64 `mapstructure:"timeout_seconds" range:"0.1,300"`
	// Successful checks in a row until an ejected member returns. Default: 2.
	Rise *int `mapstructure:"rise" range:"1,100"`
	// Failed checks in a row until a member is ejected. Default: 3.
	Fall *int `mapstructure:"fall" range:"1,100"`
}

// Eject is when a failing member is taken out of use, and for how long.
type Eject struct {
	// Failures in a row until a member is ejected. Default: 3.
	After *int `mapstructure:"after" range:"1,1000"`
	// How long the first ejection lasts. Default: 5.
	BaseSeconds *float64 `mapstructure:"base_seconds" range:"0.1,86400"`
	// How long an ejection may last. Default: 300.
	MaxSeconds *float64 `mapstructure:"max_seconds" range:"0.1,86400"`
	// The most of a pool that may be ejected at the same time. 0 turns ejection off. Default: 100.
	MaxPercent *int `mapstructure:"max_percent" range:"0,100"`
}

// Exchange is an outbound for both kinds, or one for each, and the other settings of an exchange.
type Exchange struct {
	Outbounds `mapstructure:",squash"`
	// More hosts of the exchange: a list for both kinds, or `{http: [HOST], websocket: [HOST]}`. Required for an id that the catalogue does not have.
	Hosts *Hosts `mapstructure:"hosts"`
	// Hosts below its domains that are listed nowhere: `follow` the exchange, or use the `default`. Default: follow.
	UnlistedHosts *string `mapstructure:"unlisted_hosts" enum:"follow,default"`
	// The public addresses that probes request. Default: those of the catalogue.
	Probe *Probe `mapstructure:"probe"`
}

// Asking is what the probes of all exchanges send.
type Asking struct {
	// The `User-Agent` of probes. The firewalls of some exchanges refuse agents that they do not know. Default: `Python/3.12 aiohttp/3.12.15`.
	UserAgent *string `mapstructure:"user_agent"`
}

// Probe is the public addresses of an exchange that probes request.
type Probe struct {
	// An `https://` or `http://` address that answers 2xx without credentials.
	HTTP *string `mapstructure:"http" alias:"rest"`
	// A `wss://` or `ws://` address that accepts an upgrade without credentials.
	Websocket *string `mapstructure:"websocket" alias:"ws"`
}

// Hosts is a list of hosts for both kinds, or one list for each.
type Hosts struct {
	Both []string `mapstructure:"="`
	// Hosts that serve REST.
	HTTP []string `mapstructure:"http" alias:"rest"`
	// Hosts that serve websockets.
	Websocket []string `mapstructure:"websocket" alias:"ws"`
}

// Route sets the outbound of hosts; routes come before the exchanges.
type Route struct {
	// Names, `*.names`, addresses, CIDRs, or `*` for all.
	Hosts []string `mapstructure:"hosts"`
	// The outbound, for both kinds.
	Use *Outbound `mapstructure:"use"`
}

// Stop is what happens between the signal to stop and the drain.
type Stop struct {
	// How long a stop continues to accept connections. Default: 0.
	GraceSeconds *float64 `mapstructure:"grace_seconds" range:"0,86400"`
}

// Upgrade is what becomes of tunnels when the binary is replaced.
type Upgrade struct {
	// `drain`: the old process serves its tunnels until they end. `move`: the new process takes them over. Default: drain.
	Tunnels *string `mapstructure:"tunnels" enum:"drain,move"`
	// How long the old process serves its tunnels. Default: 86400.
	DrainSeconds *float64 `mapstructure:"drain_seconds" range:"0,2592000"`
}

// Tunnel is the limits of a tunnel in use; 0 is no limit.
type Tunnel struct {
	// Close a tunnel that carried no byte for this long. Default: `0` (off).
	IdleSeconds *float64 `mapstructure:"idle_seconds" range:"0,2592000"`
	// Close a tunnel this long after one side has closed. Default: `0` (off).
	HalfCloseSeconds *float64 `mapstructure:"half_close_seconds" range:"0,2592000"`
	// Close a tunnel on which fewer than `stall_bytes` came from the server in this time. Default: `0` (off).
	StallSeconds *float64 `mapstructure:"stall_seconds" range:"0,2592000" with:"stall_bytes"`
	// The bytes for `stall_seconds`. Default: `0` (off).
	StallBytes *int `mapstructure:"stall_bytes" range:"0,2147483647" with:"stall_seconds"`
	// 65536 or more: the most that the kernel buffers on either side for a client that has stopped reading. Linux only. Default: `0` (the limits of the kernel).
	BufferBytes *int `mapstructure:"buffer_bytes" range:"0,1073741824"`
}

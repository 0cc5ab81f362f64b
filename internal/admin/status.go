package admin

import (
	"time"

	"proxyd/internal/feed"
	"proxyd/internal/printable"
)

// State is how far the daemon is in its life.
type State string

// The states.
const (
	StateStarting State = "starting" // takes no connections yet
	StateReady    State = "ready"
	StateDraining State = "draining" // takes no new ones any more
)

// Status is what a running daemon is doing. It holds no secrets: URLs are
// masked by the caller that fills it.
type Status struct {
	Time       time.Time       `json:"time"` // when all of this held
	Version    string          `json:"version"`
	Generation int             `json:"generation"` // 1, and one more after each upgrade
	PID        int             `json:"pid"`
	Started    time.Time       `json:"started"`
	State      State           `json:"state"`
	Reasons    []string        `json:"reasons"`  // what is not as it should be, the worst first; not what Config says
	Headlines  []string        `json:"problems"` // what Problems returns, set when it is written as JSON
	Config     Config          `json:"config"`
	Listeners  []Listener      `json:"listeners"`
	Exchanges  []feed.Exchange `json:"exchanges"` // the worst first
	Active     int             `json:"active"`    // tunnels of this process
	Tunnels    []Count         `json:"tunnels"`   // the same, split up; and what has failed
	Upstreams  []Upstream      `json:"upstreams"` // by name
	Budgets    []Budget        `json:"budgets,omitempty"`
	Lists      []List          `json:"lists,omitempty"`
	Execs      []Exec          `json:"execs,omitempty"` // the latest 32
	Fleet      *Fleet          `json:"fleet,omitempty"` // nil: this host is alone
	Older      []Process       `json:"older,omitempty"` // earlier generations that still serve their tunnels
}

// Config is the configuration in force, and the file on disk beside it.
type Config struct {
	File     string    `json:"file"`                // "" for the built-in defaults
	RealPath string    `json:"real_path,omitempty"` // of the file in force: absolute, without symbolic links
	Hash     string    `json:"hash,omitempty"`      // config.Config.Fingerprint of what is in force
	Environ  string    `json:"environ,omitempty"`   // config.EnvironmentFingerprint of the process
	LoadedAt time.Time `json:"loaded_at"`
	InForce  bool      `json:"in_force"` // the file on disk is the configuration in force
	Faults   []string  `json:"faults"`   // why it is not, FILE:LINE:COL: ... each
	Warnings []string  `json:"warnings,omitempty"`

	FaultsSince time.Time `json:"faults_since,omitzero"` // since when the file on disk is not in force
}

// Exec is what came from one `proxyd exec`, since this process started.
type Exec struct {
	Label     string         `json:"label"` // exec-PID, the user name of its clients; "" for an instance of its own
	Open      int            `json:"open"`  // tunnels now
	Upstreams []ExecUpstream `json:"upstreams,omitempty"`
	Refused   int            `json:"refused"`
	Refusals  []ExecRefusal  `json:"refusals,omitempty"` // the first 8 that differ
	Direct    []ExecDirect   `json:"-"`                  // of an instance of its own: the first 16 that differ, then the others of each rule
}

// ExecDirect is a target that an Exec reached directly, the rule that said so, and how
// often.
type ExecDirect struct {
	Target, Rule string // Target is "" for the others of a rule
	Connections  int
}

// ExecUpstream is what an Exec sent through one upstream.
type ExecUpstream struct {
	Upstream    string `json:"upstream"`
	Connections int    `json:"connections"` // tunnels and plain requests
	BytesUp     int64  `json:"bytes_up"`    // of those that have ended
	BytesDown   int64  `json:"bytes_down"`
}

// ExecRefusal is a refusal, and how often it came.
type ExecRefusal struct {
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
	Count int    `json:"count"`
	Host  string `json:"-"` // of an instance of its own: the first one's target, if a rule refused it
}

// Listener is an address that clients come to.
type Listener struct {
	Address string `json:"address"`         // as the configuration writes it
	Bound   string `json:"bound,omitempty"` // as bound, where that differs (port 0)
	Use     string `json:"use,omitempty"`   // the outbound of all of its clients
	Kind    string `json:"kind,omitempty"`
	Reach   string `json:"reach,omitempty"` // for whom: "this machine only", "10.0.0.0/8", "users"

	Transparent    bool       `json:"transparent,omitempty"`
	LastConnection *time.Time `json:"last_connection,omitempty"` // to any transparent listener of this process; nil if none has come
}

// Count is a feed in short: the live tunnels of one exchange through one upstream.
type Count struct {
	Exchange string    `json:"exchange"` // "" for hosts of none
	Kind     string    `json:"kind"`
	Upstream string    `json:"upstream"`
	Tunnels  int       `json:"tunnels"`
	Down     feed.Rate `json:"down"`               // from the exchange
	LastByte time.Time `json:"last_byte,omitzero"` // from the exchange
	Opened   int       `json:"opened"`             // in the last hour
	Failed   int       `json:"failed"`             // in the last hour: attempts through this upstream
	Silent   bool      `json:"silent,omitempty"`
}

// Upstream is the state of an upstream.
type Upstream struct {
	Name     string    `json:"name"`
	URL      string    `json:"url"` // credentials masked
	Pools    []string  `json:"pools"`
	Exits    []string  `json:"exits,omitempty"` // as its pools name them; budgets are counted for each
	Tunnels  int64     `json:"tunnels"`
	Dials    int64     `json:"dials,omitempty"`
	Failures int64     `json:"failures,omitempty"`
	State    string    `json:"state,omitempty"`   // "" when all is well, else a few words: "ejected (for 3 s, at least 12 s left): upstream_refused", "drained"
	Bad      bool      `json:"bad,omitempty"`     // it is not used now
	Drained  bool      `json:"drained,omitempty"` // for all exchanges
	Ejection *Ejection `json:"ejection,omitempty"`
	Verdicts []Verdict `json:"verdicts,omitempty"`
	Pairs    []Pair    `json:"pairs,omitempty"` // the exchanges that it has served

	CertificateExpires time.Time `json:"certificate_expires,omitzero"` // of an https upstream, as its last handshake showed
}

// Ejection is why an upstream is out of use.
type Ejection struct {
	Cause string    `json:"cause"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until"` // at least; then until a probe succeeds
	Last  time.Time `json:"last"`  // its last failure
}

// Pair is an upstream for one exchange and kind.
type Pair struct {
	Exchange string  `json:"exchange"` // "" for hosts of none
	Kind     string  `json:"kind"`
	Tunnels  int64   `json:"tunnels"`
	DialMS   float64 `json:"dial_ms"`            // moving average of what a dial takes
	Degraded bool    `json:"degraded,omitempty"` // asked after the others
	Drained  bool    `json:"drained,omitempty"`
}

// Verdict is what is known of an upstream for one exchange and kind.
type Verdict struct {
	Exchange string     `json:"exchange"`
	Kind     string     `json:"kind"`
	Verdict  string     `json:"verdict"`
	Since    time.Time  `json:"since"`
	Until    *time.Time `json:"until,omitempty"`
	From     string     `json:"from,omitempty"` // the host of the fleet that found it; "": this one
}

// Words returns the verdict, how long it has held and, where it ends by
// itself, how much of it is left: "geoblocked (for 2 min 3 s, 14 s left)".
func (v Verdict) Words(now time.Time) string {
	text := v.Verdict + " (for " + printable.Span(now.Sub(v.Since))
	if v.Until != nil {
		text += ", " + printable.Span(v.Until.Sub(now)) + " left"
	}
	if v.From != "" {
		text += "; found by host " + v.From
	}
	return text + ")"
}

// Budget is what is left of a limit on new connections.
type Budget struct {
	Exchange  string `json:"exchange,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Exit      string `json:"exit"`
	Limit     string `json:"limit"`             // as the configuration writes it: "300/5m"
	Whole     string `json:"whole,omitempty"`   // the limit of all hosts, of which Limit is this host's part
	Watched   bool   `json:"watched,omitempty"` // the exchange publishes it; nothing is held back
	Remaining int    `json:"remaining"`
	Open      int    `json:"open"`
	Queued    int    `json:"queued"`
	Refused   uint64 `json:"refused"`
	Shared    string `json:"shared,omitempty"` // between how many hosts, or why this host uses its share by itself
}

// Fleet is this process' part in a fleet.
type Fleet struct {
	Used  bool      `json:"redis_used"` // else shared budgets are down to this host's share
	Since time.Time `json:"since"`
	Hosts int       `json:"hosts"` // processes that were last seen; 0: none yet
	Why   string    `json:"why,omitempty"`
}

// List is a list of members that comes from a URL.
type List struct {
	Name    string    `json:"name"`             // the pool's
	From    string    `json:"from"`             // the scheme and the host of the URL
	Known   bool      `json:"known"`            // there is a list; else the pool has no member from it
	Members int       `json:"members"`          // of the list in force
	Fetched time.Time `json:"fetched,omitzero"` // when the list in force came
	Success time.Time `json:"success,omitzero"` // when it was last known to be the newest
	Problem string    `json:"problem,omitempty"`
	Since   time.Time `json:"since,omitzero"` // of Problem
	Next    time.Time `json:"next,omitzero"`  // when it is fetched again
}

// Process is another generation of the daemon.
type Process struct {
	Generation int       `json:"generation"`
	PID        int       `json:"pid"`
	Tunnels    int       `json:"tunnels"`
	Since      time.Time `json:"since"` // of its hand-over
	Seen       time.Time `json:"seen"`  // when it last reported

	Silent []feed.Exchange `json:"silent,omitempty"` // whose tunnels, of those that it serves, are silent
}

// Report is how a reload went, or would go. If there are Faults, nothing has
// changed.
type Report struct {
	File     string   `json:"file"`    // which configuration; "" for the built-in defaults
	Applied  bool     `json:"applied"` // false for a dry run, and with faults
	Changes  []string `json:"changes"` // "+ pool asia", "~ exchanges.okx.http: asia → direct"; none: no change
	Warnings []string `json:"warnings"`
	Faults   []string `json:"faults"`
}

// ConfigReport is the configuration in force, and how it came to be.
type ConfigReport struct {
	Config
	YAML       string      `json:"yaml"`                  // as `proxyd check --print` prints it, secrets masked
	LastReload *LastReload `json:"last_reload,omitempty"` // none since the start
}

// LastReload is how the last reload went that was no dry run.
type LastReload struct {
	Time time.Time `json:"time"`
	By   string    `json:"by"` // what asked for it: "file changed", "SIGHUP", "admin"
	Report
}

// filled has no list that would be null in JSON.
func (s Status) filled() Status {
	s.Headlines = s.Problems()
	fill(&s.Headlines)
	fill(&s.Reasons)
	fill(&s.Config.Faults)
	fill(&s.Exchanges)
	fill(&s.Listeners)
	fill(&s.Tunnels)
	fill(&s.Upstreams)
	return s
}

func (r Report) filled() Report {
	fill(&r.Changes)
	fill(&r.Warnings)
	fill(&r.Faults)
	return r
}

func fill[T any](list *[]T) {
	if *list == nil {
		*list = []T{}
	}
}

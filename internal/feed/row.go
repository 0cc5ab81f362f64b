// Package feed watches the tunnels of each exchange: how many are open, what they
// carry, and whether the exchange has lost its feed or fallen silent.
package feed

import "time"

// State is how an exchange and kind is served.
type State string

// The states, the worst first.
const (
	Lost      State = "lost"       // clients want it and do not get it
	Silent    State = "silent"     // tunnels are open and the exchange sends next to nothing; lost, too
	OK        State = "ok"         // tunnels are open, or requests succeed
	Idle      State = "idle"       // its clients have closed all tunnels and opened none since
	NoTraffic State = "no_traffic" // nothing has asked for it since the daemon started
)

// Bad reports whether the state belongs on the first line of status.
func (s State) Bad() bool { return s == Lost || s == Silent }

// Report is all that is known of the feeds, at one moment.
type Report struct {
	Time      time.Time  `json:"time"`
	Exchanges []Exchange `json:"exchanges"` // the worst first
	Feeds     []Feed     `json:"feeds"`     // by exchange, kind and upstream
}

// Exchange is the row of an exchange and kind: of each that the configuration has
// an entry for, and of others that carried traffic in the last hour.
type Exchange struct {
	Exchange   string    `json:"exchange"` // "" for hosts of none
	Kind       string    `json:"kind"`
	Configured bool      `json:"configured"`         // the configuration has an entry for it
	Outbound   string    `json:"outbound,omitempty"` // a pool's name, "direct" or "reject"
	State      State     `json:"state"`
	Since      time.Time `json:"since,omitzero"`           // when the state began
	Text       string    `json:"text,omitempty"`           // what is wrong, without the exchange's name
	Cause      string    `json:"cause,omitempty"`          // of a loss: "upstream_denied by tokyo-1, tokyo-2"; of a silence, whom it blames
	Hint       string    `json:"hint,omitempty"`           // what to do
	Lost       int       `json:"lost,omitempty"`           // tunnels that were open before, and are not
	Retrying   bool      `json:"retrying,omitempty"`       // it is lost; tunnels are open since the last failure, and none has lasted
	Silent     int       `json:"silent_tunnels,omitempty"` // tunnels that are silent, while the state is
	History    []int64   `json:"history,omitempty"`        // bytes from the exchange in each of the last 60 s, the oldest first
	Counts
}

// Unused reports whether it is lost and no client misses it: none has asked for it in the
// last hour, or had tunnels when it was lost.
func (e *Exchange) Unused() bool {
	return e.State == Lost && e.Lost == 0 && e.Failed == 0 && e.Opened == 0 && e.TunnelsMax == 0
}

// Degraded reports whether it is served, and something is wrong with it.
func (e *Exchange) Degraded() bool { return !e.State.Bad() && e.Cause != "" }

// Word returns the state for people: beside the states "retrying" and "degraded".
func (e *Exchange) Word() string {
	switch {
	case e.Retrying:
		return "retrying"
	case e.State == OK && e.Degraded():
		return "degraded"
	}
	return string(e.State)
}

// Feed is the row of the tunnels of one exchange and kind through one upstream.
type Feed struct {
	Exchange string   `json:"exchange"`
	Kind     string   `json:"kind"`
	Upstream string   `json:"upstream"`
	Silence  *Silence `json:"silence,omitempty"` // it is silent
	Counts
}

// Counts are what is counted for a row. Hours and minutes are the last ones.
type Counts struct {
	Tunnels     int       `json:"tunnels"`
	TunnelsMax  int       `json:"tunnels_max"`        // the most open at the same time in the last hour
	Up          Rate      `json:"up"`                 // from the clients
	Down        Rate      `json:"down"`               // from the exchange
	LastByte    time.Time `json:"last_byte,omitzero"` // from the exchange
	Opened      int       `json:"opened"`             // in an hour: connections opened, and plain requests answered
	Closed      int       `json:"closed"`             // in an hour: tunnels
	Failed      int       `json:"failed"`             // in an hour: refused by anything but the client
	Reconnects  int       `json:"reconnects"`         // in a minute: opened again within a minute of an end
	OpenP50     float64   `json:"open_p50_ms"`        // time to open; of the last hour
	OpenP99     float64   `json:"open_p99_ms"`
	LastClose   *Close    `json:"last_close,omitempty"`
	LastFailure *Failure  `json:"last_failure,omitempty"`
}

// Rate is a rate in bytes per second.
type Rate struct {
	Second float64 `json:"second"` // over the last second
	Minute float64 `json:"minute"` // over the last minute
}

// Close is how a tunnel ended.
type Close struct {
	Time   time.Time `json:"time"`
	By     string    `json:"by"` // client, upstream, exchange or proxyd
	Reason string    `json:"reason"`
}

// Failure is why a client got no connection.
type Failure struct {
	Time     time.Time `json:"time"`
	Class    string    `json:"class"`
	Upstream string    `json:"upstream,omitempty"`
	Text     string    `json:"text"`
}

// Silence is a silence that holds.
type Silence struct {
	Since   time.Time `json:"since"`
	Tunnels int       `json:"tunnels"` // that are silent
	Rule    string    `json:"rule"`    // fixed, learned or never_began
	Blame   string    `json:"blame"`   // subscription, upstream, exchange, unknown or network
	Text    string    `json:"text"`    // in words

	why  string // the part of Text that says whom it blames
	hint string // what to do
}

// Tunnel is what is sampled of one live tunnel.
type Tunnel struct {
	Up, Down      Rate
	LastByte      time.Time // from the exchange; zero: none yet
	Silent        bool
	ClientStalled bool // its client does not read
}

// Package event keeps what an operator wants to read backwards: a journal of
// what happened to feeds, upstreams and the daemon itself.
package event

import (
	"slices"
	"time"
)

// Severity is how much an event matters.
type Severity string

// The severities.
const (
	Info  Severity = "info"
	Warn  Severity = "warn"
	Error Severity = "error" // someone must act
)

// Type is what happened.
type Type string

// The types.
const (
	ExchangeLost    Type = "exchange_lost"    // an exchange and kind has lost its feed
	ExchangeBack    Type = "exchange_back"    // and has it again
	FeedSilent      Type = "feed_silent"      // the tunnels of a feed are open and the exchange sends next to nothing
	FeedBack        Type = "feed_back"        // it sends again
	TunnelSilent    Type = "tunnel_silent"    // one tunnel of a feed that goes on
	TunnelBack      Type = "tunnel_back"      // it carries again
	ClientStalled   Type = "client_stalled"   // a client does not read
	TunnelsEnded    Type = "tunnels_ended"    // many tunnels ended at once
	TunnelsClosed   Type = "tunnels_closed"   // by the operator, or by silence with action close
	Refused         Type = "refused"          // clients were refused, grouped
	UpstreamEjected Type = "upstream_ejected" // out of use after failures
	UpstreamBack    Type = "upstream_back"    // in use again
	UpstreamVerdict Type = "verdict"          // what an exchange or an upstream says of a pair has changed
	BudgetExhausted Type = "budget_exhausted" // a budget refuses connections
	BudgetLow       Type = "budget_low"       // a published limit that is only watched is nearly used up; one of 10 s or less, exceeded
	Reloaded        Type = "reload"           // a configuration was applied, or one of its files read again
	ReloadRefused   Type = "reload_refused"   // a file was rejected; the configuration in force stays
	Upgraded        Type = "upgrade"          // a hand-over to a new process: began, succeeded, failed
	Drained         Type = "drain"            // an operator drained or resumed an upstream
	Listening       Type = "listener"         // an address was opened, closed, or cannot be bound
	Descriptors     Type = "descriptors"      // out of file descriptors, or back to normal
	TunnelLimit     Type = "max_tunnels"      // the limit of tunnels was reached, or is no longer
	LogLost         Type = "log_lost"         // lines of the log were lost
	Certificate     Type = "certificate"      // a certificate expires soon, or has
	Fleet           Type = "fleet"            // Redis is not used, or is again; hosts have different limits for a budget
	ListStale       Type = "list"             // a list from a URL cannot be updated, or is again
	UnlistedHost    Type = "unlisted_host"    // only its domain says whose a host is: a list lacks it
	Started         Type = "start"            // the daemon started
	Stopping        Type = "stop"             // the daemon stops
)

// Severities, the least first, and Types list them all.
var (
	Severities = [...]Severity{Info, Warn, Error}
	Types      = [...]Type{
		ExchangeLost, ExchangeBack, FeedSilent, FeedBack, TunnelSilent, TunnelBack, ClientStalled, TunnelsEnded, TunnelsClosed, Refused,
		UpstreamEjected, UpstreamBack, UpstreamVerdict, BudgetExhausted, BudgetLow, Reloaded, ReloadRefused, Upgraded, Drained, Listening,
		Descriptors, TunnelLimit, LogLost, Certificate, Fleet, ListStale, UnlistedHost, Started, Stopping,
	}
)

// Event is one entry. It names no host that a client gave but those that the
// catalogue or the configuration lists, and holds no credentials.
type Event struct {
	ID       string    `json:"id"` // JOURNAL-N; set by Add
	Time     time.Time `json:"time"`
	Severity Severity  `json:"severity"`
	Type     Type      `json:"type"`
	Exchange string    `json:"exchange,omitempty"`
	Kind     string    `json:"kind,omitempty"`
	Upstream string    `json:"upstream,omitempty"`
	// Upstreams are those that an event of several upstreams concerns; Upstream is "" then.
	Upstreams []string `json:"upstreams,omitempty"`
	Count     int      `json:"count,omitempty"` // of the tunnels or refusals that it groups
	Text      string   `json:"text"`            // what happened
	Hint      string   `json:"hint,omitempty"`  // what to do
}

// Concerns reports whether e is about an upstream, by itself or with others.
func (e *Event) Concerns(upstream string) bool {
	return e.Upstream == upstream || slices.Contains(e.Upstreams, upstream)
}

// Package failure says why a client got no connection: the classes of what can
// go wrong, who is to blame for each, the errors that carry them, and the table
// of answers in the clients' protocols.
//
// It knows neither how a connection is opened nor how an answer is written.
package failure

import (
	"fmt"
	"time"
)

// Class is what went wrong with a request, one of a closed list that answers,
// log and metrics share.
type Class string

// The classes, and who is to blame.
const (
	BadRequest          Class = "bad_request"          // client
	Auth                Class = "auth"                 // client
	Denied              Class = "denied"               // policy
	NoUpstream          Class = "no_upstream"          // upstream: no usable member
	Budget              Class = "budget"               // policy
	UpstreamDNS         Class = "upstream_dns"         // upstream: its name is not found
	UpstreamUnreachable Class = "upstream_unreachable" // upstream: no route to it
	UpstreamRefused     Class = "upstream_refused"     // upstream
	UpstreamTLS         Class = "upstream_tls"         // upstream
	UpstreamProtocol    Class = "upstream_protocol"    // upstream: garbage, or closed early
	UpstreamAuth        Class = "upstream_auth"        // upstream: our credentials were rejected
	UpstreamDenied      Class = "upstream_denied"      // upstream: it says no to this target
	UpstreamTimeout     Class = "upstream_timeout"     // upstream: before it had our request
	TargetRefused       Class = "target_refused"       // target
	TargetUnreachable   Class = "target_unreachable"   // target
	TargetDNS           Class = "target_dns"           // target
	TargetTimeout       Class = "target_timeout"       // target, cannot tell
	TargetProtocol      Class = "target_protocol"      // target: its answer is no HTTP, or not whole
	Local               Class = "local"                // our own machine
	Draining            Class = "draining"             // policy
	Overload            Class = "overload"             // policy
)

// ClientGone stands in records for a client that left before it was answered.
// It is never sent to a client.
const ClientGone Class = "client_gone"

// Error is a failure to open a connection to a target.
type Error struct {
	Class      Class
	Upstream   string        // the member, "" when there was none
	Text       string        // what happened, in words that a client may see
	Hint       string        // what to do about it; may be ""
	Status     int           // an HTTP upstream's status, 0 if none
	Unsure     bool          // "target, cannot tell": the next member is tried
	RetryAfter time.Duration // when it may be worth to try again; 0 unknown
	Tried      []Attempt     // all attempts, the last one included
	ProxyError string        // the Proxy-Status error type (RFC 9209 section 2.3) when it is not the class's own
	Err        error         // the cause, for the log's debug level
	Hop        bool          // it was a hop before the upstream that failed
	Final      bool          // the request has gone out and must not go out twice
	Skipped    bool          // the member was not asked
	Sent       bool          // the upstream had the request, or the target was dialled
}

// Error returns the text, led by the upstream's name. After several attempts the
// text names each upstream itself.
func (e *Error) Error() string {
	if e.Upstream == "" || len(e.Tried) > 1 || e.Class == Denied || e.Class == Budget {
		return e.Text
	}
	return e.Upstream + " " + e.Text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns the error of one attempt through one upstream.
func New(c Class, format string, args ...any) *Error {
	return &Error{Class: c, Text: fmt.Sprintf(format, args...)}
}

// With adds the cause, and the hint when it is not "". It returns e.
func (e *Error) With(err error, hint string) *Error {
	e.Err = err
	if hint != "" {
		e.Hint = hint
	}
	return e
}

// Attempt is one failed attempt to open a connection.
type Attempt struct {
	Upstream string // the member's name
	Class    Class
	Took     time.Duration
	Text     string // a few words, free of credentials
}

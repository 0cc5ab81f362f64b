package upstream

import (
	"errors"
	"time"
)

// Class is the closed list of what can go wrong with a request, shared by
// answers, log and metrics.
type Class string

// The classes, and who is to blame.
const (
	ClassBadRequest          Class = "bad_request"          // client
	ClassAuth                Class = "auth"                 // client
	ClassDenied              Class = "denied"               // policy
	ClassNoUpstream          Class = "no_upstream"          // upstream: no usable member
	ClassBudget              Class = "budget"               // policy
	ClassUpstreamDNS         Class = "upstream_dns"         // upstream: its name is not found
	ClassUpstreamUnreachable Class = "upstream_unreachable" // upstream: no route to it
	ClassUpstreamRefused     Class = "upstream_refused"     // upstream
	ClassUpstreamTLS         Class = "upstream_tls"         // upstream
	ClassUpstreamProtocol    Class = "upstream_protocol"    // upstream: garbage, or closed early
	ClassUpstreamAuth        Class = "upstream_auth"        // upstream: our credentials were rejected
	ClassUpstreamDenied      Class = "upstream_denied"      // upstream: it says no to this target
	ClassUpstreamTimeout     Class = "upstream_timeout"     // upstream: before it had our request
	ClassTargetRefused       Class = "target_refused"       // target
	ClassTargetUnreachable   Class = "target_unreachable"   // target
	ClassTargetDNS           Class = "target_dns"           // target
	ClassTargetTimeout       Class = "target_timeout"       // target, cannot tell
	ClassTargetProtocol      Class = "target_protocol"      // target: its answer is no HTTP, or not whole
	ClassLocal               Class = "local"                // our own machine
	ClassDraining            Class = "draining"             // policy
	ClassOverload            Class = "overload"             // policy
)

// Error is a failure to open a way to a target.
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
	hop        bool          // it was a hop before the upstream that failed
	final      bool          // the request has gone out and must not go out twice
	aside      bool          // the member was not asked
	sent       bool          // the upstream had the request, or the target was dialled
}

// Error is the text, led by the upstream's name. After several attempts the
// text names each upstream itself.
func (e *Error) Error() string {
	if e.Upstream == "" || len(e.Tried) > 1 || e.Class == ClassDenied || e.Class == ClassBudget {
		return e.Text
	}
	return e.Upstream + " " + e.Text
}

// mayHaveCome reports whether after this failure the target may have seen a
// connection. Who was turned away by the upstream, or was told that there is no
// such name, was not let through to it.
func mayHaveCome(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	switch e.Class {
	case ClassUpstreamAuth, ClassUpstreamDenied, ClassTargetDNS:
		return false
	}
	return e.sent
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

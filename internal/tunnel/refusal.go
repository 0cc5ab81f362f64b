package tunnel

import (
	"strings"
	"time"

	"proxyd/internal/failure"
	"proxyd/internal/upstream"
)

// Refusal is why a client does not get what it asks for.
type Refusal struct {
	ID         string // the request's id
	Class      failure.Class
	Target     upstream.Target
	Rule       string
	Pool       string
	Upstream   string
	Text       string // what happened
	Hint       string // what to do
	Tried      []failure.Attempt
	RetryAfter time.Duration
	Delay      time.Duration // wait so long before the answer: identical refusals are slowed down
	Status     int           // the HTTP status to answer with when it differs from the class's own (408, 431); 0 otherwise
	ProxyError string        // the Proxy-Status error type (RFC 9209 section 2.3) when it is not the class's own
	Err        error
}

// addResolved adds that the client resolved a name itself, where that may be why:
// the target is a public address, and not reached. For others it is not known, and a
// client that knows of no proxy has no choice.
func (r *Refusal) addResolved(protocol string) {
	if protocol == Transparent {
		return
	}
	const what, remedy = "this client resolved the name itself", "use socks5h:// or http:// in the client, so that it sends the name"
	ip := r.Target.IP
	if !ip.IsValid() || !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return
	}
	switch r.Class {
	case failure.Denied, failure.UpstreamDenied, failure.TargetRefused, failure.TargetUnreachable, failure.TargetTimeout:
	default:
		return
	}
	if !strings.Contains(r.Text, "this client resolved ") {
		r.Text += "; " + what
	}
	switch {
	case r.Hint == "":
		r.Hint = remedy
	case !strings.Contains(r.Hint, "socks5h"):
		r.Hint += "; or " + remedy
	}
}

// Error returns Text.
func (r *Refusal) Error() string { return r.Text }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

package tunnel

import (
	"strings"
	"time"

	"proxyd/internal/upstream"
)

// ClassGone stands in records for a client that left before it was answered.
// It is never sent to anybody.
const ClassGone upstream.Class = "client_gone"

// Refusal is why a client does not get what it asks for.
type Refusal struct {
	ID         string // the request's id
	Class      upstream.Class
	Target     upstream.Target
	Rule       string
	Pool       string
	Upstream   string
	Text       string // what happened
	Hint       string // what to do
	Tried      []upstream.Attempt
	RetryAfter time.Duration
	Delay      time.Duration // wait so long before the answer: identical refusals are slowed down
	Status     int           // the HTTP status to answer with when it differs from the class's own (408, 431); 0 otherwise
	ProxyError string        // the Proxy-Status error type (RFC 9209 section 2.3) when it is not the class's own
	Err        error
}

// sayResolved adds that the client resolved a name itself, where that may be why:
// the target is a public address, and not reached. Of others it cannot be told.
func (r *Refusal) sayResolved() {
	const what, remedy = "this client resolved the name itself", "use socks5h:// or http:// in the client, so that it sends the name"
	ip := r.Target.IP
	if !ip.IsValid() || !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return
	}
	switch r.Class {
	case upstream.ClassDenied, upstream.ClassUpstreamDenied, upstream.ClassTargetRefused, upstream.ClassTargetUnreachable, upstream.ClassTargetTimeout:
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

// Error is the text.
func (r *Refusal) Error() string { return r.Text }

// Unwrap gives the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Answer is how a class of refusal is put to clients.
type Answer struct {
	Blame      string // client, policy, upstream, target, "target, cannot tell", local
	HTTP       int
	SOCKS5     byte   // RFC 1928 section 6
	Proxy      string // the Proxy-Status error type (RFC 9209 section 2.3)
	RetryAfter bool   // the answer carries Retry-After
}

// answers is the one table that both protocols are answered from.
var answers = map[upstream.Class]Answer{
	upstream.ClassBadRequest:          {"client", 400, 1, "http_request_error", false},
	upstream.ClassAuth:                {"client", 407, 2, "http_request_denied", false},
	upstream.ClassDenied:              {"policy", 403, 2, "http_request_denied", false},
	upstream.ClassNoUpstream:          {"upstream", 503, 1, "destination_unavailable", true},
	upstream.ClassBudget:              {"policy", 503, 1, "connection_limit_reached", true},
	upstream.ClassUpstreamDNS:         {"upstream", 502, 1, "dns_error", false},
	upstream.ClassUpstreamUnreachable: {"upstream", 502, 1, "destination_ip_unroutable", false},
	upstream.ClassUpstreamRefused:     {"upstream", 502, 1, "connection_refused", false},
	upstream.ClassUpstreamTLS:         {"upstream", 502, 1, "tls_protocol_error", false},
	upstream.ClassUpstreamProtocol:    {"upstream", 502, 1, "http_protocol_error", false},
	upstream.ClassUpstreamAuth:        {"upstream", 502, 1, "proxy_configuration_error", false},
	upstream.ClassUpstreamDenied:      {"upstream", 502, 1, "http_request_denied", false},
	upstream.ClassTargetRefused:       {"target", 502, 5, "connection_refused", false},
	upstream.ClassTargetUnreachable:   {"target", 502, 4, "destination_ip_unroutable", false},
	upstream.ClassTargetDNS:           {"target", 502, 4, "dns_error", false},
	upstream.ClassUpstreamTimeout:     {"upstream", 504, 6, "connection_timeout", false},
	upstream.ClassTargetProtocol:      {"target, cannot tell", 502, 1, "http_protocol_error", false},
	upstream.ClassTargetTimeout:       {"target, cannot tell", 504, 6, "connection_timeout", false},
	upstream.ClassLocal:               {"local", 503, 1, "proxy_internal_error", false},
	upstream.ClassDraining:            {"policy", 503, 1, "destination_unavailable", true},
	upstream.ClassOverload:            {"policy", 503, 1, "connection_limit_reached", true},
}

// AnswerTo looks a class up; an unknown one is our own fault.
func AnswerTo(c upstream.Class) Answer {
	if a, ok := answers[c]; ok {
		return a
	}
	return Answer{"local", 503, 1, "proxy_internal_error", false}
}

// Package tunnel is one client's way to one target: route, dial, reply, carry
// bytes, account for it. It speaks no client protocol; inbound does.
package tunnel

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/relay"
	"proxyd/internal/router"
	"proxyd/internal/upstream"
)

// Request is what a client asks for.
type Request struct {
	Client   netip.AddrPort
	Protocol string // "connect", "http", "socks5", "socks4"
	Label    string // the proxy username, "" if none
	Host     string // as the client wrote it
	Port     uint16
	Hint     router.Hint
}

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
	Err        error
}

// Error is the text.
func (r *Refusal) Error() string { return r.Text }

// Unwrap gives the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Event says what a Record reports.
type Event uint8

// The events.
const (
	Opened Event = iota + 1
	Ended
	Refused
	Served // a plain HTTP request was answered
)

// Record is one tunnel, refusal or plain request, for log, counters and status.
type Record struct {
	Event          Event
	ID             string
	Client         netip.AddrPort
	Label          string
	Protocol       string
	Host           string
	Port           uint16
	Exchange       string
	Kind           catalog.Kind
	Rule           string
	Pool, Upstream string
	Attempts       []upstream.Attempt
	Dial, Queued   time.Duration
	Start          time.Time
	Duration       time.Duration
	Up, Down       int64
	ClosedBy       string
	Reason         relay.Reason
	Class          upstream.Class // of a refusal
	Text           string
	Step           string
	Repeated       int // identical refusals that were not logged before this one
}

// Handler opens tunnels.
type Handler struct{}

// Open routes and dials. On success the caller answers the client and then
// calls Carry or Abandon exactly once. The error is a *Refusal; it has been
// recorded.
func (h *Handler) Open(ctx context.Context, r Request) (*Tunnel, error) {
	panic("written in the next commit")
}

// Refuse completes and records a refusal that the front end itself decided
// (bad_request, auth, draining). status overrides the class's HTTP status
// (408, 431, 501 …); 0 keeps it.
func (h *Handler) Refuse(r Request, class upstream.Class, status int, text, hint string) *Refusal {
	panic("written in the next commit")
}

// RoundTrip routes one plain HTTP request, sends it and records it. req.URL
// is absolute and req.Host its authority. The error is a *Refusal.
func (h *Handler) RoundTrip(req *http.Request, r Request) (*http.Response, error) {
	panic("written in the next commit")
}

// Answer is how a class of refusal is put to clients: the table of the answers.
type Answer struct {
	Blame      string // client, policy, upstream, target, "target, cannot tell", local
	HTTP       int
	SOCKS5     byte
	Proxy      string // the Proxy-Status error type (RFC 9209 section 2.3)
	RetryAfter bool
}

// AnswerTo looks a class up.
func AnswerTo(c upstream.Class) Answer { panic("written in the next commit") }

// Tunnel is an open way that waits for Carry or Abandon.
type Tunnel struct{}

// Carry relays bytes in the background and owns both conns from here on. early
// is what the client sent behind its request. It ends in one Record.
func (t *Tunnel) Carry(client net.Conn, early []byte) { panic("written in the next commit") }

// Abandon closes the way; the client left before the reply.
func (t *Tunnel) Abandon(cause error) { panic("written in the next commit") }

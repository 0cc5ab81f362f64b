package tunnel

import (
	"net/netip"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/failure"
	"proxyd/internal/relay"
	"proxyd/internal/router"
)

// Request is what a client asks for.
type Request struct {
	Client   netip.AddrPort
	Protocol string // "connect", "http", "socks5", "socks4", Transparent
	Label    string // the proxy username, "" if none
	Host     string // as the client wrote it
	Port     uint16
	Hint     router.Hint
	Hops     string // the tokens of proxyd processes that it has passed (upstream.Hops)
	Upgrade  bool   // a plain request that asks for an upgrade
}

// Transparent is the protocol of a redirected connection, whose client asks for nothing.
const Transparent = "transparent"

// Event is what a Record reports.
type Event uint8

// The events.
const (
	Opened   Event = iota + 1 // a tunnel begins to carry bytes
	Ended                     // and has ended
	Refused                   // a client did not get what it asked for
	Served                    // a plain HTTP request was answered: to its last byte unless Class says why not
	Unlisted                  // a host is an exchange's by its domain alone: no row of the catalogue lists it; once a host
	Moved                     // a tunnel lives on in another process, whose Ended counts it from its beginning
)

// Opening is what is known of a tunnel when it opens; all that it holds of its
// record while it lives.
type Opening struct {
	ID             string
	Client         netip.AddrPort
	Label          string // the proxy username, "" if none
	Protocol       string
	Host           string // normalised, or cleaned when it cannot be
	Port           uint16
	Kind           catalog.Kind
	Exchange       string
	Rule           string
	Pool, Upstream string
	Via            string            // the hops that the upstream was reached through, as upstream.Conn has them
	Attempts       []failure.Attempt // the failed ones
	Dial, Queued   time.Duration
	Start          time.Time
}

// Record is one tunnel, refusal or plain request, for log, counters and status.
type Record struct {
	Event Event
	Opening
	Duration time.Duration // of the whole, for Ended and Served
	Lasted   time.Duration // until one side ended, for Ended; the other may have gone on for long
	Up, Down int64
	ClosedBy string
	Reason   relay.Reason
	Class    failure.Class // of a refusal, or of an answer that was cut short
	Step     string        // where a refusal came about: "request", "route", "limit", "dial"
	Text     string
	Hint     string // of a refusal: what to do
	Quiet    bool   // an identical refusal was logged a moment ago, or too many different ones: count it, do not log it
	Repeated int    // identical quiet ones since the last that was logged
	Hidden   int    // other quiet ones since the last line of a refusal
	Slot     *any   // the tunnel's (see Live.Slot); nil where there was none
}

package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/event"
	"proxyd/internal/failure"
	"proxyd/internal/printable"
	"proxyd/internal/relay"
	"proxyd/internal/tunnel"
)

// sources make events of records, few of much that is alike. The texts name no
// host: a client may have made it up. They are safe for concurrent use.
type sources struct {
	groups *event.Groups
	bursts event.Bursts
}

func newSources(add func(event.Event)) *sources { return &sources{groups: event.NewGroups(add)} }

// record takes a record. It does not keep it.
func (s *sources) record(r *tunnel.Record) {
	now := time.Now()
	switch r.Event {
	case tunnel.Refused:
		if r.Class != failure.ClientGone {
			s.refused(r, now)
		}
	case tunnel.Ended: // what proxyd ends has an event of its own, and a client that is done with a REST call is none
		if r.ClosedBy == tunnel.ByProxyd || r.ClosedBy == tunnel.ByClient && (r.Kind != catalog.KindWebsocket || r.Reason == tunnel.ReasonAbandoned) {
			return
		}
		reason := string(r.Reason)
		if r.Protocol == tunnel.Transparent && r.ClosedBy == tunnel.ByClient && r.Reason == relay.ReasonReset {
			reason = resetRedirected
		}
		s.bursts.Note(event.End{Exchange: r.Exchange, Kind: r.Kind.String(), Upstream: r.Upstream, By: r.ClosedBy, Reason: reason}, now)
	case tunnel.Unlisted:
		s.groups.Note(event.Event{
			Severity: event.Info, Type: event.UnlistedHost, Exchange: r.Exchange, Kind: r.Kind.String(),
			Hint: "find it in the log (host not in the catalogue), and list it under exchanges." + r.Exchange + ".hosts",
		}, "", now, func(n int, span time.Duration) string {
			return amount(n, span, "host is", "hosts are") + " taken for " + r.Exchange + " by the domain alone"
		})
	}
}

// refused notes a refusal. One through a single upstream is that upstream's.
func (s *sources) refused(r *tunnel.Record, now time.Time) {
	e := event.Event{
		Severity: event.Warn, Type: event.Refused, Exchange: r.Exchange, Kind: r.Kind.String(), Upstream: r.Upstream, Hint: classHints[r.Class],
	}
	var names []string
	for _, a := range r.Attempts {
		if !slices.Contains(names, a.Upstream) {
			names = append(names, a.Upstream)
		}
	}
	slices.Sort(names)
	switch len(names) {
	case 0:
	case 1:
		e.Upstream = names[0]
	default:
		e.Upstream, e.Upstreams = "", names
	}
	what := string(r.Class)
	if r.Protocol == tunnel.Transparent && strings.HasPrefix(r.Text, loopText) { // which names an address
		what, e.Hint = loopText, loopHint
	}
	key := what
	if len(names) > 0 {
		what += " by " + listed(names, 3)
	}
	switch r.Class {
	case failure.Budget:
		e.Type, what = event.BudgetExhausted, "a budget is used up"
	case failure.BadRequest, failure.Denied, failure.Draining:
		if what != loopText {
			e.Severity = event.Info
		}
	}
	s.groups.Note(e, key, now, func(n int, span time.Duration) string {
		return amount(n, span, "request refused", "requests refused") + ": " + what
	})
}

// What is said of connections that were redirected and would go round.
const (
	loopText = "proxy_loop_detected"
	loopHint = "proxyd's own connections are redirected to it, or a program connects to an upstream itself, or uses the transparent port as a proxy: the \"refused\" lines of the log say which; in the first case run proxyd as another user, or except it from the rules"
)

// amount returns "12 more hosts in 10 s", or "1 host" for the first.
func amount(n int, span time.Duration, one, many string) string {
	text := fmt.Sprint(n)
	if span > 0 {
		text += " more"
	}
	if n == 1 {
		text += " " + one
	} else {
		text += " " + many
	}
	if span > 0 {
		text += " in " + printable.Span(span)
	}
	return text
}

// listed returns names in one line, and how many more there are than most.
func listed(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s (+%d more)", strings.Join(names[:most], ", "), len(names)-most)
}

// classHints says what to do about refusals of a class.
var classHints = map[failure.Class]string{
	failure.BadRequest:          "correct the client; the log has its requests",
	failure.Auth:                "give the client a user and password of the listener",
	failure.Denied:              `the "refused" lines of the log name the hosts; proxyd route --live HOST says why and what to do`,
	failure.NoUpstream:          "see which members can be used: proxyd status",
	failure.Budget:              "see what is left: proxyd status; use more exits, or fewer connections",
	failure.UpstreamDNS:         "correct the upstream's host name, or this machine's resolver",
	failure.UpstreamUnreachable: "check the network, and the upstream's address",
	failure.UpstreamRefused:     "see whether the upstream runs, and its port",
	failure.UpstreamTLS:         "check the upstream's certificate and its tls settings",
	failure.UpstreamProtocol:    "check the upstream's scheme; test it: proxyd probe",
	failure.UpstreamAuth:        "correct the user and password in the upstream's URL, or in the file that this names",
	failure.UpstreamDenied:      "ask the upstream's operator to allow the exchange, or use another one",
	failure.UpstreamTimeout:     "test the upstream: proxyd probe; drain it if it stays slow",
	failure.TargetRefused:       "see the exchange's status page; test it: proxyd probe",
	failure.TargetUnreachable:   "see the exchange's status page; test it: proxyd probe",
	failure.TargetDNS:           "see whether the client's host name is right",
	failure.TargetTimeout:       "see the exchange's status page; test it: proxyd probe",
	failure.TargetProtocol:      "see the exchange's status page",
	failure.Local:               "see the log; perhaps file descriptors or ports are short",
	failure.Overload:            "raise max_tunnels or the limit of open files",
}

// look hands out the groups that are due. It is to be called once a second.
func (s *sources) look(now time.Time) {
	for _, b := range s.bursts.Take(now) {
		s.ended(b, now)
	}
	s.groups.Tick(now)
}

// finish hands out all that is left.
func (s *sources) finish() {
	now := time.Now()
	for _, b := range s.bursts.Take(now.Add(time.Hour)) { // over or not
		s.ended(b, now)
	}
	s.groups.Flush(now)
}

// resetRedirected is the reason of an end by the client, or by its kernel: that resets
// redirected connections when their rules are gone.
const resetRedirected = "reset, redirected"

func (s *sources) ended(b event.Burst, now time.Time) {
	e := event.Event{Severity: event.Warn, Type: event.TunnelsEnded, Exchange: b.Exchange, Kind: b.Kind, Upstream: b.Upstream, Count: b.Count}
	if len(b.Upstreams) > 1 {
		e.Upstreams = b.Upstreams
	}
	var how []string
	for _, h := range b.How {
		words := "closed by the " + h.By + " (" + h.Reason + ")"
		if len(b.How) > 1 {
			words = fmt.Sprint(h.Count, " ", words)
		}
		how = append(how, words)
	}
	if !slices.ContainsFunc(b.How, func(h event.How) bool { return h.By != tunnel.ByClient }) {
		e.Severity = event.Info
	}
	if slices.ContainsFunc(b.How, func(h event.How) bool { return h.Reason == resetRedirected }) {
		e.Hint = "if the client still runs, see that its rules are loaded, or it goes direct: nft list table inet proxyd"
	}
	of := ""
	if b.Exchange != "" {
		of = " of " + b.Exchange
	}
	if b.Kind != "" && b.Exchange != "" {
		of += " " + b.Kind
	}
	if b.Upstream != "" {
		of += " through " + b.Upstream
	}
	// What an upstream or exchange has ended is news, also after ends by clients.
	s.groups.Note(e, string(e.Severity), now, func(n int, span time.Duration) string {
		if span == 0 {
			return fmt.Sprintf("%d tunnels%s ended within 1 s: %s", n, of, listed(how, 3))
		}
		return fmt.Sprintf("%d more tunnels%s ended within %s; the last: %s", n, of, printable.Span(span), listed(how, 3))
	})
}

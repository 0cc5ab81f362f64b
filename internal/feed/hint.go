package feed

import (
	"cmp"
	"slices"
	"strings"

	"proxyd/internal/failure"
	"proxyd/internal/tunnel"
)

// hints are what to do about a class of failures; UPSTREAM stands for the names,
// EXCHANGE for the exchange, FILE for the configuration's.
var hints = map[failure.Class]string{
	failure.UpstreamDenied:      "ask the provider of UPSTREAM, or use another upstream; proxyd probe EXCHANGE tries each",
	failure.UpstreamAuth:        "correct the credentials of UPSTREAM in FILE, or in the file that it names for them: either applies when it is saved",
	failure.UpstreamRefused:     "nothing listens at UPSTREAM: start the proxy, or correct the port in FILE; proxyd probe EXCHANGE tries each upstream",
	failure.UpstreamUnreachable: "check the network between this machine and UPSTREAM; proxyd probe EXCHANGE tries each upstream",
	failure.UpstreamTimeout:     "no answer from UPSTREAM: restart the proxy, or use another upstream; proxyd probe EXCHANGE tries each",
	failure.UpstreamDNS:         "no address is found for UPSTREAM: check the URL in FILE, and this machine's name servers",
	failure.UpstreamTLS:         "check the certificate of UPSTREAM, and the tls keys in FILE",
	failure.UpstreamProtocol:    "an answer in another protocol than the URL says, or none: check the scheme of UPSTREAM in FILE, and the proxy",
	failure.TargetRefused:       "the exchange refuses connections from this exit; proxyd probe EXCHANGE tries each upstream",
	failure.TargetUnreachable:   "the exchange cannot be reached from this exit; proxyd probe EXCHANGE tries each upstream",
	failure.TargetTimeout:       "the exchange does not answer through this exit; proxyd probe EXCHANGE tries each upstream",
	failure.TargetDNS:           "the name that the client asks for is not found: check it in the client, or the upstream's name servers",
	failure.TargetProtocol:      "the exchange's answers are not whole; proxyd probe EXCHANGE tries each upstream",
	failure.NoUpstream:          "no member of the pool may be used: proxyd status lists why, proxyd resume ends a drain",
	failure.Budget:              "the limit on new connections is used up: wait, add an exit, or raise it under limits in FILE (limits: published takes what the exchange publishes)",
	failure.Denied:              "FILE rejects it: was the entry of EXCHANGE removed? put it back, or add one; proxyd route HOST names the rule",
	failure.Overload:            "raise max_tunnels in FILE and save it; if it is not set there, raise the limit of open files (LimitNOFILE=) and restart",
	failure.Local:               "this machine lacks something: see the log; often file descriptors, ports or the source address",
	failure.ClientGone:          "clients gave up waiting for a connection; proxyd probe EXCHANGE tries each upstream",
}

const (
	hintEnded    = "perhaps the exchange turns this exit away; run: proxyd probe EXCHANGE"
	hintUpstream = "UPSTREAM: see the log of the proxy, or use another upstream; proxyd probe EXCHANGE tries each"
	hintClient   = "see in the client's log what the exchange answers; proxyd probe EXCHANGE asks it, too"
	hintNoMember = "proxyd probe EXCHANGE tries each upstream"
	hintSilent   = "proxyd tunnels --exchange EXCHANGE shows which; proxyd close --exchange EXCHANGE makes the clients reconnect"
)

// hint returns what to do about the pair's state, "" if nothing is to be done. file is
// the configuration's, "" if it has none.
func (p *pair) hint(file string) string {
	switch {
	case p.state == Silent:
		if s := p.silence(); s != nil && s.hint != "" {
			return s.hint
		}
		return p.expand(file, hintSilent)
	case p.state != Lost && p.noMember == nil:
		return ""
	}
	causes := p.recent()
	if p.state != Lost || len(causes) == 0 || p.refusedForWant() {
		return p.memberHint(file)
	}
	last := slices.MaxFunc(causes, func(a, b cause) int { return a.last.Compare(b.last) })
	_, turned := p.verdict(last)
	switch {
	case last.class != "":
	case turned != "":
		return p.expand(file, turnedHints[turned])
	case last.by == tunnel.ByUpstream:
		return p.expand(file, hintUpstream)
	case last.by == tunnel.ByClient:
		return p.expand(file, hintClient)
	default:
		return p.expand(file, hintEnded)
	}
	var names []string // of those that fail so
	for _, c := range causes {
		if c.class == last.class && c.upstream != "" && !slices.Contains(names, c.upstream) {
			names = append(names, c.upstream)
		}
	}
	slices.Sort(names)
	return withResume(p.drained(), p.expand(file, cmp.Or(hints[last.class], hintNoMember), names...))
}

// expand puts names into a hint: those of upstreams, or of all that p's failures name.
func (p *pair) expand(file, hint string, upstreams ...string) string {
	if len(upstreams) == 0 {
		upstreams = p.upstreams()
	}
	names := cmp.Or(namesOf(upstreams), "the upstream")
	return strings.NewReplacer("UPSTREAM", names, "EXCHANGE", p.key.exchange, "FILE", cmp.Or(file, "the configuration")).Replace(hint)
}

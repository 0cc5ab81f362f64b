package feed

import (
	"cmp"
	"slices"
	"strings"

	"proxyd/internal/failure"
	"proxyd/internal/upstream"
)

// hints are what to do about a class of failures; UPSTREAM stands for the names,
// EXCHANGE for the exchange.
var hints = map[failure.Class]string{
	failure.UpstreamDenied:      "UPSTREAM refuses this exchange: ask its provider, or use another upstream; proxyd probe EXCHANGE tries each",
	failure.UpstreamAuth:        "check the credentials of UPSTREAM, then: proxyd reload",
	failure.UpstreamRefused:     "is the proxy at UPSTREAM running? proxyd probe EXCHANGE tries each upstream",
	failure.UpstreamUnreachable: "check the network between this machine and UPSTREAM; proxyd probe EXCHANGE tries each upstream",
	failure.UpstreamTimeout:     "UPSTREAM does not answer: restart it, or use another one; proxyd probe EXCHANGE tries each",
	failure.UpstreamDNS:         "the name of UPSTREAM is not found: check its URL in the configuration, and this machine's name servers",
	failure.UpstreamTLS:         "check the certificate of UPSTREAM, and its tls keys in the configuration",
	failure.UpstreamProtocol:    "UPSTREAM speaks another protocol than its URL says, or closes early: check the scheme and the proxy",
	failure.TargetRefused:       "the exchange refuses connections from this exit; proxyd probe EXCHANGE tries each upstream",
	failure.TargetUnreachable:   "the exchange cannot be reached from this exit; proxyd probe EXCHANGE tries each upstream",
	failure.TargetTimeout:       "the exchange does not answer through this exit; proxyd probe EXCHANGE tries each upstream",
	failure.TargetDNS:           "the name that the client asks for is not found: check it in the client, or the upstream's name servers",
	failure.TargetProtocol:      "the exchange's answers are not whole; proxyd probe EXCHANGE tries each upstream",
	failure.NoUpstream:          "no member of the pool may be used: proxyd status lists why, proxyd resume ends a drain",
	failure.Budget:              "the limit on new connections is used up: wait, add an exit, or raise it under limits",
	failure.Denied:              "the configuration refuses it: was the exchange's entry removed? see proxyd route HOST",
	failure.Overload:            "raise max_tunnels, and the limit of open files with it",
	failure.Local:               "this machine lacks something: see the log; often file descriptors, ports or the source address",
	failure.ClientGone:          "clients gave up waiting for a connection; proxyd probe EXCHANGE tries each upstream",
}

const (
	hintEnded    = "perhaps the exchange turns this exit away; run: proxyd probe EXCHANGE"
	hintDrained  = "to use it again: proxyd resume UPSTREAM"
	hintNoMember = "proxyd probe EXCHANGE tries each upstream"
	hintSilent   = "proxyd tunnels --exchange EXCHANGE shows which; proxyd close --exchange EXCHANGE makes the clients reconnect"
)

// hint returns what to do about a pair's state, "" if nothing is to be done.
func (t *Table) hint(p *pair) string {
	switch {
	case p.state == Silent:
		return p.expand(hintSilent)
	case p.state != Lost:
		return ""
	}
	causes := p.recent()
	if len(causes) == 0 {
		if slices.ContainsFunc(p.noMember, func(u upstream.Unavailable) bool { return u.Drained }) {
			return p.expand(hintDrained)
		}
		return p.expand(hintNoMember)
	}
	last := slices.MaxFunc(causes, func(a, b cause) int { return a.last.Compare(b.last) })
	if last.class == "" {
		return p.expand(hintEnded)
	}
	return p.expand(cmp.Or(hints[last.class], hintNoMember))
}

func (p *pair) expand(hint string) string {
	names := cmp.Or(namesOf(p.upstreams()), "the upstream")
	return strings.NewReplacer("UPSTREAM", names, "EXCHANGE", p.key.exchange).Replace(hint)
}

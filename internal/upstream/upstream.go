// Package upstream holds the ways out: how to dial a target through one
// upstream, how to choose among many, and what is remembered of how they did.
//
// It knows nothing of clients, of routing rules, or of bytes once a way is open.
package upstream

import (
	"proxyd/internal/config"
	"proxyd/internal/proxyclient"
)

// Upstream is one way out, as one configuration has it.
type Upstream struct {
	name     string
	id       config.Identity
	url      config.URL
	client   *proxyclient.Client
	newLogin bool // the configuration before had other credentials
	via      *Pool
	lead     *connEpoch
	exit     string // of the first membership: for probes, which pass no pool
	shared   *shared
	rules    rules
	pools    []*Pool // where it is enabled
	state    *state
	detached *Upstream // the same, without what leads to its set: for ways, which outlive that
}

// Name is the upstream's name.
func (u *Upstream) Name() string { return u.name }

// Via names the pools of hops before u, the nearest to u first, "" for none:
// "corp", or "corp via hq". Where the members of one have different hops it says
// "corp via several". One that is written in place is called after its members.
func (u *Upstream) Via() string {
	if u.via == nil {
		return ""
	}
	next := ""
	for i, m := range u.via.members {
		switch v := m.Via(); {
		case i == 0:
			next = v
		case v != next:
			return u.via.label() + " via several"
		}
	}
	if next == "" {
		return u.via.label()
	}
	return u.via.label() + " via " + next
}

// URL is the upstream's address, credentials masked.
func (u *Upstream) URL() string { return u.url.String() }

// Live is the number of open connections that leave through it.
func (u *Upstream) Live() int64 { return u.state.live.Load() }

// IsDirect reports whether u leaves from this machine, without a proxy.
func (u *Upstream) IsDirect() bool { return u.url.Scheme == config.SchemeDirect }

// forwards reports whether u takes plain requests in absolute form.
func (u *Upstream) forwards() bool {
	return u.url.Scheme == config.SchemeHTTP || u.url.Scheme == config.SchemeHTTPS
}

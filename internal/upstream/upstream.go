// Package upstream chooses an upstream for a target, dials through it, fails over
// to the next, and keeps what is known of each: health, verdicts, budgets.
//
// It knows nothing of clients, of routing rules, or of bytes once a connection is
// open.
package upstream

import (
	"crypto/x509"

	"proxyd/internal/config"
	"proxyd/internal/proxyclient"
)

// Upstream is a proxy server, or a local source address, as one configuration has
// it. It is safe for concurrent use.
type Upstream struct {
	name     string
	id       config.Identity
	url      config.URL
	client   *proxyclient.Client
	newLogin bool // the configuration before had other credentials
	via      *Pool
	epoch    *connEpoch
	exit     string // of the first membership: for probes, which pass no pool
	shared   *shared
	rules    rules
	pools    []*Pool // where it is enabled
	state    *state
	detached *Upstream // the same, without what leads to its set: for connections, which outlive that
}

// Name returns the upstream's name.
func (u *Upstream) Name() string { return u.name }

// ID returns what makes it the same upstream in two configurations.
func (u *Upstream) ID() config.Identity { return u.id }

// Via returns the pools of hops before u, the nearest to u first, "" for none:
// "corp", or "corp via hq". If the members of one have different hops it is
// "corp via several". A pool that is written in place has its members' names.
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

// URL returns the upstream's address, credentials masked.
func (u *Upstream) URL() string { return u.url.String() }

// Validity is the time in which a certificate is valid.
type Validity = proxyclient.Validity

// Pools returns the pools in which it is enabled. The caller must not modify the list.
func (u *Upstream) Pools() []*Pool { return u.pools }

// ValidityOf returns when c is valid; the zero Validity for nil.
func ValidityOf(c *x509.Certificate) Validity { return proxyclient.ValidityOf(c) }

// Certificate returns when the upstream's own certificate is valid, as the last
// handshake showed it: zero for one that speaks no TLS, and before its first handshake.
func (u *Upstream) Certificate() Validity { return u.state.certificate.Validity() }

// ClientCertificate returns when the certificate that the upstream is shown is valid;
// zero if it is shown none.
func (u *Upstream) ClientCertificate() Validity {
	if u.client.TLS == nil || len(u.client.TLS.Certificates) == 0 {
		return Validity{}
	}
	return proxyclient.ValidityOf(u.client.TLS.Certificates[0].Leaf)
}

// Live returns the number of open connections through it.
func (u *Upstream) Live() int64 { return u.state.live.Load() }

// IsDirect reports whether u dials targets from this machine, without a proxy.
func (u *Upstream) IsDirect() bool { return u.url.Scheme == config.SchemeDirect }

// forwards reports whether u takes plain requests in absolute form.
func (u *Upstream) forwards() bool {
	return u.url.Scheme == config.SchemeHTTP || u.url.Scheme == config.SchemeHTTPS
}

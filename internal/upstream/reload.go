package upstream

import (
	"crypto/tls"
	"slices"

	"proxyd/internal/config"
)

// connEpoch tells connections that lead one way from those that lead an older one of
// the same upstream: a reload that changes its credentials, its TLS files, the
// hops before it or, for a direct one, what the guard allows makes a new lead.
type connEpoch struct{ _ byte } // not empty: each must have an address of its own

// inheritFrom takes over from prev what outlives a configuration, and finds out what
// of it did not change. It has no effect on prev.
func (s *Set) inheritFrom(prev *Set) {
	settled := map[*Upstream]bool{}
	var settle func(u *Upstream) bool // whether u leads as it did
	settle = func(u *Upstream) bool {
		if same, done := settled[u]; done {
			return same
		}
		old := prev.upstreams[u.id]
		same := old != nil && u.client.Credentials.Equal(old.client.Credentials) && sameTLS(u.client.TLS, old.client.TLS) && (u.via == nil) == (old.via == nil)
		if same && u.via != nil {
			same = slices.Equal(u.via.inUse(), old.via.inUse())
			for i := range u.via.members {
				if m := &u.via.members[i]; m.Enabled {
					same = settle(m.Upstream) && same
				}
			}
		}
		if same && u.url.Scheme == config.SchemeDirect {
			same = s.guard.AllowsSame(prev.guard)
		}
		if same {
			u.lead, u.client.TLS = old.lead, old.client.TLS // with its sessions
		}
		settled[u] = same
		return same
	}
	for _, u := range s.upstreams {
		settle(u)
	}
	for id, u := range s.upstreams {
		if old := prev.upstreams[id]; old != nil {
			u.state = old.state
			u.newLogin = !u.client.Credentials.Equal(old.client.Credentials)
		}
	}
}

// sameTLS compares what the files held; the rest is part of the identity.
func sameTLS(a, b *tls.Config) bool {
	if a == nil || b == nil {
		return a == b
	}
	if (a.RootCAs == nil) != (b.RootCAs == nil) || a.RootCAs != nil && !a.RootCAs.Equal(b.RootCAs) {
		return false
	}
	return slices.EqualFunc(a.Certificates, b.Certificates, func(a, b tls.Certificate) bool {
		return slices.EqualFunc(a.Certificate, b.Certificate, func(a, b []byte) bool { return string(a) == string(b) })
	})
}

// Activate follows a reload, once s is in force. It closes the connections
// kept for plain HTTP whose upstream is gone, is enabled in no pool, or is led to
// in another way than before; the others stay. An upstream with a new password is
// no longer held to have refused the old one. Budgets have s's figures from now
// on, and keep their histories.
func (s *Set) Activate() {
	s.shared.limits.Configure(s.figures.of)
	current := map[*connEpoch]bool{s.direct.members[0].lead: true}
	for _, p := range s.pools {
		for i := range p.members {
			if m := &p.members[i]; m.Enabled {
				current[m.lead] = true
			}
		}
	}
	for _, u := range s.upstreams {
		if u.newLogin {
			u.clearAuthFailure()
		}
	}
	s.shared.kept.only(func(k keptKey) bool { return current[k.lead] })
}

// Close closes every connection kept for plain HTTP, for good: none is kept any
// longer.
func (s *Set) Close() { s.shared.kept.only(func(keptKey) bool { return false }) }

// Has reports whether u's identity is in this configuration, in whatever pool
// and enabled or not.
func (s *Set) Has(u *Upstream) bool { return s.upstreams[u.id] != nil }

// CloseKept closes all idle connections that are kept for plain HTTP, for their
// descriptors, and reports whether there were any.
func (s *Set) CloseKept() bool {
	return s.shared.kept.closeIdle(func(keptKey) bool { return true }) > 0
}

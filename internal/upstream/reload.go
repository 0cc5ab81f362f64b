package upstream

import (
	"crypto/tls"
	"slices"

	"proxyd/internal/config"
)

// connEpoch distinguishes connections from older ones of the same upstream: a reload
// that changes its credentials, its TLS files, the hops before it or, for a direct
// one, what the guard allows begins a new epoch.
type connEpoch struct{ _ byte } // not empty: each must have an address of its own

// inheritFrom takes over from prev what outlives a configuration, and finds the
// upstreams that did not change. It has no effect on prev.
func (s *Set) inheritFrom(prev *Set) {
	settled := map[*Upstream]bool{}
	var settle func(u *Upstream) bool // whether connections of u are as before
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
			u.epoch, u.client.TLS = old.epoch, old.client.TLS // with its sessions
		}
		settled[u] = same
		return same
	}
	for _, u := range s.upstreams {
		settle(u)
	}
	for id, u := range s.upstreams {
		if old := prev.upstreams[id]; old != nil {
			u.state, u.client.Certificate = old.state, &old.state.certificate
			u.newLogin = !u.client.Credentials.Equal(old.client.Credentials)
		}
	}
}

// sameTLS reports whether the files held the same; the rest is part of the identity.
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

// Activate completes a reload, once s is in force. It closes the idle connections of
// plain HTTP whose upstream is gone, is enabled in no pool, or has a new epoch; the
// others stay. A refused password is forgotten if there is a new one. Budgets have
// the limits of s from now on, and keep their histories.
func (s *Set) Activate() {
	s.shared.limits.Configure(s.limits.of)
	current := map[*connEpoch]bool{s.direct.members[0].epoch: true}
	for _, p := range s.pools {
		for i := range p.members {
			if m := &p.members[i]; m.Enabled {
				current[m.epoch] = true
			}
		}
	}
	for _, u := range s.upstreams {
		if u.newLogin {
			u.clearAuthFailure()
		}
	}
	s.shared.idle.only(func(k idleKey) bool { return current[k.epoch] })
}

// Close closes the idle connections of plain HTTP, and keeps none from now on.
func (s *Set) Close() { s.shared.idle.only(func(idleKey) bool { return false }) }

// Has reports whether u's identity is in this configuration, in any pool, enabled or
// not.
func (s *Set) Has(u *Upstream) bool { return s.upstreams[u.id] != nil }

// Carries reports whether u's identity is an enabled member of p, a pool of s.
func (s *Set) Carries(p *Pool, u *Upstream) bool {
	now := s.upstreams[u.id]
	return now != nil && slices.Contains(now.pools, p)
}

// CloseIdle closes all idle connections of plain HTTP, for their
// descriptors, and reports whether there were any.
func (s *Set) CloseIdle() bool {
	return s.shared.idle.closeIdle(func(idleKey) bool { return true }) > 0
}

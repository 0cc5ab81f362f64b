package dialer

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	lateAfter   = 3                // times in a row that an address, or its family, answers too late before it is tried last
	lateFor     = 10 * time.Minute // for so long; after that, one more time is enough
	lateEntries = 4096
)

// History remembers which addresses, and which of the two families, answered too
// late in recent races (RFC 8305 section 4): else a machine whose IPv6 leads
// nowhere would lose the delay of each race for ever. A race counts only if
// another address of the same target answered, so that a dead target counts for
// nothing. It is safe for concurrent use.
type History struct {
	now func() time.Time

	mu   sync.Mutex
	late map[lateKey]*lateness
}

// lateKey is an address, or a family's unspecified one, as seen from a source.
type lateKey struct {
	source netip.Addr
	iface  string
	to     netip.Addr
}

type lateness struct {
	times int
	until time.Time // tried last until then
}

// NewHistory returns an empty history.
func NewHistory() *History { return &History{now: time.Now, late: map[lateKey]*lateness{}} }

// family returns the unspecified address of a's family.
func family(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// order returns addrs with those that recently answered too late at the end.
func (r *History) order(d *Dialer, addrs []netip.Addr) []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.late) == 0 {
		return addrs
	}
	now := r.now()
	var first, last []netip.Addr
	for _, a := range addrs {
		if r.isLate(d, a, now) || r.isLate(d, family(a), now) {
			last = append(last, a)
		} else {
			first = append(first, a)
		}
	}
	return slices.Concat(first, last)
}

// isLate reports whether an address, or a family, is to be tried last. r.mu is held.
func (r *History) isLate(d *Dialer, to netip.Addr, now time.Time) bool {
	l := r.late[lateKey{d.Source, d.Interface, to}]
	return l != nil && now.Before(l.until)
}

// success records that winner answered, and that losers did not in their time.
func (r *History) success(d *Dialer, winner netip.Addr, losers []netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, to := range []netip.Addr{winner, family(winner)} {
		delete(r.late, lateKey{d.Source, d.Interface, to})
	}
	counted := false
	for _, a := range losers {
		r.missed(d, a)
		if other := family(a); other != family(winner) && !counted {
			r.missed(d, other)
			counted = true
		}
	}
}

// missed records that an address, or a family, answered too late. r.mu is held.
func (r *History) missed(d *Dialer, to netip.Addr) {
	key, now := lateKey{d.Source, d.Interface, to}, r.now()
	l := r.late[key]
	if l == nil {
		if len(r.late) >= lateEntries {
			clear(r.late) // a huge number of dead addresses: begin anew
		}
		l = &lateness{}
		r.late[key] = l
	}
	if l.times++; l.times >= lateAfter {
		l.until = now.Add(lateFor)
	}
}

package upstream

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	lateAfter   = 3                // times in a row that an address, or its family, came too late: it is tried last
	lateFor     = 10 * time.Minute // and for so long; after that, one more time is enough
	lateEntries = 4096
)

// reached remembers which addresses, and which of the two families, answered in
// time of late (RFC 8305 section 4): a machine whose IPv6 leads nowhere would
// else lose the delay of each race for ever. Only what came too late while
// another address of the same target answered counts, so that a dead target says
// nothing. It is safe for concurrent use.
type reached struct {
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

func newReached() *reached { return &reached{now: time.Now, late: map[lateKey]*lateness{}} }

func family(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// order returns addrs with those last that came too late of late, in the same
// order otherwise.
func (r *reached) order(d *dialer, addrs []netip.Addr) []netip.Addr {
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

func (r *reached) isLate(d *dialer, to netip.Addr, now time.Time) bool {
	l := r.late[lateKey{d.source, d.iface, to}]
	return l != nil && now.Before(l.until)
}

// won remembers that an address answered, and which others had their time and
// did not.
func (r *reached) won(d *dialer, winner netip.Addr, losers []netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, to := range []netip.Addr{winner, family(winner)} {
		delete(r.late, lateKey{d.source, d.iface, to})
	}
	counted := false
	for _, a := range losers {
		r.lost(d, a)
		if other := family(a); other != family(winner) && !counted {
			r.lost(d, other)
			counted = true
		}
	}
}

func (r *reached) lost(d *dialer, to netip.Addr) {
	key, now := lateKey{d.source, d.iface, to}, r.now()
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

// Package catalog knows the exchanges: their ids and aliases, the hosts that
// their clients reach and what for, which exchanges one client id reaches
// together, addresses to probe, and the limits that exchanges publish. The data
// is embedded; data/README.md says where it comes from.
//
// It resolves no names and contacts nobody, and what it says of a host is what
// software and documents said on the day of Date. Slices that it returns are
// shared: they must not be changed.
package catalog

import (
	"strings"
	"sync"
	"time"
)

// Exchange is what the catalogue knows of one exchange.
type Exchange struct {
	ID      string
	Aliases []string // sorted
	Hosts   []Host   // sorted by name
	Family  []string // the other exchanges that a client id for this one may reach too
}

// Host is a host of an exchange.
type Host struct {
	Name string // lower case; "*.x" for all that is below x
	Kind Kind
	Env  string // "live", or "test" for sandboxes, testnets, demo and paper trading
}

// Limit is what an exchange allows one IP address.
type Limit struct {
	Kind       Kind          // Both: the two are counted together
	What       string        // "connects", "concurrent", "requests" or "weight"
	Value      int           //
	Per        time.Duration // the window; 0 for concurrent
	Confidence string        // "published"; "conflicting": sources disagree, the smaller figure; "unverified": never a default
	Source     string
}

// table is the catalogue, read once and never changed.
type table struct {
	exact     map[string]entry
	wild      map[string]entry // by what stands behind "*."
	names     map[string]string
	ids       []string
	exchanges []Exchange
	byID      map[string]int
	families  [][]string
	probes    map[probeKey][]string
	limits    map[string][]Limit
}

type probeKey struct {
	exchange string
	kind     Kind
}

type entry struct {
	exchange string
	kind     Kind
}

// loaded reads the embedded data at the first use. The data is part of the
// program: a fault in it is a bug, which the tests of this package find.
var loaded = sync.OnceValue(func() *table {
	t, err := load()
	if err != nil {
		panic("catalog: " + err.Error())
	}
	return t
})

// Date is the day on which the data was compiled.
func Date() string { return "2026-11-22" }

// Lookup finds the exchange of a normalised host and what the host is used
// for. An exact host beats a wildcard; of wildcards the longest wins.
func Lookup(host string) (exchange string, kind Kind, ok bool) {
	_, exchange, kind, ok = Find(host)
	return exchange, kind, ok
}

// Find is Lookup that says which host of the catalogue matched: host itself,
// or, with ok, the part behind "*." of a wildcard.
func Find(host string) (matched, exchange string, kind Kind, ok bool) {
	t := loaded()
	if e, ok := t.exact[host]; ok {
		return host, e.exchange, e.kind, true
	}
	for rest := host; len(t.wild) > 0; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			break
		}
		rest = rest[dot+1:]
		if e, ok := t.wild[rest]; ok {
			return rest, e.exchange, e.kind, true
		}
	}
	return "", "", KindUnknown, false
}

// Resolve turns an id or an alias, in any case, into the id.
func Resolve(name string) (id string, ok bool) {
	id, ok = loaded().names[lower(name)]
	return id, ok
}

// IDs lists the ids, sorted.
func IDs() []string { return loaded().ids }

// Exchanges lists the exchanges, sorted by id.
func Exchanges() []Exchange { return loaded().exchanges }

// Get finds an exchange by its id or an alias, in any case.
func Get(name string) (Exchange, bool) {
	t := loaded()
	id, ok := t.names[lower(name)]
	if !ok {
		return Exchange{}, false
	}
	return t.exchanges[t.byID[id]], true
}

// Families lists the sets of exchanges that one client id may reach.
func Families() [][]string { return loaded().families }

// ProbeURLs lists the public addresses of an exchange's id that answer cheaply
// and without a key, nil if there are none: https:// for HTTP, where a 2xx is
// expected, wss:// for Websocket, where a 101 is.
func ProbeURLs(id string, k Kind) []string {
	if k != KindHTTP && k != KindWebsocket {
		return nil
	}
	return loaded().probes[probeKey{id, k}]
}

// PublishedLimits lists what is known of an exchange's limits, by its id, nil
// if nothing is. How sure it is, Confidence says of each.
func PublishedLimits(id string) []Limit { return loaded().limits[id] }

// lower folds the case of ASCII only: ids have no other letters, and Unicode
// has letters beyond ASCII whose lower case is in it.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

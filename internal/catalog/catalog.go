// Package catalog holds the exchanges: their ids and aliases, the hosts that
// their clients reach and what for, which exchanges one client id reaches
// together, addresses to probe, and the limits that exchanges publish. The data
// is embedded; data/README.md has its sources.
//
// It opens no connections. The data is what software and documents said on the
// day of Date. A Catalog never changes; the slices that it returns are shared and
// must not be changed.
package catalog

import (
	"iter"
	"maps"
	"strings"
	"sync"
	"time"
)

// Exchange is one exchange of the catalogue.
type Exchange struct {
	ID      string
	Aliases []string // sorted
	Hosts   []Host   // sorted by name
	Family  []string // the other exchanges that a client for this one reaches too
	Domains []string // registrable domains whose unlisted hosts are taken for its own
	// Sessions is SessionsClose, or SessionsAlways or "" for one that never closes.
	Sessions string
}

// When the markets of an exchange are open.
const (
	SessionsAlways = "always" // around the clock
	SessionsClose  = "closes" // at night, at weekends, or for maintenance each week: its feeds fall silent then
)

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
	Confidence string        // "published"; "conflicting": sources disagree, the smaller limit; "unverified": never a default
	Source     string
}

// Catalog is one reading of the data: the embedded rows, and those of the
// user's own that Overlay laid over them. It is safe for concurrent use.
type Catalog struct {
	exact     map[string]entry
	wild      map[string]entry // by what stands behind "*."
	domains   map[string]Domain
	names     map[string]string
	ids       []string
	exchanges []Exchange
	byID      map[string]int
	probes    map[probeKey][]string
	limits    map[string][]Limit
	overlay   string // the text of the overlay
}

// Domain is a registrable domain and the exchange that owns it.
type Domain struct {
	Name   string
	Owner  string
	Others []string // the other exchanges with hosts below it, sorted
}

type probeKey struct {
	exchange string
	kind     Kind
}

type entry struct {
	exchange string
	kind     Kind
}

// Embedded returns the catalogue that is part of the program, read at the first
// use. An error in it is a bug, which the tests of this package find.
var Embedded = sync.OnceValue(func() *Catalog {
	c, err := load(nil)
	if err != nil {
		panic("catalog: " + err.Error())
	}
	return c
})

// Date returns the day on which the embedded data was compiled.
func Date() string { return "2026-11-30" }

// Equal reports whether two catalogues have the same content.
func (c *Catalog) Equal(o *Catalog) bool {
	return c == o || c != nil && o != nil && c.overlay == o.overlay
}

// Lookup returns the exchange of a normalised host and what the host is used
// for. An exact host beats a wildcard; of wildcards the longest wins. Domains
// are not looked at.
func (c *Catalog) Lookup(host string) (exchange string, kind Kind, ok bool) {
	if e, ok := c.exact[host]; ok {
		return e.exchange, e.kind, true
	}
	for rest := host; len(c.wild) > 0; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			break
		}
		rest = rest[dot+1:]
		if e, ok := c.wild[rest]; ok {
			return e.exchange, e.kind, true
		}
	}
	return "", KindUnknown, false
}

// Domains returns the domains that an exchange owns, in no order.
func (c *Catalog) Domains() iter.Seq[Domain] { return maps.Values(c.domains) }

// Resolve returns the id for an id or an alias. Case is ignored, and - is the
// same as _.
func (c *Catalog) Resolve(name string) (id string, ok bool) {
	name = lower(name)
	if id, ok = c.names[name]; !ok {
		id, ok = c.names[strings.ReplaceAll(name, "-", "_")]
	}
	return id, ok
}

// IDs returns the ids, sorted.
func (c *Catalog) IDs() []string { return c.ids }

// Exchanges returns the exchanges, sorted by id.
func (c *Catalog) Exchanges() []Exchange { return c.exchanges }

// Get returns an exchange by its id or an alias, as Resolve does.
func (c *Catalog) Get(name string) (Exchange, bool) {
	id, ok := c.Resolve(name)
	if !ok {
		return Exchange{}, false
	}
	return c.exchanges[c.byID[id]], true
}

// Closes reports whether the markets of an exchange's id close at times, so that
// its feeds fall silent without an error.
func (c *Catalog) Closes(id string) bool {
	i, ok := c.byID[id]
	return ok && c.exchanges[i].Sessions == SessionsClose
}

// ProbeURLs returns the public URLs of an exchange's id that answer cheaply and
// without a key, nil if there are none: https:// for HTTP, where a 2xx is
// expected, wss:// for Websocket, where a 101 is.
func (c *Catalog) ProbeURLs(id string, k Kind) []string {
	if k != KindHTTP && k != KindWebsocket {
		return nil
	}
	return c.probes[probeKey{id, k}]
}

// PublishedLimits returns the known limits of an exchange's id, nil if there
// are none. Confidence has the quality of each.
func (c *Catalog) PublishedLimits(id string) []Limit { return c.limits[id] }

// lower folds the case of ASCII letters only. Ids have no others, and some
// letters beyond ASCII have a lower case in it.
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

package isolate

import (
	"strconv"
	"strings"
)

// search is what a resolv.conf has a resolver append to names.
type search struct {
	domains []string // in lower case, without a final dot
	ndots   int      // names with so many dots are asked for as they are first
}

// parseSearch reads a resolv.conf as libraries do: of "domain" and "search" the last
// one counts.
func parseSearch(text string) search {
	s := search{ndots: 1}
	for line := range strings.Lines(text) {
		f := strings.Fields(strings.ToLower(line))
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "domain", "search":
			s.domains = nil
			for _, d := range f[1:] {
				if d = strings.Trim(d, "."); d != "" {
					s.domains = append(s.domains, d)
				}
			}
		case "options":
			for _, o := range f[1:] {
				if n, ok := strings.CutPrefix(o, "ndots:"); ok {
					s.ndots, _ = strconv.Atoi(n) // no number is 0, as for libraries
				}
			}
		}
	}
	return s
}

// appended reports whether a name is one to which the command's resolver has appended
// a domain before it asks for the name itself. That is not so by our resolv.conf, but
// may be by one that the host has put in its stead. A name that is no such one is asked
// for with a domain first, and is known by that; or was asked for before.
func (r *Resolver) appended(name string) bool {
	if r.search == nil {
		return false
	}
	s := r.search()
	if s.ndots < 2 || r.names.has(name) { // else a name with a dot is asked for as it is, and gets its answer
		return false
	}
	for _, d := range s.domains {
		asked, ok := strings.CutSuffix(name, "."+d)
		if !ok || !strings.Contains(asked, ".") && strings.Count(name, ".") >= s.ndots {
			continue
		}
		if resolvable(asked) {
			_, _ = r.names.Addr(asked) // if that fails, it will when it is asked for
		}
		return true
	}
	return false
}

package router

import (
	"strings"

	"proxyd/internal/catalog"
	"proxyd/internal/target"
)

// hostRow is a listed host and its exchange.
type hostRow struct {
	exchange string
	pattern  string // as listed
	kind     catalog.Kind
	users    bool   // listed by the configuration
	domain   string // no row lists it: the registrable domain that gives it to the exchange
}

// hostRows is every host of every exchange, by name and by what stands behind
// "*.": the user's, and those of the catalogue that the user's leave room for.
type hostRows struct{ exact, suffixes map[string]hostRow }

// find returns the row for a name, or for the names below it: the exact one,
// else the longest wildcard's.
func (h hostRows) find(name string, below bool) hostRow {
	if row, ok := h.exact[name]; ok && !below {
		return row
	}
	if row, ok := h.suffixes[name]; ok && below {
		return row
	}
	row, _ := h.above(name)
	return row
}

// above returns the row of the longest wildcard that covers a name.
func (h hostRows) above(name string) (hostRow, bool) {
	for rest, ok := parent(name); ok; rest, ok = parent(rest) {
		if row, ok := h.suffixes[rest]; ok {
			return row, true
		}
	}
	return hostRow{}, false
}

// parent returns a name without its first label.
func parent(name string) (string, bool) {
	_, rest, ok := strings.Cut(name, ".")
	return rest, ok
}

// hostRows returns the rows of all hosts. The user's rows, wildcards included,
// beat the catalogue's, with one exception: under a wildcard without a kind,
// the catalogue's row for a host of the same exchange stays, since it knows the
// kind.
func (b *builder) hostRows() hostRows {
	users := hostRows{map[string]hostRow{}, map[string]hostRow{}}
	for _, e := range b.config.Exchanges {
		for _, h := range e.Hosts {
			if h.Pattern.Kind != target.Exact && h.Pattern.Kind != target.Wildcard {
				b.fail("exchanges.%s.hosts: %s is neither a name nor a wildcard", e.ID, h.Pattern)
				continue
			}
			name, wild := patternName(h.Pattern)
			m := users.exact
			if wild {
				m = users.suffixes
			}
			row, twice := m[name]
			switch {
			case !twice:
				m[name] = hostRow{exchange: e.ID, pattern: h.Pattern.String(), kind: h.Kind, users: true}
			case row.exchange == e.ID && row.kind != h.Kind:
				row.kind = catalog.KindBoth
				m[name] = row
			}
		}
	}
	all := hostRows{make(map[string]hostRow, len(users.exact)+600), make(map[string]hostRow, len(users.suffixes)+1)}
	for _, x := range b.config.Known().Exchanges() {
		for _, h := range x.Hosts {
			name, wild := strings.CutPrefix(h.Name, "*.")
			m := all.exact
			if wild {
				m = all.suffixes
			}
			over, covered := users.above(name)
			if !covered || over.exchange == x.ID && over.kind == catalog.KindBoth {
				m[name] = hostRow{exchange: x.ID, pattern: h.Name, kind: h.Kind}
			}
		}
	}
	for name, row := range users.exact {
		all.exact[name] = row
	}
	for name, row := range users.suffixes {
		all.suffixes[name] = row
	}
	return all
}

package target

import "net/netip"

// PatternKind says how a Pattern matches.
type PatternKind uint8

// The kinds of pattern.
const (
	Exact    PatternKind = iota + 1 // one name
	Wildcard                        // *.x: any depth below x, not x itself
	CIDR                            // addresses in Prefix; a single address is a full-length prefix
	Any                             // *: everything
)

// Pattern is what hosts are matched against.
type Pattern struct {
	Kind   PatternKind
	Name   string       // the name, for Exact; the part below which to match, for Wildcard
	Prefix netip.Prefix // for CIDR
}

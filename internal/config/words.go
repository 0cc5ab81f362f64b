package config

import (
	"slices"
	"strings"
)

// validName reports whether s, in lower case, may name a pool, a member or an
// exchange: [a-z0-9]+([._-][a-z0-9]+)*.
func validName(s string) bool {
	sep := true // a separator may not come first, last, or twice
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			sep = false
		case (c == '.' || c == '_' || c == '-') && !sep:
			sep = true
		default:
			return false
		}
	}
	return !sep
}

// DidYouMean is "; did you mean x?", or "" if nothing is near.
func DidYouMean(word string, known []string) string {
	near := nearest(word, known)
	for head := strings.ToLower(word); near == ""; { // binance_spot is binance with more behind it
		i := strings.LastIndexAny(head, "_-.")
		if i < 0 {
			break
		}
		if head = head[:i]; slices.Contains(known, head) {
			near = head
		}
	}
	if near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// nearest is the known word with the fewest slips, at most a third of the
// letters, "" if none is.
func nearest(word string, known []string) string {
	word = strings.ToLower(word)
	best, slips := "", max(1, min(3, len(word)/3))+1
	for _, k := range known {
		if d := distance(word, k, slips); d < slips {
			best, slips = k, d
		}
	}
	return best
}

// distance counts insertions, deletions, substitutions and swaps of neighbours
// (optimal string alignment); most or more means "too many".
func distance(a, b string, most int) int {
	if d := len(a) - len(b); d >= most || -d >= most {
		return most
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

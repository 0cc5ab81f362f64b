// Package printable puts values into the words of messages that people read:
// foreign text made safe to quote, and durations.
package printable

import (
	"strconv"
	"strings"
	"time"
)

// Seconds returns a duration for people: "1.5 s", "40 ms".
func Seconds(d time.Duration) string {
	if d < 95*time.Millisecond {
		return strconv.FormatInt(d.Round(time.Millisecond).Milliseconds(), 10) + " ms"
	}
	return decimal(d) + " s"
}

// decimal returns a duration's seconds with at most one decimal.
func decimal(d time.Duration) string {
	return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64)
}

// ASCII returns foreign text as printable ASCII: each other character is a "?".
// It allocates nothing when there is none.
func ASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// Clean returns a far end's text fit for a sentence of ours: printable ASCII, at
// most limit bytes.
func Clean(s string, limit int) string {
	s = strings.TrimSpace(s)
	cut := len(s) > limit
	if cut {
		s = s[:limit]
	}
	s = ASCII(s)
	if cut {
		s += "..."
	}
	return s
}

// Cut returns s shortened to at most limit bytes, "..." included: at a space if
// there is one near the end.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const dots = "..."
	s = s[:limit-len(dots)]
	if i := strings.LastIndexByte(s, ' '); i > len(s)-20 && i > 0 {
		s = s[:i]
	}
	return s + dots
}

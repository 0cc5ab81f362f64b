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
	return Decimal(d) + " s"
}

// Decimal returns a duration's seconds with at most one decimal.
func Decimal(d time.Duration) string {
	return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64)
}

// Clean returns a far end's text fit for a sentence of ours: printable ASCII, at
// most limit bytes.
func Clean(s string, limit int) string {
	s = strings.TrimSpace(s)
	cut := len(s) > limit
	if cut {
		s = s[:limit]
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if cut {
		s += "..."
	}
	return s
}

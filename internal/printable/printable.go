// Package printable puts values into the words of messages that people read:
// foreign text made safe to quote, durations and times.
package printable

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Seconds returns a short duration, such as a timeout: "1.5 s", "40 ms".
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

// Span returns how long a state lasts, in its two largest units, rounded down to
// seconds: "12 s", "2 min 3 s", "4 h 0 min", "1 d 3 h". A negative d is "0 s".
func Span(d time.Duration) string {
	s := int64(max(0, d) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s%86400/3600)
}

// Count returns a number with its noun: "1 tunnel", "2 tunnels", "0 tunnels".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Clock returns a time as the local time of day, "15:04:05", with the date in front
// unless now is on the same day.
func Clock(at, now time.Time) string {
	at, now = at.Local(), now.Local()
	if at.YearDay() == now.YearDay() && at.Year() == now.Year() {
		return at.Format(time.TimeOnly)
	}
	return at.Format(time.DateTime)
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

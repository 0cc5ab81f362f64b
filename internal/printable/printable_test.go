package printable

import (
	"testing"
	"time"
)

func TestCutKeepsWordsWhole(t *testing.T) {
	for _, tt := range []struct {
		text, want string
		limit      int
	}{
		{"as it is", "as it is", 8},
		{"one word too many", "one word...", 12},
		{"no space near the end: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "no space near the end: aaaaaaaaaaaaaaaaaaaaaaaa...", 50},
	} {
		if got := Cut(tt.text, tt.limit); got != tt.want || len(got) > tt.limit {
			t.Errorf("Cut(%q, %d) = %q, want %q", tt.text, tt.limit, got, tt.want)
		}
	}
}

func TestCountHasOneNounForOne(t *testing.T) {
	for n, want := range map[int]string{0: "0 tunnels stay", 1: "1 tunnel stays", 2: "2 tunnels stay"} {
		if got := Count(n, "tunnel stays", "tunnels stay"); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestCleanIsOneLineOfASCII(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{" a\r\nb\tc ", "a??b?c"},
		{"größe", "gr??e"},
		{"0123456789x", "0123456789..."},
	} {
		if got := Clean(tt.text, 10); got != tt.want {
			t.Errorf("Clean(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestSpanHasTwoUnitsAtMost(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1: "0 s", 59 * time.Second: "59 s", time.Minute - 1: "59 s", time.Hour - 1: "59 min 59 s", 25 * time.Hour: "1 d 1 h", 50 * 24 * time.Hour: "50 d 0 h",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestClockHasADateOnAnotherDay(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	for at, want := range map[time.Time]string{
		now.Add(-time.Hour): "11:00:00", now.AddDate(0, 0, -1): "2026-02-28 12:00:00", now.AddDate(1, 0, 0): "2027-03-01 12:00:00",
	} {
		if got := Clock(at, now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

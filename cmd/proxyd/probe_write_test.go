package main

import (
	"testing"
	"time"
)

// A ban of three days does not read as if it were over.
func TestClock(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.Local)
	for at, want := range map[time.Time]string{now.Add(time.Hour): "13:00:00", now.AddDate(0, 0, 3): "2026-05-07 12:00:00"} {
		if got := clock(at, now); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

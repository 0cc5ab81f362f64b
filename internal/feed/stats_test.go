package feed

import (
	"testing"
	"time"
)

func TestTimesToOpen(t *testing.T) {
	t.Parallel()
	var c counts
	now := time.Now()
	for range 98 {
		c.open(0, 10*time.Millisecond, now)
	}
	c.open(0, time.Second, now)
	c.open(0, time.Second, now)
	var row Counts
	if c.fill(&row, 1); row.OpenP50 < 9 || row.OpenP50 > 11 || row.OpenP99 < 900 || row.OpenP99 > 1100 {
		t.Errorf("half within %v ms, 99 %% within %v ms; want 10 and 1000, to a tenth", row.OpenP50, row.OpenP99)
	}
	if c.fill(&row, 3600); row.OpenP50 != 0 || row.OpenP99 != 0 {
		t.Errorf("after an hour: %v and %v ms", row.OpenP50, row.OpenP99)
	}
}

// A tunnel that opens within a minute of an end is a reconnect; a later one is not.
func TestReconnectIsWithinAMinute(t *testing.T) {
	t.Parallel()
	for _, wait := range []int64{0, 30, 59, 60} {
		var c counts
		now := time.Now()
		c.open(5, time.Millisecond, now)
		c.leave(5)
		c.open(5+wait, time.Millisecond, now)
		var row Counts
		if c.fill(&row, 5+wait); row.Reconnects == 1 != (wait < 60) {
			t.Errorf("after %d s: %d reconnects", wait, row.Reconnects)
		}
	}
}

package admin

import (
	"strings"
	"testing"
	"time"
)

// The summary says how old the rows of other processes are, or that there are none yet,
// and why.
func TestSummaryOfAFleetSaysHowOldItIs(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		read          time.Time
		problem, want string
	}{
		{now, "", "fleet trading: 1 process"},
		{now.Add(-3 * time.Minute), "Redis: NOAUTH", "; the other processes are as they were last read, 3 min 0 s ago: Redis: NOAUTH"},
		{time.Time{}, "Redis: NOAUTH", "; the other processes have not been read yet: Redis: NOAUTH"},
	} {
		r := FleetReport{Name: "trading", Used: true, Time: now, Read: c.read, Problem: c.problem, Processes: []FleetProcess{{Host: "a", Here: true}}}
		if got := r.Summary(); !strings.HasSuffix(got, c.want) {
			t.Errorf("%q, want %q at its end", got, c.want)
		}
	}
}

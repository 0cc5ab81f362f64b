package fleet

import "time"

// clock knows what time it is at Redis, rather too early than too late.
type clock struct {
	start    time.Time
	behind   int64 // Redis' time less ours, at least, in µs
	previous int64 // the same, of the period before
	until    time.Time
}

const clockPeriod = 5 * time.Second

// heard takes Redis' time from an answer that has come just now. What Redis said was
// true before: the difference is at least this.
func (c *clock) heard(redis int64, at time.Time) {
	d := redis - c.local(at)
	if at.After(c.until) { // clocks drift, and are set
		c.previous, c.behind, c.until = c.behind, d, at.Add(clockPeriod)
		if c.previous > d+int64(time.Second/time.Microsecond) { // it was set back
			c.previous = d
		}
		return
	}
	c.behind = max(c.behind, d)
}

// reset forgets all.
func (c *clock) reset() { *c = clock{start: c.start, behind: -1 << 62, previous: -1 << 62} }

// at returns what time it is at Redis at some time here, at least, in µs.
func (c *clock) at(t time.Time) int64 { return c.local(t) + max(c.behind, c.previous) }

func (c *clock) local(t time.Time) int64 { return t.Sub(c.start).Microseconds() }

package feed

import (
	"math"
	"time"
)

// counts are what is counted for a row: an exchange and kind, or one of its feeds.
type counts struct {
	live       int
	up, down   int64 // of the current second
	lastByte   time.Time
	lastClose  Close
	lastFailed Failure
	used       time.Time // when it last had a tunnel, a request or a refusal; zero: never
	stats      *stats    // nil as long as nothing was counted
}

// at returns the stats, brought forward to a second.
func (c *counts) at(sec int64) *stats {
	if c.stats == nil {
		c.stats = &stats{sec: sec}
	}
	c.stats.advance(sec, c.live)
	return c.stats
}

// carried counts bytes in the current second.
func (c *counts) carried(up, down int64, now time.Time) {
	c.up += up
	c.down += down
	if down > 0 {
		c.lastByte = now
	}
}

// flush puts the bytes of the second that has just passed where rates are read.
func (c *counts) flush(sec int64) {
	if c.up == 0 && c.down == 0 {
		return
	}
	s := &c.at(sec).seconds[sec%seconds]
	s.up, s.down = s.up+c.up, s.down+c.down
	c.up, c.down = 0, 0
}

// The lengths of the rings. The current second has a slot beside the last 60.
const (
	seconds = 64
	minutes = 60
	spans   = 6 // of ten minutes each, for the times to open
	steps   = 64
)

// stats are rings over the last minute and the last hour, for one row. They are
// brought forward when they are written or read, so that a quiet row costs nothing.
type stats struct {
	sec     int64
	seconds [seconds]second
	minutes [minutes]minute
	opening [spans][steps]uint16 // how many connections took how long to open
}

type second struct {
	up, down             int64
	failed, ended, again uint32 // ended: tunnels that have not been opened again; again: those that were
}

type minute struct{ opened, closed, failed, most uint32 }

// advance empties the slots of the time that has passed, in which so many tunnels
// were live.
func (s *stats) advance(sec int64, live int) {
	if sec <= s.sec {
		return
	}
	for t := max(s.sec+1, sec-seconds+1); t <= sec; t++ {
		s.seconds[t%seconds] = second{}
	}
	for m := max(s.sec/60+1, sec/60-minutes+1); m <= sec/60; m++ {
		s.minutes[m%minutes] = minute{most: uint32(live)} //nolint:gosec // a count
	}
	for t := max(s.sec/600+1, sec/600-spans+1); t <= sec/600; t++ {
		s.opening[t%spans] = [steps]uint16{}
	}
	s.sec = sec
}

func (s *stats) minute() *minute { return &s.minutes[s.sec/60%minutes] }
func (s *stats) second() *second { return &s.seconds[s.sec%seconds] }

// opened counts a connection that took so long to open; live is how many tunnels
// there are now. again is set for one that may replace one that has ended.
func (s *stats) opened(took time.Duration, live int, again bool) {
	m := s.minute()
	m.opened++
	m.most = max(m.most, uint32(live)) //nolint:gosec // a count
	if n := &s.opening[s.sec/600%spans][step(took)]; *n < math.MaxUint16 {
		*n++
	}
	if !again {
		return
	}
	for t := max(0, s.sec-59); t <= s.sec; t++ {
		if old := &s.seconds[t%seconds]; old.ended > 0 {
			old.ended--
			s.second().again++
			return
		}
	}
}

// A time to open falls into one of 64 steps of a quarter of an octave each, from
// half a millisecond to half a minute.
func step(took time.Duration) int {
	n := math.Log2(float64(took)/float64(500*time.Microsecond)) * 4
	return int(max(0, min(n, steps-1)))
}

// milliseconds returns the middle of a step.
func milliseconds(step int) float64 {
	return math.Round(0.5*math.Exp2((float64(step)+0.5)/4)*10) / 10
}

// fill writes what the rings hold into a row.
func (c *counts) fill(row *Counts, sec int64) {
	row.Tunnels, row.TunnelsMax, row.LastByte = c.live, c.live, c.lastByte
	if !c.lastClose.Time.IsZero() {
		last := c.lastClose
		row.LastClose = &last
	}
	if !c.lastFailed.Time.IsZero() {
		last := c.lastFailed
		row.LastFailure = &last
	}
	if c.stats == nil {
		return
	}
	s := c.at(sec)
	last := s.seconds[max(0, sec-1)%seconds]
	row.Up.Second, row.Down.Second = float64(last.up), float64(last.down)
	var up, down int64
	for t := max(0, sec-60); t <= sec; t++ {
		x := &s.seconds[t%seconds]
		if t < sec {
			up, down = up+x.up, down+x.down
		}
		if t > sec-60 {
			row.Reconnects += int(x.again)
		}
	}
	row.Up.Minute, row.Down.Minute = float64(up)/60, float64(down)/60
	for i := range s.minutes {
		m := &s.minutes[i]
		row.Opened, row.Closed, row.Failed = row.Opened+int(m.opened), row.Closed+int(m.closed), row.Failed+int(m.failed)
		row.TunnelsMax = max(row.TunnelsMax, int(m.most))
	}
	row.OpenP50, row.OpenP99 = s.quantiles()
}

// quantiles returns the median of the times to open in the last hour, and what 99 %
// of them did not exceed, in milliseconds; 0 if there were none.
func (s *stats) quantiles() (p50, p99 float64) {
	var sum [steps]uint32
	total := uint32(0)
	for i := range s.opening {
		for k, n := range s.opening[i] {
			sum[k] += uint32(n)
			total += uint32(n)
		}
	}
	if total == 0 {
		return 0, 0
	}
	below := func(share float64) float64 {
		want, have := uint32(math.Ceil(share*float64(total))), uint32(0)
		for k, n := range sum {
			if have += n; have >= want {
				return milliseconds(k)
			}
		}
		return 0
	}
	return below(0.5), below(0.99)
}

// failedLately returns how many requests failed in the last minute.
func (c *counts) failedLately(sec int64) (n int) {
	if c.stats == nil {
		return 0
	}
	s := c.at(sec)
	for t := max(0, sec-59); t <= sec; t++ {
		n += int(s.seconds[t%seconds].failed)
	}
	return n
}

// reconnects returns how many tunnels of the last minute took the place of one that
// had ended.
func (c *counts) reconnects(sec int64) (n int) {
	if c.stats == nil {
		return 0
	}
	s := c.at(sec)
	for t := max(0, sec-59); t <= sec; t++ {
		n += int(s.seconds[t%seconds].again)
	}
	return n
}

// history returns the bytes from the exchange in each of the last 60 seconds, nil
// if nothing was ever counted.
func (c *counts) history(sec int64) []int64 {
	if c.stats == nil {
		return nil
	}
	s, list := c.at(sec), make([]int64, 60)
	for i := range list {
		if t := sec - 60 + int64(i); t >= 0 {
			list[i] = s.seconds[t%seconds].down
		}
	}
	return list
}

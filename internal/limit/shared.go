package limit

import (
	"slices"
	"time"
)

// shared is what a shared budget has beyond others.
type shared struct {
	Share
	since int64 // when Alone began
	base  int   // slots of the window that this process had then
	news  int   // slots taken since
	asked int   // slots that are taken here, and that the Remote has not granted yet
	until int64 // full until then, as far as the Remote knows
	last  Answer
}

// together reports whether the Remote must be asked.
func (s *shared) together() bool { return s != nil && !s.Alone }

// count counts slots that this process takes by itself.
func count(budgets []*Budget, n int) {
	for _, b := range budgets {
		if b.shared != nil {
			b.shared.news += n
		}
	}
}

// ask counts slots that are asked for. A budget may have become a shared one, or this
// process' alone, since.
func (s *shared) ask(n int) {
	if s != nil {
		s.asked = max(0, s.asked+n)
	}
}

// roomAt returns when there may be room.
func (s *shared) roomAt(b *Budget, now int64) int64 {
	if s.Alone && b.limits.MaxConnections > 0 && b.open >= s.Connections {
		return noDeadline
	}
	return s.windowAt(b, now)
}

// windowAt returns when the window may have room.
func (s *shared) windowAt(b *Budget, now int64) int64 {
	switch {
	case !s.Alone:
		return max(now, s.until)
	case b.limits.Connects == 0:
		return now
	case s.Wait, s.Window == 0:
		return noDeadline
	}
	first, held := s.since+int64(b.limits.Per)+1, s.since+int64(s.Hold)
	if now < held && s.news >= s.First {
		return held
	}
	most := s.most(b, now)
	if most == 0 {
		return first // what there is from then on
	}
	at := b.windowOf(most, now)
	if at > now && most < s.Window {
		at = min(at, first)
	}
	return at
}

// most returns how many slots of a window this process may take by itself: of each
// process together, no more than the limit. In the first window all have what they had,
// and a part of what was left; but not more than their share, so that in the window that
// follows none has.
func (s *shared) most(b *Budget, now int64) int {
	switch {
	case s.since+int64(b.limits.Per)+1 <= now:
		return s.Window
	case s.IsKept:
		return min(s.Window, s.Kept)
	}
	return min(s.Window, s.base+s.First)
}

// left returns how many connections would be admitted now.
func (s *shared) left(b *Budget, now int64) int {
	n := s.connectsLeft(b, now)
	if most := b.limits.MaxConnections; most > 0 {
		switch {
		case s.Alone:
			n = min(n, s.Connections-b.open)
		case s.MaxConnections > 0:
			n = min(n, s.MaxConnections-s.Open)
		default:
			n = min(n, most-b.open)
		}
	}
	return max(0, n)
}

// connectsLeft returns what is left of the window.
func (s *shared) connectsLeft(b *Budget, now int64) int {
	l := &b.limits
	switch {
	case l.Connects == 0:
		return 1 << 30
	case !s.Alone && s.Known:
		return max(0, s.Connects-s.Used)
	case !s.Alone:
		return max(0, l.Connects-b.used(now))
	case s.Wait:
		return 0
	}
	n := s.most(b, now) - b.used(now)
	if now < s.since+int64(s.Hold) {
		n = min(n, s.First-s.news)
	}
	return max(0, n)
}

// describe completes a refusal.
func (s *shared) describe(b *Budget, f *Full) {
	switch {
	case s == nil:
	case s.Alone:
		f.Why, f.Left = s.Why, 0
	default:
		f.Max, f.Left = s.last.Max, 0
		f.Open = max(f.Open, s.Open)
		if f.Max {
			f.Open = max(f.Open, s.MaxConnections)
		}
		if s.MaxConnections > 0 {
			f.Limits.MaxConnections = s.MaxConnections
		}
		if s.Connects > 0 {
			f.Limits.Connects, f.Limits.Per = s.Connects, s.Per
		}
	}
}

// fill completes a row.
func (s *shared) fill(b *Budget, r *Row, now int64) {
	if s == nil {
		return
	}
	share := s.Share
	r.Share = &share
	if b.limits.Connects > 0 {
		r.Left = s.connectsLeft(b, now)
	}
	if !s.Alone && s.Known {
		r.Open = max(r.Open, s.Open)
	}
}

// jitter returns how much later one may go that has waited.
func (b *Budget) jitter() time.Duration {
	switch s := b.shared; {
	case s.together(): // asking has spread them already; and what waits here, others cannot use
		return 0
	case s != nil:
		return min(b.limits.Jitter, b.limits.Per/100)
	}
	return b.limits.Jitter
}

func together(budgets []*Budget) bool {
	return slices.ContainsFunc(budgets, func(b *Budget) bool { return b.shared.together() })
}

func anyShared(budgets []*Budget) bool {
	return slices.ContainsFunc(budgets, func(b *Budget) bool { return b.shared != nil })
}

func sharedKeys(budgets []*Budget) (keys []Key) {
	for _, b := range budgets {
		if b.shared != nil {
			keys = append(keys, b.key)
		}
	}
	return keys
}

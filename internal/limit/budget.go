package limit

import (
	"math"
	"time"
)

// Limits are the limits of a budget. Zero means none.
type Limits struct {
	Connects       int           // at most so many new connections in any window of length Per
	Per            time.Duration // used with Connects
	MaxConnections int           // at most so many open at once
	Queue          time.Duration // how long a connection waits for room
	Jitter         time.Duration // one that has waited goes up to so much later than it might, so that not all go together
	Whole          Whole         // what several hosts may do together, of which Connects and MaxConnections are this host's part
	Watch          bool          // nothing is held back; the table's warning is called once when 80 % are used
	Shared         bool          // with the other processes of a fleet, where the table has a Remote
}

// Whole is what all hosts may do together that share a budget. Zero means that it is this
// host's alone.
type Whole struct{ Connects, MaxConnections int }

// IsSet reports whether there is anything to count.
func (l *Limits) IsSet() bool { return l.Connects > 0 || l.MaxConnections > 0 }

// Key names a budget. Exchange and Kind are "" for one of all traffic.
type Key struct{ Exchange, Kind, Exit string }

// String returns the budget's name in words: "binance via tokyo-1".
func (k Key) String() string {
	if k.Exchange == "" {
		return k.Exit
	}
	return k.Exchange + " via " + k.Exit
}

// noDeadline is when there is room that no clock brings: when a connection ends
// or a dial does.
const noDeadline = math.MaxInt64

// Budget is one budget and its history. It belongs to a Table, whose lock guards
// it, and lives as long as that.
type Budget struct {
	key    Key
	limits Limits
	on     bool // it is in the configuration in force

	grants  ring // the times at which dials have ended
	pending int  // granted, their dials not yet ended
	open    int  // granted, not yet ended
	remote  int  // open in other processes
	queued  int  // wait for it now
	refused uint64

	refusedAt int64 // the last time

	warned bool
	shared *shared // nil: it is this process' alone
}

// Key returns the budget's name.
func (b *Budget) Key() Key { return b.key }

// enforced reports whether the budget holds connections back.
func (b *Budget) enforced() bool { return b.on && !b.limits.Watch }

// roomAt returns when there is room for one more: now, or later, or never.
func (b *Budget) roomAt(now int64) int64 {
	if !b.enforced() {
		return now
	}
	if b.shared != nil {
		return b.shared.roomAt(b, now)
	}
	if b.limits.MaxConnections > 0 && b.open+b.remote >= b.limits.MaxConnections {
		return noDeadline
	}
	return b.windowAt(now)
}

// windowAt returns when the window has room, whatever MaxConnections says.
func (b *Budget) windowAt(now int64) int64 {
	if b.shared != nil {
		return b.shared.windowAt(b, now)
	}
	if b.limits.Connects == 0 {
		return now
	}
	return b.windowOf(b.limits.Connects, now)
}

// windowOf is windowAt for a window of so many, at least one.
func (b *Budget) windowOf(most int, now int64) int64 {
	used := b.used(now)
	if used < most {
		return now
	}
	if over := used - most; over < b.grants.live() {
		return b.grants.time(b.grants.old+over) + int64(b.limits.Per) + 1
	}
	return noDeadline
}

// used returns how many slots of the window are taken.
func (b *Budget) used(now int64) int {
	b.grants.expire(now, int64(b.limits.Per))
	return b.grants.live() + b.pending
}

// take uses one slot.
func (b *Budget) take() {
	b.pending++
	b.open++
}

// settle ends a dial: from now on its slot is one of the window's.
func (b *Budget) settle(now int64) {
	b.pending--
	b.grants.expire(now, int64(b.limits.Per))
	b.trim(b.limits.Connects - 1)
	if b.limits.Connects > 0 {
		b.grants.push(now)
	}
}

// trim forgets what is of no more use. The window of a budget that holds back is
// always known in full, also where its limit has been lowered; of one that does
// not, only the last Connects, so that it stays bounded.
func (b *Budget) trim(most int) {
	b.grants.trim(max(0, most), b.on && !b.limits.Watch && b.limits.Connects > 0)
}

// configure sets the limits and keeps the history: what is in the window, and
// of what was before it as much as makes up the last Connects.
func (b *Budget) configure(l Limits, now int64) {
	if !b.on || b.limits != l {
		b.warned = false
	}
	changed := b.limits.Connects != l.Connects || b.limits.Per != l.Per
	b.limits, b.on = l, true
	if changed {
		b.grants.set(b.grants.all())
		b.grants.expire(now, int64(l.Per))
		b.trim(l.Connects)
	}
}

// burst is the longest window that a few clients use up when they connect at the same
// time, as at a start: there 80 % of it say nothing.
const burst = 10 * time.Second

// warns reports whether 80 % of a watched limit are used for the first time; of a short
// window, whether it is exceeded.
func (b *Budget) warns(now int64) bool {
	l := &b.limits
	if !l.Watch || !b.on || b.warned {
		return false
	}
	used := b.used(now)
	low := 5*used >= 4*l.Connects
	if l.Per <= burst {
		low = used > l.Connects
	}
	b.warned = l.Connects > 0 && low ||
		l.MaxConnections > 0 && 5*(b.open+b.remote) >= 4*l.MaxConnections
	return b.warned
}

// left returns how many connections would be admitted now.
func (b *Budget) left(now int64) int {
	if b.shared != nil {
		return b.shared.left(b, now)
	}
	n := math.MaxInt
	if b.limits.Connects > 0 {
		n = b.limits.Connects - b.used(now)
	}
	if b.limits.MaxConnections > 0 {
		n = min(n, b.limits.MaxConnections-b.open-b.remote)
	}
	return max(0, n)
}

package limit

import (
	"slices"
	"time"
)

// History is what another process must know of a budget so that an upgrade does
// not double it. It is meant for JSON.
//
// Times are by the wall clock, because a monotonic one means nothing to another
// process. A wall clock that is set back between Export and Import makes windows
// longer, one that is set forward makes them shorter, by as much.
type History struct {
	Exchange string        `json:"exchange,omitempty"`
	Kind     string        `json:"kind,omitempty"`
	Exit     string        `json:"exit"`
	Connects int           `json:"connects,omitempty"`
	Per      time.Duration `json:"per_ns,omitempty"`
	Times    []int64       `json:"times_us,omitempty"` // of the last connections, Unix time in microseconds, ascending
	Open     int           `json:"open,omitempty"`     // connections that are open here
	Refused  uint64        `json:"refused,omitempty"`
}

// Export returns the history of all budgets. Connections whose dial is pending
// count as of now. Suspend comes first, or the two processes together may grant
// twice as much.
func (t *Table) Export() []History {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, wall := t.now(), time.Now()
	list := make([]History, 0, len(t.budgets))
	for k, b := range t.budgets {
		h := History{
			Exchange: k.Exchange, Kind: k.Kind, Exit: k.Exit, Open: b.open, Refused: b.refused,
			Connects: b.limits.Connects, Per: b.limits.Per, Times: b.grants.all(),
		}
		for range min(b.pending, b.limits.Connects) {
			h.Times = append(h.Times, now)
		}
		for i, at := range h.Times {
			h.Times[i] = wall.Add(time.Duration(at - now)).Add(time.Microsecond - 1).UnixMicro() // rather late than early
		}
		if len(h.Times) > 0 || h.Open > 0 || h.Refused > 0 {
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b History) int { return compare(a.key(), b.key()) })
	return list
}

func (h *History) key() Key { return Key{h.Exchange, h.Kind, h.Exit} }

// Import adds the history of another process to what is known here, before or
// after Configure. The connections open there are not counted as open here: those
// that move are counted by Adopt, those that stay by SetRemoteOpen.
func (t *Table) Import(list []History) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, wall := t.now(), time.Now().UnixMicro()
	for i := range list {
		h := &list[i]
		b := t.budget(h.key())
		if !b.on && h.Connects > b.limits.Connects { // Configure will say what holds
			b.limits.Connects, b.limits.Per = h.Connects, max(h.Per, b.limits.Per)
		}
		b.refused += h.Refused
		times := b.grants.all()
		for _, at := range h.Times {
			times = append(times, now-max(0, wall-max(0, at))*int64(time.Microsecond))
		}
		slices.Sort(times)
		b.grants.set(times)
		b.grants.expire(now, int64(b.limits.Per))
		b.trim(b.limits.Connects)
	}
	t.serve(now)
}

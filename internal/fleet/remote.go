package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"proxyd/internal/limit"
)

// Ask asks Redis; while it is not used it answers at once that it cannot.
func (f *Fleet) Ask(asks []limit.Ask, done func([]limit.Answer)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = append(f.waiting, question{asks, done, time.Now()})
	f.wake()
}

// Tell takes what has become of slots.
func (f *Fleet) Tell(n limit.Note) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, k := range n.Keys {
		e := f.entries[k]
		if e == nil {
			continue // Share comes first, except for Held
		}
		e.exit.used = now
		e.tell(n, f.slotID(n.ID), now)
		if n.What == limit.Granted && (f.state.Used || f.joining) {
			e.say("g"+strconv.FormatInt(n.Dial.Microseconds(), 10), f.slotID(n.ID))
		}
	}
	if n.What == limit.Held {
		f.takeOver(n, now)
	}
	if f.state.Used {
		f.wake()
	}
}

func (f *Fleet) slotID(n uint32) string { return f.id + ":" + strconv.FormatUint(uint64(n), 16) }

// takeOver takes over what a budget holds that is shared from now on.
func (f *Fleet) takeOver(n limit.Note, now time.Time) {
	e := f.entryOf(n.Keys[0], now)
	e.open = n.Open
	if known := f.imported[e.key]; known != nil { // with their ids, from the process before
		for id, at := range known {
			e.slots[id] = at
		}
		delete(f.imported, e.key)
		return
	}
	for i, age := range n.Ages {
		e.slots[fmt.Sprintf("%s:h%x", f.id, i)] = now.Add(-age)
	}
}

func (f *Fleet) entryOf(k limit.Key, now time.Time) *entry {
	e := f.entries[k]
	if e == nil {
		x := f.exitOf(k.Exit)
		e = &entry{key: k, exit: x, slots: map[string]time.Time{}}
		f.entries[k] = e
		x.entries = append(x.entries, e)
		slices.SortFunc(x.entries, func(a, b *entry) int {
			return cmp.Or(cmp.Compare(a.key.Exchange, b.key.Exchange), cmp.Compare(a.key.Kind, b.key.Kind))
		})
		x.used = now
	}
	return e
}

// tell keeps what has become of slots of e.
func (e *entry) tell(n limit.Note, id string, now time.Time) {
	switch n.What {
	case limit.Granted:
		e.open++
		e.slots[id] = now.Add(n.Dial)
	case limit.Settled:
		if n.ID == 0 { // taken before the budget was shared
			id += strconv.FormatInt(now.UnixNano(), 16)
		}
		e.slots[id] = now
		e.say("s", id)
	case limit.Unused:
		e.open--
		if n.ID != 0 {
			delete(e.slots, id)
			e.say("u", id)
		}
	case limit.Released:
		e.open--
		e.exit.dirty = true
	case limit.Adopted:
		e.open++
		e.exit.dirty = true
	case limit.Left:
		e.limits = limit.Limits{}
		e.exit.full = time.Time{}
	}
	e.clean(now)
}

// mostOps is how much of what has become of slots waits to be sent. What is lost
// counts for longer than it must.
const mostOps = 10_000

func (e *entry) say(what, id string) {
	e.exit.dirty = true
	if len(e.ops) < mostOps {
		e.ops = append(e.ops, op{what, id})
	}
}

// clean forgets slots that are in no window any more.
func (e *entry) clean(now time.Time) {
	if len(e.slots) <= e.tidy {
		return
	}
	for id, at := range e.slots {
		if now.Sub(at) > max(e.limits.Per, e.force.Per) {
			delete(e.slots, id)
		}
	}
	e.tidy = max(64, 2*len(e.slots))
}

// Share returns how a budget is shared at present.
func (f *Fleet) Share(k limit.Key, l limit.Limits) limit.Share {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.entryOf(k, time.Now())
	changed := e.limits != l
	if changed {
		e.exit.full = time.Time{} // at the next beat all is said
	}
	e.limits = l
	if f.decides(e.exit) {
		s := limit.Share{Known: !e.heard.IsZero(), Used: e.used, Open: e.total, Hosts: f.hosts, Connects: e.force.Connects, Per: e.force.Per, MaxConnections: e.force.MaxConnections}
		e.alone = limit.Share{}
		return s
	}
	if changed || !e.alone.Alone {
		f.setAlone(e)
	}
	return e.alone
}

// decides reports whether Redis decides on the budgets of x.
func (f *Fleet) decides(x *exit) bool { return f.state.Used && !x.feeding && !f.retired }

// setAlone works out what this process may use by itself of e.
func (f *Fleet) setAlone(e *entry) {
	l := e.inForce()
	hosts := f.shareHosts()
	s := limit.Share{Alone: true, Hosts: hosts, Hold: callTime + e.exit.step}
	if hosts > 0 {
		s.Window, s.First = l.Connects/hosts, l.Connects/hosts
		s.Connections = max(e.open, l.MaxConnections/hosts)
	}
	switch fresh := time.Since(e.heard) < freshTime; {
	case f.seen && fresh:
		s.First = min(s.First, max(0, l.Connects-e.used)/hosts)
		s.Connections = e.open + max(0, l.MaxConnections-e.total)/hosts
	case f.seen:
		s.First, s.Connections = 0, e.open
	}
	if e.alone.Alone {
		s.Round = e.alone.Round
	} else {
		s.Round = f.round
	}
	s.Why = f.why(e, l, &s)
	if f.waits && (e.pressed || time.Since(e.fullAt) < 2*l.Per+freshTime) {
		s.Wait, s.Connections = true, e.open
		s.Why += "; how much of it others have not used is not known yet"
	}
	e.alone = s
}

// inForce returns the smallest limits that some host is known to have.
func (e *entry) inForce() limit.Limits {
	l := e.limits
	if c := e.force; c.Connects > 0 && l.Connects > 0 && float64(c.Connects)*l.Per.Seconds() < float64(l.Connects)*c.Per.Seconds() {
		l.Connects = int(int64(c.Connects) * int64(l.Per) / int64(c.Per)) // in windows of our length, rounded down
	}
	if c := e.force.MaxConnections; c > 0 && c < l.MaxConnections {
		l.MaxConnections = c
	}
	return l
}

// shareHosts returns between how many hosts a budget is divided, 0 if that is unknown.
func (f *Fleet) shareHosts() int {
	if !f.seen { // who has come so far is not all
		return f.o.Hosts
	}
	return max(f.hosts, f.o.Hosts)
}

// why returns the text of a refusal.
func (f *Fleet) why(e *entry, l limit.Limits, s *limit.Share) string {
	cause := "Redis is not used"
	switch {
	case f.state.Used && e.exit.feeding:
		cause = "Redis is new and learns what was granted"
	case f.state.Far:
		cause = "Redis answers too slowly"
	}
	if s.Hosts == 0 {
		return "fleet: " + cause + ", and has not been since the start; fleet.hosts would give this host a share"
	}
	what, share := fmt.Sprintf("%d per %s", l.Connects, limit.Period(l.Per)), s.Window
	if l.Connects == 0 {
		what, share = fmt.Sprintf("%d connections", l.MaxConnections), l.MaxConnections/s.Hosts
	}
	text := fmt.Sprintf("fleet: %s; this host's share of %s between %d hosts is %d", cause, what, s.Hosts, share)
	if s.First < s.Window {
		text += fmt.Sprintf(", in the first %s what it had and %d", limit.Period(l.Per), s.First)
	}
	return text
}

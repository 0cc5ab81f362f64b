package limit

import (
	"context"
	"fmt"
	"time"
)

// Remote decides on shared budgets, for all processes that share them. All of its
// methods are called with the table locked: they return at once and call no method of
// the table.
type Remote interface {
	// Ask asks for slots of one exit, for each of asks in all of its budgets or in
	// none. done is called once, with an answer for each and in bounded time, by
	// another goroutine.
	Ask(asks []Ask, done func([]Answer))
	// Tell passes on what has become of slots, in order.
	Tell(Note)
	// Share returns how a budget is shared at present. Where that changes, the Remote
	// calls Table.Reconsider.
	Share(Key, Limits) Share
}

// Ask is the shared budgets that one connection needs. They have one exit.
type Ask struct {
	ID   uint32 // never 0; unique in the process for hours
	Keys []Key
	Dial time.Duration // a slot that is not settled counts as settled after so long
}

// Answer is the answer to an Ask.
type Answer struct {
	Granted    bool
	Alone      bool          // the Remote cannot answer: Share now says what this process may use
	Full       Key           // else: the budget that has no room
	Max        bool          // it is MaxConnections that is used up
	Again      time.Duration // when to ask again
	RetryAfter time.Duration // when the window has room; 0 when that is not known
}

// What a Note says.
const (
	Granted  = iota + 1 // slots were taken without an Ask, as Share allows
	Settled             // the dial has ended
	Unused              // the slots are given back as if they had never been taken
	Released            // the connection has ended
	Adopted             // a connection has come from another process
	Held                // a budget is shared from now on: what it holds already
	Left                // a budget is no longer shared
)

// Note is what has become of slots.
type Note struct {
	What int
	ID   uint32 // 0 for slots that were taken before their budget was shared
	Keys []Key
	Dial time.Duration   // of Granted
	Open int             // of Held: connections that are open
	Ages []time.Duration // of Held: how long ago the dials of its window have ended
}

// Share is how a budget is shared.
type Share struct {
	Alone bool // this process uses its own share; else each slot is asked for

	// Of one that is alone.
	Wait        bool          // for a moment nothing: others may be given what is left
	Round       int           // with another one what follows begins anew
	Window      int           // so many in any window
	First       int           // until one window has passed: so many more than are in the window when it begins
	Kept        int           // if IsKept, in place of First: so many in any window
	IsKept      bool          // the Remote keeps so many free for this process
	Hold        time.Duration // at first, what leaves the window makes no room: others may still be given it
	Connections int           // so many open here
	Why         string        // for the text of a refusal: "fleet: Redis is not used; this host's share of 300 per 5 m between 8 hosts is 37"

	// As all processes see it, when that was last heard.
	Known          bool
	Used, Open     int
	Hosts          int
	Connects       int // the limits in force for all: the smallest that some host has
	Per            time.Duration
	MaxConnections int
}

// String returns how it is shared, in words.
func (s *Share) String() string {
	if s.Alone {
		return "by itself: " + s.Why
	}
	return fmt.Sprintf("shared by %d", s.Hosts)
}

// longestDial is how long a dial may take whose caller sets no limit.
const longestDial = 5 * time.Minute

// dialTime returns how long the dial of a connection can take.
func dialTime(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return max(0, time.Until(end))
	}
	return longestDial
}

// SetRemote makes shared budgets that r decides on, from now on; nil makes each of
// them this process' alone.
func (t *Table) SetRemote(r Remote) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.budgets { // the one before hears no more
		b.shared = nil
	}
	t.remote, t.asking = r, map[string]bool{}
	for _, b := range t.budgets {
		t.share(b)
	}
	t.serve(t.now())
}

// DropRemote ends SetRemote(r), unless another one is set by now.
func (t *Table) DropRemote(r Remote) {
	t.mu.Lock()
	current := t.remote == r
	t.mu.Unlock()
	if current { // only one caller sets and drops
		t.SetRemote(nil)
	}
}

// Reconsider asks the Remote anew how each budget is shared.
func (t *Table) Reconsider() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for _, b := range t.budgets {
		if b.shared != nil {
			t.reconsider(b, now)
		}
	}
	t.serve(now)
}

func (t *Table) reconsider(b *Budget, now int64) {
	s, next := b.shared, t.remote.Share(b.key, b.limits)
	if next.Alone != s.Alone || next.Alone && next.Round != s.Round {
		s.since, s.base, s.until, s.news = now, b.used(now)-s.asked, 0, 0
	}
	s.Share = next
}

// share makes b a shared budget, or one of this process alone.
func (t *Table) share(b *Budget) {
	want := t.remote != nil && b.on && b.limits.Shared
	switch {
	case want:
		if b.shared == nil {
			b.shared = &shared{}
			t.remote.Tell(t.held(b))
		}
		t.reconsider(b, t.now())
	case b.shared != nil:
		b.shared = nil
		if t.remote != nil {
			t.remote.Tell(Note{What: Left, Keys: []Key{b.key}})
		}
	}
}

func (t *Table) held(b *Budget) Note {
	n, now := Note{What: Held, Keys: []Key{b.key}, Open: b.open}, t.now()
	b.grants.expire(now, int64(b.limits.Per))
	for i := b.grants.old; i < b.grants.kept; i++ {
		n.Ages = append(n.Ages, time.Duration(now-b.grants.time(i)))
	}
	return n
}

// refresh takes over what is known of a budget that all decide on.
func (t *Table) refresh(b *Budget) {
	if b.shared.together() {
		if s := t.remote.Share(b.key, b.limits); !s.Alone {
			b.shared.Share = s
		}
	}
}

// tell passes on what has become of a slot.
func (t *Table) tell(what int, id uint32, budgets []*Budget) {
	if t.remote != nil && anyShared(budgets) {
		t.remote.Tell(Note{What: what, ID: id, Keys: sharedKeys(budgets)})
	}
}

func (t *Table) nextID() uint32 {
	if t.lastID++; t.lastID == 0 {
		t.lastID = 1
	}
	return t.lastID
}

package limit

import (
	"context"
	"fmt"
	"slices"
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
	Window      int           // so many in any window
	First       int           // until one window has passed: so many more than are in the window when it begins
	Hold        time.Duration // at first, what leaves the window makes no room: others may still be given it
	Connections int           // so many open here
	Why         string        // for the text of a refusal: "fleet: Redis is unreachable; this host's share of 300 per 5 m between 8 hosts is 37"

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
	case s.Window == 0:
		return noDeadline
	}
	first, held := s.since+int64(b.limits.Per)+1, s.since+int64(s.Hold)
	if now < held && s.news >= s.First {
		return held
	}
	if most := s.most(b, now); most == 0 {
		return first // what there is from then on
	} else if at := b.windowOf(most, now); at > now && most < s.Window {
		return min(at, first)
	} else {
		return at
	}
}

// most returns how many slots of a window this process may take by itself: of each
// process together, no more than the limit. In the first window all have what they had,
// and a part of what was left; but not more than their share, so that in the window that
// follows none has.
func (s *shared) most(b *Budget, now int64) int {
	if s.since+int64(b.limits.Per)+1 > now {
		return min(s.Window, s.base+s.First)
	}
	return s.Window
}

// left returns how many connections would be admitted now.
func (s *shared) left(b *Budget, now int64) int {
	n := s.connectsLeft(b, now)
	if most := b.limits.MaxConnections; most > 0 {
		if s.Alone {
			n = min(n, s.Connections-b.open)
		} else if s.MaxConnections > 0 {
			n = min(n, s.MaxConnections-s.Open)
		} else {
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
	if next.Alone != s.Alone {
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

// mostAsks is how many connections one Ask is for: they all wait for its answer.
const mostAsks = 64

// asks are those that the Remote is to be asked for, by exit.
type asks map[string][]*waiter

// add takes the slots of w here, and has the Remote asked for it; unless an answer for
// its exit is awaited: then it is asked for after that.
func (a *asks) add(t *Table, w *waiter) {
	exit := w.exit()
	if t.asking[exit] || len((*a)[exit]) == mostAsks {
		return
	}
	if *a == nil {
		*a = asks{}
	}
	for _, b := range w.budgets {
		b.take()
		b.shared.ask(1)
	}
	w.id, w.asking = t.nextID(), true
	(*a)[exit] = append((*a)[exit], w)
}

// exit returns the exit of the shared budgets of w.
func (w *waiter) exit() string {
	for _, b := range w.budgets {
		if b.shared != nil {
			return b.key.Exit
		}
	}
	return ""
}

// send asks.
func (a asks) send(t *Table) {
	for exit, waiters := range a {
		t.asking[exit] = true
		list := make([]Ask, len(waiters))
		for i, w := range waiters {
			list[i] = Ask{ID: w.id, Keys: sharedKeys(w.budgets), Dial: w.dial}
		}
		remote := t.remote
		remote.Ask(list, func(answers []Answer) { t.answered(remote, exit, waiters, answers) })
	}
}

// answerDue reports whether an answer for w is awaited. It will be the only one.
func (t *Table) answerDue(w *waiter) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.granted || w.refused != nil {
		return true
	}
	w.once = w.once || w.asking || t.remote != nil && together(w.budgets) && t.asking[w.exit()]
	return w.once
}

// answered acts on the answers of the Remote.
func (t *Table) answered(from Remote, exit string, waiters []*waiter, answers []Answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if from == t.remote {
		delete(t.asking, exit)
	}
	for i, w := range waiters {
		a := answers[i]
		w.asking = false
		for _, b := range w.budgets {
			b.shared.ask(-1)
		}
		switch {
		case a.Granted && w.gone:
			untake(w.budgets)
			t.tell(Unused, w.id, w.budgets)
		case a.Granted:
			t.waiting = slices.DeleteFunc(t.waiting, func(x *waiter) bool { return x == w })
			w.granted = true
			w.goOn()
		default:
			untake(w.budgets)
			if b := t.budgets[a.Full]; b != nil && b.shared != nil && !a.Alone {
				b.shared.until, b.shared.last = now+int64(a.Again), a
			}
		}
	}
	t.serve(now)
	for i, w := range waiters {
		if w.granted || w.gone || w.asking {
			continue
		}
		if a := answers[i]; !a.Alone && a.RetryAfter > 0 && now+int64(a.RetryAfter) > w.end && w.refused == nil {
			w.refused = t.full(w.budgets, w.start, now)
			t.waiting = slices.DeleteFunc(t.waiting, func(x *waiter) bool { return x == w })
			w.goOn()
		}
	}
}

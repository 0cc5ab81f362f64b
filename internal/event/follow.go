package event

import "errors"

// Bounds of a follower.
const (
	maxBehind = 256 // events
	atOnce    = 64  // events that Next returns at most
)

// ErrBehind is what Next returns to a follower that is too far behind.
var ErrBehind = errors.New("too many events behind")

// Follower reads a journal as it grows. It is for one goroutine, and holds none of
// the events: a slow one costs the journal nothing.
type Follower struct {
	j       *Journal
	query   Query
	news    chan struct{} // of 1
	next    uint64        // the number of the next event to look at
	backlog uint64        // what was there at the beginning ends with it: it may take its time
}

// Follow returns a follower of what q wants, the kept events first, and what is
// missing before them. Without Since and After it begins with the next event. The
// caller must Close it.
func (j *Journal) Follow(q Query) (*Follower, *Gap) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := &Follower{j: j, query: q, news: make(chan struct{}, 1), backlog: j.last}
	var gap *Gap
	if f.next, gap = j.start(q); q.After == (ID{}) && q.Since.IsZero() {
		f.next = j.last + 1
	}
	f.notify()
	j.followers[f] = struct{}{}
	return f, gap
}

// After returns the ID of the event behind which Next goes on.
func (f *Follower) After() string {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	return f.j.id(f.next - 1)
}

// News returns a channel that receives when Next may have something.
func (f *Follower) News() <-chan struct{} { return f.news }

func (f *Follower) notify() {
	select {
	case f.news <- struct{}{}:
	default: // it will look anyway
	}
}

// Next returns the next events, none when there are none yet, and the ID up to
// which it has looked. It returns ErrBehind when the follower is too slow.
func (f *Follower) Next() (events []Event, upTo string, err error) {
	j := f.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if f.next < j.oldest() || f.next > f.backlog+1 && j.last+1-f.next > maxBehind {
		return nil, "", ErrBehind
	}
	for ; f.next <= j.last; f.next++ {
		if len(events) == atOnce {
			f.notify()
			break
		}
		if f.query.matches(j.at(int(f.next - j.oldest()))) { //nolint:gosec // at most maxEntries
			events = append(events, j.numbered(f.next))
		}
	}
	return events, j.id(f.next - 1), nil
}

// Close ends the follower.
func (f *Follower) Close() {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	delete(f.j.followers, f)
}

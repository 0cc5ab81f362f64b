package event

import (
	"bytes"
	"crypto/rand"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"proxyd/internal/printable"
)

// Bounds of a journal.
const (
	maxEntries = 10_000
	maxBytes   = 4 << 20 // of all entries, as size measures them
	maxText    = 4000    // of one entry's text, in bytes; its hint has a quarter
)

// Journal keeps the latest events in memory, a bounded number and a bounded size
// of them. Its methods are safe for concurrent use.
type Journal struct {
	logged func(Event)

	mu        sync.Mutex
	name      string
	began     time.Time // it has missed nothing since, and has dropped what is older than ring
	last      uint64    // the number of the latest event
	ring      []Event   // without IDs; the oldest at first
	first     int
	length    int
	bytes     int
	dropped   bool // something has made room
	followers map[*Follower]struct{}

	leaving bool    // its state is being handed to the next process
	held    []Event // what has happened since
}

// NewJournal returns an empty journal. logged is called with each event that is
// added; it must not block.
func NewJournal(logged func(Event)) *Journal {
	var seed [4]byte
	_, _ = rand.Read(seed[:]) // never fails (crypto/rand)
	return &Journal{logged: logged, name: hex.EncodeToString(seed[:]), began: time.Now(), followers: map[*Follower]struct{}{}}
}

// Add gives e its ID and, unless it has one, its time, keeps it and logs it. After
// HandOver it is logged without an ID.
func (j *Journal) Add(e Event) { j.logged(j.keep(e)) }

// Adopt keeps an event of the process before this one, which has logged it. It gets
// an ID of this journal.
func (j *Journal) Adopt(e Event) { j.keep(e) }

func (j *Journal) keep(e Event) Event {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.Round(0) // times of two processes must compare
	e.Text, e.Hint = printable.Cut(e.Text, maxText), printable.Cut(e.Hint, maxText/4)
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.ID = ""; j.leaving {
		if len(j.held) < maxEntries {
			j.held = append(j.held, e)
		}
		return e
	}
	return j.number(e)
}

// number gives e the next ID, and keeps it. The caller holds mu.
func (j *Journal) number(e Event) Event {
	j.last++
	j.push(e)
	e.ID = j.id(j.last)
	for f := range j.followers {
		f.notify()
	}
	return e
}

// push adds an entry to the ring, and drops the oldest for which there is no room.
func (j *Journal) push(e Event) {
	for j.length > 0 && (j.length == maxEntries || j.bytes+e.size() > maxBytes) {
		j.bytes -= j.ring[j.first].size()
		j.ring[j.first] = Event{}
		j.first = (j.first + 1) % len(j.ring)
		j.length--
		j.dropped = true
	}
	if j.length == len(j.ring) {
		grown := make([]Event, min(max(2*j.length, 64), maxEntries))
		for i := range j.length {
			grown[i] = *j.at(i)
		}
		j.ring, j.first = grown, 0
	}
	j.ring[(j.first+j.length)%len(j.ring)] = e
	j.length++
	j.bytes += e.size()
}

// at returns the entry number i, from 0, the oldest.
func (j *Journal) at(i int) *Event { return &j.ring[(j.first+i)%len(j.ring)] }

// oldest returns the number of the oldest event that is kept; of the next one if
// none is.
func (j *Journal) oldest() uint64 { return j.last - uint64(j.length) + 1 } //nolint:gosec // at most last

// numbered returns a copy of the event number n, which must be kept, with its ID.
func (j *Journal) numbered(n uint64) Event {
	e := *j.at(int(n - j.oldest())) //nolint:gosec // at most maxEntries
	e.ID = j.id(n)
	return e
}

func (j *Journal) id(n uint64) string { return j.name + "-" + strconv.FormatUint(n, 10) }

// remembersSince returns the time from which on the journal has all events.
func (j *Journal) remembersSince() time.Time {
	if j.dropped && j.length > 0 {
		return j.at(0).Time
	}
	return j.began
}

// size returns what e takes in memory, about.
func (e *Event) size() int {
	const fixed = 160
	n := fixed + len(e.Severity) + len(e.Type) + len(e.Exchange) + len(e.Kind) + len(e.Upstream) + len(e.Text) + len(e.Hint)
	for _, name := range e.Upstreams {
		n += len(name) + 16
	}
	return n
}

// state is a journal as it goes along to the next process: in gob, which takes a
// quarter of the time of JSON, and lets fields come and go.
type state struct {
	Name    string
	Began   time.Time
	Dropped bool
	Last    uint64
	Events  []Event // without IDs, the oldest first
}

// HandOver returns what the next process goes on with. What happens from now on is
// kept apart, for Held or Resume.
func (j *Journal) HandOver() []byte {
	j.mu.Lock()
	j.leaving = true
	s := state{Name: j.name, Began: j.remembersSince(), Dropped: j.dropped, Last: j.last, Events: make([]Event, j.length)}
	for i := range s.Events {
		s.Events[i] = *j.at(i)
	}
	j.mu.Unlock()
	var data bytes.Buffer
	_ = gob.NewEncoder(&data).Encode(s) // fails for no such value
	return data.Bytes()
}

// Held returns what has happened since HandOver or the last call, for the next
// process to Adopt.
func (j *Journal) Held() []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	held := j.held
	j.held = nil
	return held
}

// Holds reports whether Held has something.
func (j *Journal) Holds() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.held) > 0
}

// Resume goes on after a HandOver that failed: what was held comes first.
func (j *Journal) Resume() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.leaving = false
	for _, e := range j.held {
		j.number(e)
	}
	j.held = nil
}

// Import goes on with the journal of the process before this one: its events come
// before those that this one has already, which get new IDs. Nothing is what a
// process without a journal hands over.
func (j *Journal) Import(handedOver []byte) error {
	if len(handedOver) == 0 {
		return nil
	}
	var s state
	if err := gob.NewDecoder(bytes.NewReader(handedOver)).Decode(&s); err != nil {
		return fmt.Errorf("the journal cannot be read: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	own := make([]Event, j.length)
	for i := range own {
		own[i] = *j.at(i)
	}
	j.name, j.began, j.ring, j.first, j.length, j.bytes, j.dropped = s.Name, s.Began, nil, 0, 0, 0, s.Dropped
	for _, e := range append(s.Events, own...) {
		j.push(e)
	}
	j.last = s.Last + uint64(len(own))
	return nil
}

// ID names an event: the journal, and its number in it from 1 on.
type ID struct {
	Journal string
	N       uint64
}

// ParseID reads an ID, and reports whether text is one. The number 0 stands
// before the first event.
func ParseID(text string) (ID, bool) {
	name, number, _ := strings.Cut(text, "-")
	n, err := strconv.ParseUint(number, 10, 63)
	if _, bad := hex.DecodeString(name); bad != nil || len(name) != 8 || err != nil {
		return ID{}, false
	}
	return ID{name, n}, true
}

// String returns the ID as ParseID reads it.
func (id ID) String() string { return fmt.Sprintf("%s-%d", id.Journal, id.N) }

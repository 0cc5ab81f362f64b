package event

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"
)

// maxEntries is how many events a journal keeps.
const maxEntries = 10_000

// Journal keeps the latest events in memory. Its methods are safe for concurrent
// use.
type Journal struct {
	logged func(Event)
	name   string

	mu     sync.Mutex
	last   uint64
	events []Event // the oldest first
}

// NewJournal returns an empty journal. logged is called with each event that is
// added; it must not block.
func NewJournal(logged func(Event)) *Journal {
	var seed [4]byte
	_, _ = rand.Read(seed[:]) // never fails (crypto/rand)
	return &Journal{logged: logged, name: hex.EncodeToString(seed[:])}
}

// Add gives e its ID and, unless it has one, its time, keeps it and logs it.
func (j *Journal) Add(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	j.mu.Lock()
	j.last++
	e.ID = fmt.Sprintf("%s-%d", j.name, j.last)
	if len(j.events) == maxEntries {
		j.events = j.events[1:]
	}
	j.events = append(j.events, e)
	j.mu.Unlock()
	j.logged(e)
}

// Events returns a copy of what is kept, the oldest first.
func (j *Journal) Events() []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]Event{}, j.events...)
}

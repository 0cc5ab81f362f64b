package event

import (
	"fmt"
	"slices"
	"time"
)

// Query says which events are wanted. A zero field filters nothing.
type Query struct {
	Exchange string
	Kind     string
	Upstream string
	Severity Severity // at least
	Types    []Type   // any of them
	Since    time.Time
	After    ID  // those behind it
	Limit    int // with Since or After the first, else the latest; 0: all
}

// Answer is what a journal has for a query.
type Answer struct {
	Events         []Event   `json:"events"`          // the oldest first
	Next           string    `json:"next"`            // ?since= it for what follows
	RemembersSince time.Time `json:"remembers_since"` // the journal has what happened from then on
	Gap            *Gap      `json:"gap,omitempty"`
}

// Gap says that events are missing between what was asked for and the answer.
type Gap struct {
	Text           string    `json:"text"`
	RemembersSince time.Time `json:"remembers_since"`
}

// rank returns how much a severity matters, 0 for one that is not known.
func (s Severity) rank() int { return slices.Index(Severities[:], s) + 1 }

// AtLeast reports whether s matters as much as least; any does for "".
func (s Severity) AtLeast(least Severity) bool { return s.rank() >= least.rank() }

// matches reports whether e is wanted, whatever its time and number.
func (q *Query) matches(e *Event) bool {
	return (q.Exchange == "" || e.Exchange == q.Exchange) && (q.Kind == "" || e.Kind == q.Kind) && (q.Upstream == "" || e.Concerns(q.Upstream)) &&
		e.Severity.AtLeast(q.Severity) && (len(q.Types) == 0 || slices.Contains(q.Types, e.Type)) && !e.Time.Before(q.Since)
}

// Query returns what is kept of the events that q wants.
func (j *Journal) Query(q Query) Answer {
	j.mu.Lock()
	defer j.mu.Unlock()
	from, gap := j.start(q)
	a := Answer{Events: []Event{}, Next: j.id(j.last), RemembersSince: j.remembersSince(), Gap: gap}
	forward := q.After != (ID{}) || !q.Since.IsZero()
	if !forward && q.Limit > 0 {
		for n := j.last; n >= from && len(a.Events) < q.Limit; n-- {
			if e := j.at(int(n - j.oldest())); q.matches(e) { //nolint:gosec // at most maxEntries
				a.Events = append(a.Events, j.numbered(n))
			}
		}
		slices.Reverse(a.Events)
		return a
	}
	for n := from; n <= j.last; n++ {
		if !q.matches(j.at(int(n - j.oldest()))) { //nolint:gosec // at most maxEntries
			continue
		}
		if q.Limit > 0 && len(a.Events) == q.Limit {
			a.Next = a.Events[q.Limit-1].ID
			break
		}
		a.Events = append(a.Events, j.numbered(n))
	}
	return a
}

// start returns the number of the first event that may be in the answer, and what
// is missing before it.
func (j *Journal) start(q Query) (uint64, *Gap) {
	oldest, since := j.oldest(), j.remembersSince()
	switch {
	case q.After == (ID{}) && j.dropped && !q.Since.IsZero() && q.Since.Before(since):
		return oldest, &Gap{"what happened before " + since.UTC().Format(time.RFC3339) + " is no longer kept", since}
	case q.After == (ID{}):
		return oldest, nil
	case q.After.Journal != j.name || q.After.N > j.last:
		return oldest, &Gap{"proxyd has started again, and remembers nothing of before; events may be missing", since}
	case q.After.N+1 < oldest:
		return oldest, &Gap{fmt.Sprintf("%d events are no longer kept", oldest-q.After.N-1), since}
	}
	return q.After.N + 1, nil
}

// Has reports whether an event is kept that holds true for.
func (j *Journal) Has(holds func(*Event) bool) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.length {
		if holds(j.at(i)) {
			return true
		}
	}
	return false
}

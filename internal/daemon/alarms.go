package daemon

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"proxyd/internal/event"
	"proxyd/internal/printable"
)

// finding is something that is not as it should be, as a check sees it now.
type finding struct {
	key      string // which one it is, from one check to the next
	severity event.Severity
	text     string        // what is wrong
	hint     string        // what to do
	since    time.Time     // when it began; zero: when it was first found
	dated    bool          // text says since when
	after    time.Duration // how long it must have held before it counts
	linger   time.Duration // for how long it counts when it is not found any more

	typ      event.Type // of the events at its beginning and its end; "" for none
	upstream string     // of the events
	over     string     // text of the event at the end
}

// line returns what status shows of it.
func (f *finding) line(now time.Time) string {
	text := f.text
	if !f.dated {
		text += ", since " + printable.Clock(f.since, now)
	}
	if f.hint != "" {
		text += "; " + f.hint
	}
	return text
}

// alarm is a finding that goes on.
type alarm struct {
	finding
	last time.Time // when it was found last
	open bool      // it counts, and has its event
}

// alarms remembers since when what is wrong is wrong, and adds an event to the
// journal when it begins and when it ends. Safe for concurrent use.
type alarms struct {
	add func(event.Event)

	mu   sync.Mutex
	list []*alarm
}

// update takes what the checks have found now, and returns the lines of what counts:
// errors first, else in the order of found.
func (a *alarms) update(now time.Time, found []finding) (lines []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := make(map[string]*alarm, len(a.list))
	for _, old := range a.list {
		before[old.key] = old
	}
	next := make([]*alarm, 0, len(found))
	for _, f := range found {
		old := before[f.key]
		delete(before, f.key)
		next = append(next, a.goOn(old, f, now))
	}
	for _, old := range a.list {
		switch {
		case before[old.key] == nil: // found again
		case old.open && now.Sub(old.last) < old.linger:
			next = append(next, old)
		default:
			a.end(old, now)
		}
	}
	slices.SortStableFunc(next, func(x, y *alarm) int { return cmp.Compare(rank(x.severity), rank(y.severity)) })
	a.list = next
	for _, al := range next {
		if al.open {
			lines = append(lines, al.line(now))
		}
	}
	return lines
}

// goOn returns the alarm of a finding; old is the one of the same key, nil for none.
// Another severity is another state: it begins now.
func (a *alarms) goOn(old *alarm, f finding, now time.Time) *alarm {
	al := &alarm{finding: f, last: now}
	switch {
	case old == nil:
	case f.severity == old.severity:
		al.open = old.open
		al.since = earliest(f.since, old.since)
	case rank(f.severity) < rank(old.severity):
	case old.open && now.Sub(old.last) < old.linger:
		return old
	default:
		a.end(old, now)
		al.open = old.open // it is less bad: no news of its own
	}
	if al.since.IsZero() {
		al.since = now
	}
	if !al.open && now.Sub(al.since) >= al.after {
		al.open = true
		a.begin(al)
	}
	return al
}

// earliest returns the earlier of two times, of which a may be zero.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func rank(s event.Severity) int {
	return slices.Index([]event.Severity{event.Error, event.Warn, event.Info}, s)
}

func (a *alarms) begin(al *alarm) {
	if al.typ != "" {
		a.add(event.Event{Type: al.typ, Severity: al.severity, Upstream: al.upstream, Text: al.text, Hint: al.hint})
	}
}

func (a *alarms) end(al *alarm, now time.Time) {
	if al.typ != "" && al.open {
		a.add(event.Event{Type: al.typ, Severity: event.Info, Upstream: al.upstream, Text: al.over + ", after " + printable.Span(now.Sub(al.since))})
	}
}

// alarmMemory is what the next process must know of an alarm: that it has begun, and when.
type alarmMemory struct {
	Key      string         `json:"key"`
	Severity event.Severity `json:"severity"`
	Since    time.Time      `json:"since"`
	Type     event.Type     `json:"type,omitempty"`
	Upstream string         `json:"upstream,omitempty"`
	Text     string         `json:"text"`
	Hint     string         `json:"hint,omitempty"`
	Over     string         `json:"over,omitempty"`
	Dated    bool           `json:"dated,omitempty"`
}

// export returns the alarms that count.
func (a *alarms) export() (list []alarmMemory) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, al := range a.list {
		if al.open {
			list = append(list, alarmMemory{al.key, al.severity, al.since, al.typ, al.upstream, al.text, al.hint, al.over, al.dated})
		}
	}
	return list
}

// restore takes over what another process has exported. Those that are not found soon,
// when its tunnels have come, have ended.
func (a *alarms) restore(list []alarmMemory, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range list {
		f := finding{
			key: m.Key, severity: m.Severity, since: m.Since, typ: m.Type, upstream: m.Upstream, text: m.Text, hint: m.Hint, over: m.Over, dated: m.Dated,
			linger: limitLinger,
		}
		a.list = append(a.list, &alarm{finding: f, last: now, open: true})
	}
}

package event

import (
	"slices"
	"sync"
	"time"
)

// Bounds of Groups.
const (
	groupEnds  = time.Minute // without another one a group is over
	mostGroups = 1000        // open at the same time; others share groups without an upstream
)

// groupPauses are the times between the events of a group, from one to the next; the
// last one counts on.
var groupPauses = [...]time.Duration{10 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}

// Groups makes few events of many things that are alike: one at the first, then one
// with the number of those that followed, in growing intervals, and one with the
// rest when there were none for a minute. The sum of the counts is exact. It is
// safe for concurrent use.
type Groups struct {
	emit func(Event)

	mu   sync.Mutex
	open map[groupKey]*group
}

type groupKey struct {
	typ                            Type
	exchange, kind, upstream, sort string
}

type group struct {
	event  Event
	words  func(n int, span time.Duration) string
	count  int       // since the last event
	from   time.Time // of the last event
	latest time.Time
	level  int
}

// NewGroups returns an empty one, which hands its events to emit.
func NewGroups(emit func(Event)) *Groups { return &Groups{emit: emit, open: map[groupKey]*group{}} }

// Note takes e.Count things, 1 if that is 0. What has the type, exchange, kind and
// upstream of e, and the same sort, is one group. words returns the text for a
// number of them that came within a time, which is 0 for the first ones.
func (g *Groups) Note(e Event, sort string, now time.Time, words func(n int, span time.Duration) string) {
	n := max(e.Count, 1)
	key := groupKey{e.Type, e.Exchange, e.Kind, e.Upstream, sort}
	g.mu.Lock()
	known := g.open[key]
	if known == nil && len(g.open) >= mostGroups {
		key.upstream, e.Upstream, e.Upstreams = "", "", nil
		known = g.open[key]
	}
	if known != nil {
		known.count += n
		for _, name := range e.Upstreams {
			if !slices.Contains(known.event.Upstreams, name) {
				known.event.Upstreams = append(slices.Clip(known.event.Upstreams), name)
			}
		}
		known.latest, known.words = now, words
		g.mu.Unlock()
		return
	}
	g.open[key] = &group{event: e, words: words, from: now, latest: now}
	g.mu.Unlock()
	e.Time, e.Count, e.Text = now, n, words(n, 0)
	g.emit(e)
}

// Tick hands out the events that are due. It is to be called about once a second.
func (g *Groups) Tick(now time.Time) {
	g.each(func(o *group) (due, over bool) {
		over = now.Sub(o.latest) >= groupEnds
		return over || now.Sub(o.from) >= groupPauses[min(o.level, len(groupPauses)-1)], over
	}, now)
}

// Flush hands out what has been counted, and ends all groups.
func (g *Groups) Flush(now time.Time) {
	g.each(func(*group) (due, over bool) { return true, true }, now)
}

func (g *Groups) each(look func(*group) (due, over bool), now time.Time) {
	var events []Event
	g.mu.Lock()
	for key, o := range g.open {
		due, over := look(o)
		if due && o.count > 0 {
			e := o.event
			e.Time, e.Count, e.Text = now, o.count, o.words(o.count, max(o.latest.Sub(o.from), time.Second))
			if over && now.Sub(o.latest) >= groupEnds { // an event is dated when it is written
				e.Text += "; none since " + o.latest.Format(time.TimeOnly)
			}
			events = append(events, e)
			o.count, o.from = 0, o.latest
			o.level++
		}
		if over {
			delete(g.open, key)
		}
	}
	g.mu.Unlock()
	for _, e := range events {
		g.emit(e)
	}
}

package feed

import (
	"cmp"
	"slices"
	"time"

	"proxyd/internal/catalog"
	"proxyd/internal/config"
	"proxyd/internal/tunnel"
)

// feedSilence watches the tunnels of one feed.
type feedSilence struct {
	exchange, upstream string
	kind               catalog.Kind

	rule    *config.Silence // in force
	learner                 // of all tunnels together
	recent  [32]volume      // what tunnels of the feed carried in their last windows
	filled  uint8           // of recent
	next    uint8           // in recent
	typical int64           // the median of recent
	sibling int64           // that of the exchange's other feeds
	stale   bool            // typical must be found anew
	many    float64         // mean number of tunnels
	fast    float64         // mean bytes a second, of some seconds
	slow    float64         // and of some minutes

	draining bool // new tunnels do not go through its upstream

	// Of the current second, counted while the tunnels are sampled.
	down                              int64
	watched, silent, healthy, stalled int
	oldest                            int64          // seconds since the first of the silent ones fell silent
	rules                             map[string]int // how many are silent by which rule
	closable                          []tunnel.Live  // silent ones that are to be closed

	// Not yet reported.
	began, ended, unread int // tunnels
	wait                 int // seconds until tunnels are reported again
	held                 int // seconds for which they have been held back

	// The silence that holds.
	state   string    // the rule, "" if there is none
	lasted  int64     // seconds since it began
	at      time.Time // when it began
	before  int64     // bytes a minute that the feed carried before
	highest int       // most silent tunnels
	empty   int       // seconds for which no tunnel has been open
	blame   blame
	shown   *Silence // what is known of it, for the rows
	closed  []closes // of the last half minute
}

// now returns the silence that holds, nil if there is none.
func (f *feedSilence) now() *Silence { return f.shown }

// The times over which the rates of a feed are taken, in seconds: it goes on while
// the one is at least a quarter of the other.
const (
	fastTime = 5
	slowTime = 300
)

// goesOn reports whether the feed carries about what it did.
func (f *feedSilence) goesOn() bool { return f.fast*4 >= f.slow }

// reset begins to count a second.
func (f *feedSilence) reset() {
	f.down, f.watched, f.silent, f.healthy, f.stalled, f.oldest = 0, 0, 0, 0, 0, 0
	f.closable = nil
	if len(f.rules) > 0 {
		clear(f.rules)
	}
}

// carried notes what a tunnel that is not silent carried in a window.
func (f *feedSilence) carried(v volume) {
	f.recent[f.next] = v
	f.next = (f.next + 1) % uint8(len(f.recent))
	f.filled = min(f.filled+1, uint8(len(f.recent)))
	f.stale = true
}

// usual returns the bytes that a tunnel of the feed carries in a minute, 0 if that
// is not known.
func (f *feedSilence) usual() int64 {
	if f.stale {
		sorted := f.recent
		known := sorted[:f.filled]
		slices.Sort(known)
		f.typical, f.stale = known[len(known)/2].bytes(), false
	}
	return cmp.Or(f.typical, f.sibling)
}

// second ends a second: it decides whether the feed is silent, and reports whether
// that has changed.
func (f *feedSilence) second() (changed bool) {
	f.whole()
	f.fast += (float64(f.down) - f.fast) / fastTime
	if f.state != "" {
		f.lasted++
		f.highest = max(f.highest, f.silent)
		if !f.over() {
			return false
		}
		f.state = ""
		return true
	}
	f.slow += (float64(f.down) - f.slow) / slowTime
	rule := f.silentBy()
	if rule == "" {
		return false
	}
	f.state, f.lasted, f.highest, f.empty = rule, f.silentFor(), f.silent, 0
	f.before = f.low.bytes() * lowPart
	if !f.quiet && f.rule.Mode == config.SilenceAuto {
		f.learner.begin(f.age)
	}
	return true
}

// whole feeds the learner of all tunnels together.
func (f *feedSilence) whole() {
	if f.watched == 0 || f.rule == nil || f.rule.Mode != config.SilenceAuto {
		return
	}
	f.learner.second(f.down)
	if f.state == "" {
		f.many += (float64(f.watched) - f.many) / (10 * window)
		f.many = max(f.many, 1)
	}
}

// silentBy returns the rule by which the feed is silent, "" if it is not: most of
// the tunnels that can be judged are, or all of them together while none can be.
// That a client has closed most of them is no silence.
func (f *feedSilence) silentBy() string {
	switch {
	case f.watched == 0 || f.rule == nil || f.rule.Mode == config.SilenceOff:
		return ""
	case f.silent > 0 && f.silent*10 >= (f.silent+f.healthy)*9 && f.silent*2 >= f.watched:
		return f.mostly()
	case f.quiet && f.healthy == 0 && float64(f.watched)*2 >= f.many:
		return ruleLearned
	}
	return ""
}

// mostly returns the rule by which most are silent.
func (f *feedSilence) mostly() string {
	best := ruleLearned
	for rule, n := range f.rules {
		if n > f.rules[best] {
			best = rule
		}
	}
	return best
}

// over reports whether the silence has ended: what comes is more than half of what
// is low, or more than a tenth of the tunnels carry, or no tunnel has been open for a
// minute.
func (f *feedSilence) over() bool {
	if f.watched == 0 {
		f.empty++
		return f.empty >= window || f.rule == nil || f.rule.Mode == config.SilenceOff
	}
	f.empty = 0
	if f.healthy*10 > f.watched {
		return true
	}
	return f.rule.Mode == config.SilenceAuto && f.learned() && !f.quiet && f.silent*2 < f.watched
}

// silentFor returns for how many seconds the feed has been silent when that is found
// out.
func (f *feedSilence) silentFor() int64 {
	if f.silent > 0 {
		return f.oldest
	}
	return int64(f.age - f.learner.since)
}

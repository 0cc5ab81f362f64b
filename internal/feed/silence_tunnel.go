package feed

import (
	"math"
	"math/bits"

	"proxyd/internal/config"
)

// The rules by which a tunnel or a feed is silent; as Silence.Rule.
const (
	ruleFixed   = "fixed"       // fewer bytes in the window than the configuration says
	ruleLearned = "learned"     // far less than it carried before
	ruleNever   = "never_began" // it opened, the client asked, and nothing came, while others of the feed carry
)

// When a tunnel never began to carry. All times are in seconds.
const (
	answerTime  = 60   // after the client's last request
	askBytes    = 128  // more than this from the client in a second is a request; less is a heartbeat
	answerBytes = 600  // fewer than this are next to nothing: heartbeats, an acknowledgement
	answerTimes = 20   // the others carry so many times as much
	answerUsual = 1200 // and at least this
)

// stallTime is how many seconds a client reads nothing before that is an event.
const stallTime = 10

// streamTime and streamSent make a tunnel of a host that serves both kinds a
// stream: so many seconds with bytes from the exchange, among so many without one
// from the client.
const (
	streamTime = 60
	streamSent = 30
)

// tunnelSilence watches one tunnel. The zero value watches from the next second on.
type tunnelSilence struct {
	learner
	rule    *config.Silence // in force; nil at first
	state   string          // the rule by which it is silent, "" if it is not
	sent    uint64          // of a mixed host: a bit for each of the last seconds, 1 if the exchange sent
	sum     int64           // of the window of a fixed rule, but for its last part
	clock   uint32          // seconds since it is watched
	lastUp  uint32          // clock when the client last sent
	asked   uint32          // clock when the client last asked; 0: never
	answer  uint32          // bytes from the exchange since
	stalled uint8           // seconds for which its client has not read
	plain   bool            // it is not watched
	mixed   bool            // its host serves both kinds, or is unknown
	streams bool            // of a mixed host: it streams
	served  bool            // the client's last request was answered, or it is known that it was not
}

// silent reports whether the tunnel is silent.
func (w *tunnelSilence) silent() bool { return w.state != "" }

// restart begins to watch by a rule. A tunnel whose silence holds goes on without it.
func (w *tunnelSilence) restart(rule *config.Silence, phase int, mixed bool) {
	*w = tunnelSilence{rule: rule, mixed: mixed}
	w.learner.restart(phase)
}

// second takes one second of the tunnel, for the feed that it belongs to.
func (w *tunnelSilence) second(f *feedSilence, s Second) {
	w.clock++
	was, watched := w.silent(), f.watched
	switch {
	case w.rule.Mode == config.SilenceOff || s.HalfClosed || s.Moving || s.Draining || f.draining:
		w.state, w.stalled = "", 0
		w.skip()
	case s.ClientStalled:
		w.stall(f)
	default:
		w.stalled = 0
		if !w.mixed || w.isStream(s) {
			w.watch(f, s)
		}
	}
	switch {
	case w.silent() && !was:
		f.began++
	case was && !w.silent() && f.watched > watched: // it carries again
		f.ended++
	}
}

// stall takes a second in which the client did not read.
func (w *tunnelSilence) stall(f *feedSilence) {
	w.state = ""
	w.skip()
	w.asked, w.sum, w.kept, w.pos = 0, 0, 0, 0
	f.stalled++
	if w.stalled = min(w.stalled, 250) + 1; w.stalled == stallTime {
		f.unread++
	}
}

// isStream reports whether a tunnel of a host that serves both kinds is a stream:
// from when the exchange has kept sending unasked, until the client sends.
func (w *tunnelSilence) isStream(s Second) bool {
	w.sent <<= 1
	if s.Down > 0 {
		w.sent |= 1
	}
	if s.Up > 0 {
		w.lastUp, w.streams, w.state = w.clock, false, ""
	}
	unasked := w.clock - w.lastUp
	if !w.streams && unasked >= streamTime && bits.OnesCount64(w.sent&(1<<streamTime-1)) >= streamSent {
		w.streams, w.asked, w.sum = true, 0, 0
		w.learner.restart(0)
	}
	return w.streams
}

func (w *tunnelSilence) watch(f *feedSilence, s Second) {
	f.watched++
	if w.clock > settleTime {
		f.down += s.Down
	}
	if w.rule.Mode == config.SilenceFixed {
		w.fixed(s.Down)
		if w.total() >= w.rule.Bytes {
			f.healthy++
		}
	} else {
		w.auto(f, s)
	}
	if w.silent() {
		f.silent++
		if f.rules == nil {
			f.rules = map[string]int{}
		}
		f.rules[w.state]++
		f.oldest = max(f.oldest, int64(w.age-w.since))
	}
}

// settleTime is for how many seconds the bytes of a new tunnel do not count for its
// feed: they are handshakes.
const settleTime = 10

// auto compares the tunnel with its own past, or with the others of its feed while
// it has none.
func (w *tunnelSilence) auto(f *feedSilence, s Second) {
	kept := w.pos
	w.learner.second(s.Down)
	if w.pos != kept && w.clock > 2*window && w.state == "" {
		f.carried(w.ring[kept])
	}
	switch {
	case w.learner.quiet && w.state != ruleNever:
		w.state = ruleLearned
	case w.state == ruleLearned:
		w.state = ""
	}
	w.request(f, s)
	if w.state == "" && (w.learned() || w.served) {
		f.healthy++
	}
}

// request measures what comes after the client's last request.
func (w *tunnelSilence) request(f *feedSilence, s Second) {
	if s.Up > askBytes || s.Up > 0 && w.asked == 0 {
		w.asked, w.answer, w.served = w.clock, 0, false
		if w.state == ruleNever {
			w.state = ""
		}
		return
	}
	w.answer += uint32(min(s.Down, 1<<20)) //nolint:gosec // bounded, and reset once a minute
	if w.asked == 0 || w.clock-w.asked < answerTime {
		return
	}
	usual := f.usual()
	nothing := int64(w.answer) < answerBytes && int64(w.answer)*answerTimes <= usual && usual >= answerUsual
	switch {
	case w.state == ruleNever: // it ends after a minute that is more than next to nothing
		if int64(w.answer) >= answerBytes {
			w.state = ""
		}
		if w.clock-w.asked >= 2*answerTime {
			w.asked, w.answer = w.clock-answerTime, 0
		}
	case w.served || usual == 0 && int64(w.answer) < answerBytes: // nothing to compare it with yet
	case nothing && !w.learned():
		w.state, w.served, w.answer = ruleNever, true, 0
		w.learner.since = w.learner.age - answerTime
	default:
		w.served = true
	}
}

// fixed counts the bytes of the last Window. The ring holds it in at most 60 parts.
func (w *tunnelSilence) fixed(down int64) {
	length := uint32(math.Ceil(w.rule.Window.Seconds()))
	part := (length + windows - 1) / windows
	w.age++
	w.bytes += uint32(min(down, int64(math.MaxUint32-w.bytes))) //nolint:gosec // bounded
	w.fill = max(w.fill, 0) + 1                                 // all tunnels begin at once
	if uint32(w.fill) >= part {                                 //nolint:gosec // positive
		w.shift(uint8((length + part - 1) / part)) //nolint:gosec // at most 60
	}
	switch few := w.total() < w.rule.Bytes; {
	case !w.silent() && few && w.age >= length:
		w.state, w.since = ruleFixed, w.age-length
		w.sum, w.bytes, w.kept, w.pos, w.fill = 0, 0, 0, 0, 0
	case w.silent() && !few: // the whole of it has come since
		w.state, w.age = "", 0
	}
}

// shift ends a part of a fixed window of so many parts.
func (w *tunnelSilence) shift(parts uint8) {
	if w.kept == parts {
		w.sum -= w.ring[w.pos].bytes()
	} else {
		w.kept++
	}
	w.ring[w.pos] = volumeOf(int64(w.bytes))
	w.sum += w.ring[w.pos].bytes()
	w.pos, w.bytes, w.fill = (w.pos+1)%parts, 0, 0
}

// total returns the bytes of a fixed window.
func (w *tunnelSilence) total() int64 { return w.sum + int64(w.bytes) }

package feed

import (
	"math"
	"math/bits"
	"slices"
)

// What is learned of a stream, and when it counts as silent. All times are in
// seconds.
const (
	window      = 60  // the length of a window
	windows     = 60  // that are remembered
	learnAge    = 600 // a stream that is younger is not judged
	learnFull   = 20  // nor is one with fewer windows that were not empty
	lowPart     = 20  // a window below a 20th of the median is low
	gapTimes    = 10  // so many times the longest gap of an hour is silence
	gapLeast    = 30  // but never less than this
	gapBlock    = 600 // gaps are remembered in blocks of this length
	suddenOver  = 5   // a low window begins a silence if it is far below the mean of so many before it,
	suddenTimes = 8   // so many times
	enoughData  = 20  // low windows count once so many seconds with data are missing in them
)

// volume is a number of bytes in 16 bits: exact below 2048, else rounded up by less
// than 0.1 %. A larger number has a larger volume.
type volume uint16

// volumeOf returns the volume of n bytes.
func volumeOf(n int64) volume {
	if n < 2048 {
		return volume(max(n, 0)) //nolint:gosec // bounded
	}
	shift := bits.Len64(uint64(n)) - 11                 //nolint:gosec // positive
	if top := (n + 1<<shift - 1) >> shift; top < 2048 { //nolint:gosec // positive
		return volume(shift<<10 + int(top)) //nolint:gosec // shift is below 54; clipped below
	}
	return volume((shift+1)<<10 + 1024) //nolint:gosec // as above
}

// bytes returns the number.
func (v volume) bytes() int64 {
	if v < 2048 {
		return int64(v)
	}
	shift := v>>10 - 1
	return int64(v-shift<<10) << shift
}

// learner knows what a stream carries in a minute and how long its gaps are, and
// finds out that it has fallen silent. second is called once a second. The zero
// value is ready; a learner of which few have the same phase spreads the work.
type learner struct {
	ring    [windows]volume // the windows that have passed, those of a silence apart
	gaps    [7]uint16       // the longest gap in each of the last blocks of ten minutes
	age     uint32          // seconds since the beginning
	last    uint32          // the age when the last byte came
	since   uint32          // the age when the silence began, as far as is known
	bytes   uint32          // of the current window
	low     volume          // a window below it is low; 0: none is
	longest uint16          // of gaps
	fill    int16           // seconds of the current window; below 0 it has not begun
	pos     uint8           // in ring, of the next window
	full    uint8           // windows that were not empty, at most 255
	kept    uint8           // windows in ring
	active  uint8           // seconds of it in which bytes came
	usual   uint8           // of active: its mean over the windows with data
	run     uint8           // low windows just before the current one
	runs    uint8           // the longest run of low windows in ring
	quiet   bool            // it is silent
}

// restart forgets all, and lets the first window begin after phase seconds.
func (l *learner) restart(phase int) {
	*l = learner{fill: -int16(phase % window)} //nolint:gosec // below 60
}

// learned reports whether enough is known to judge the stream.
func (l *learner) learned() bool { return l.age >= learnAge && l.full >= learnFull }

// second takes the bytes of one second.
func (l *learner) second(down int64) {
	l.age++
	if l.age%gapBlock == 0 {
		l.gaps[l.age/gapBlock%uint32(len(l.gaps))] = 0
		l.longest = slices.Max(l.gaps[:])
	}
	if down > 0 {
		l.came(down)
	}
	if l.quiet {
		l.resumed()
		return
	}
	if l.fill++; l.fill >= window {
		l.close()
	}
	if gap := l.age - l.last; !l.quiet && l.learned() && gap >= max(gapLeast, gapTimes*uint32(l.longest)) {
		l.begin(l.last)
	}
}

func (l *learner) came(down int64) {
	if gap := l.age - l.last; !l.quiet && l.full > 0 {
		block := &l.gaps[l.age/gapBlock%uint32(len(l.gaps))]
		*block = max(*block, uint16(min(gap, math.MaxUint16))) //nolint:gosec // bounded
		l.longest = max(l.longest, *block)
	}
	l.last = l.age
	if l.fill >= 0 {
		l.active++
		l.bytes += uint32(min(down, math.MaxUint32-int64(l.bytes))) //nolint:gosec // bounded
	}
}

// begin starts a silence.
func (l *learner) begin(since uint32) {
	l.quiet, l.since = true, since
	l.clear()
}

// clear begins a window.
func (l *learner) clear() { l.bytes, l.fill, l.active = 0, 0, 0 }

// resumed ends the silence once a window carries more than half of what is low. It
// need not be over for that.
func (l *learner) resumed() {
	if int64(l.bytes)*2 > l.low.bytes() {
		l.quiet, l.run = false, 0
		l.clear()
		return
	}
	if l.fill++; l.fill >= window {
		l.clear()
	}
}

// skip takes a second that says nothing of the exchange, since the client did not
// read in it: the window begins anew, and no silence holds.
func (l *learner) skip() {
	l.age++
	l.last, l.quiet, l.run = l.age, false, 0
	l.clear()
}

// close ends a window.
func (l *learner) close() {
	v, active := volumeOf(int64(l.bytes)), l.active
	since := l.age - window*(uint32(l.run)+1)
	l.clear()
	low := l.learned() && v < l.low && (l.run > 0 || l.sudden(v))
	if low {
		l.run = min(l.run+1, windows)
		if l.run >= l.need() {
			l.begin(since)
			return
		}
	} else {
		l.run = 0
	}
	l.ring[l.pos] = v
	l.pos, l.kept = (l.pos+1)%windows, min(l.kept+1, windows)
	if v > 0 {
		l.full = min(l.full, math.MaxUint8-1) + 1
		if !low {
			l.usual = mean(l.usual, active)
		}
	}
	l.learn()
}

// sudden reports whether a window is far below those just before it: a stream that
// fades within minutes is no silence.
func (l *learner) sudden(v volume) bool {
	sum, n := int64(0), int(min(l.kept, suddenOver))
	for i := range n {
		sum += l.ring[(int(l.pos)-1-i+windows)%windows].bytes()
	}
	return v.bytes()*suddenTimes*int64(n) < sum
}

// mean moves a mean towards a value, by an eighth.
func mean(old, v uint8) uint8 {
	if old == 0 {
		return v
	}
	return uint8(max(1, (int(old)*7+int(v)+4)/8)) //nolint:gosec // between the two
}

// need returns how many low windows in a row are silence. One is, for a stream that
// always carries. A stream that carries in few seconds of a minute has empty
// minutes without an error; so has one that had low windows in the last hour.
func (l *learner) need() uint8 {
	n := (enoughData + int(l.usual) - 1) / max(int(l.usual), 1)
	return uint8(min(max(1, n, 2*int(l.runs)+1), windows)) //nolint:gosec // bounded
}

// learn sets what is low, and the longest run of low windows but the one that has
// not ended.
func (l *learner) learn() {
	var sorted [windows]volume
	known := sorted[:copy(sorted[:], l.ring[:l.kept])]
	slices.Sort(known)
	l.low = volumeOf(known[len(known)/2].bytes() / lowPart)
	l.runs = 0
	run := uint8(0)
	for i := range int(l.kept) - int(min(l.run, l.kept)) {
		at := (int(l.pos) - int(l.kept) + i + windows) % windows
		if run++; l.ring[at] >= l.low {
			run = 0
		}
		l.runs = max(l.runs, run)
	}
}

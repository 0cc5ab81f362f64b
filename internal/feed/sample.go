package feed

import (
	"math"
	"time"

	"proxyd/internal/tunnel"
)

// entry is what is kept of one live tunnel, in its slot. The Table's lock guards it.
type entry struct {
	feed     *feedRow
	opened   time.Duration // when it opened, on the Table's clock
	up, down int64         // what was counted of it
	lastByte time.Duration // from the exchange, on the Table's clock; 0: none yet
	tick     int64         // of the last sample
	seen     int64         // when it was first sampled; as tick
	second   [2]uint32     // bytes up and down between the last two samples
	spans    [spans][2]uint32
	gone     bool // it is counted as open no more
	young    bool // it has not shown that it lasts
	stalled  bool // its client does not read
	silence  tunnelSilence
}

// Second is what a tunnel did in one second, for whoever looks for silence.
type Second struct {
	Up, Down      int64 // bytes
	HalfClosed    bool
	Moving        bool
	ClientStalled bool
	Draining      bool // its process takes no new requests
}

// batch is how many tunnels a sample looks at before it lets others in.
const batch = 128

// sample reads the counts of all live tunnels.
func (t *Table) sample(now time.Time) {
	n := 0
	t.mu.Lock()
	t.o.Each(func(l tunnel.Live) bool {
		if n++; n%batch == 0 {
			t.mu.Unlock()
			t.mu.Lock()
		}
		if e := t.entryOf(&l); e != nil && l.Carrying {
			t.sampleTunnel(e, &l, now)
		}
		return true
	})
	t.mu.Unlock()
}

// entryOf returns the entry of a tunnel, nil if it does not carry yet.
func (t *Table) entryOf(l *tunnel.Live) *entry {
	slot := l.Slot()
	if *slot != nil {
		e, _ := (*slot).(*entry)
		return e
	}
	e := t.adopted[l.ID]
	if e != nil {
		*slot = e
		delete(t.adopted, l.ID)
	}
	return e
}

func (t *Table) sampleTunnel(e *entry, l *tunnel.Live, now time.Time) {
	s := Second{HalfClosed: l.HalfClosed, Moving: l.Moving, ClientStalled: l.ClientStalled, Draining: l.Draining}
	s.Up, s.Down = e.progress(l.Up, l.Down)
	e.turn(t.sec)
	e.add(s.Up, s.Down)
	if s.Down > 0 {
		e.lastByte = now.Sub(t.start)
	}
	if s.Up|s.Down != 0 {
		e.feed.carried(s.Up, s.Down, now)
		e.feed.pair.carried(s.Up, s.Down, now)
	}
	e.stalled = s.ClientStalled
	if e.young && !l.HalfClosed && now.Sub(t.start)-e.opened >= shortTime { // its record says how a half-closed one ended
		e.young = false
		e.feed.pair.steady++
		e.feed.pair.lasted(t.start.Add(e.opened))
	}
	t.watchSilence(e, l, s)
}

// progress returns what has come since it was last asked.
func (e *entry) progress(up, down int64) (moreUp, moreDown int64) {
	moreUp, moreDown = max(0, up-e.up), max(0, down-e.down)
	e.up, e.down = max(up, e.up), max(down, e.down)
	return moreUp, moreDown
}

// turn begins a second; spans that have passed without a sample are empty.
func (e *entry) turn(sec int64) {
	if e.seen == 0 {
		e.seen = max(sec, 1)
	}
	for s := max(e.tick/10+1, sec/10-spans+1); s <= sec/10; s++ {
		e.spans[s%spans] = [2]uint32{}
	}
	e.tick, e.second = sec, [2]uint32{}
}

func (e *entry) add(up, down int64) {
	for i, n := range [2]int64{up, down} {
		few := uint32(min(n, math.MaxUint32)) //nolint:gosec // bounded
		e.second[i] = few
		s := &e.spans[e.tick/10%spans][i]
		*s += min(few, math.MaxUint32-*s)
	}
}

// rate returns the rates of one direction: 0 is up.
func (e *entry) rate(direction int) Rate {
	sum := 0.0
	for _, s := range e.spans {
		sum += float64(s[direction])
	}
	covered := min(e.tick-e.seen+1, 10*(spans-1)+e.tick%10+1)
	return Rate{Second: float64(e.second[direction]), Minute: sum / float64(max(covered, 1))}
}

// Tunnel returns what was last sampled of a live tunnel, and false if it is not
// known. What has come since then counts as the last byte.
func (t *Table) Tunnel(l tunnel.Live) (Tunnel, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entryOf(&l)
	if e == nil {
		return Tunnel{}, false
	}
	row := Tunnel{Up: e.rate(0), Down: e.rate(1), Silent: e.silence.silent(), ClientStalled: e.stalled}
	switch now := time.Now(); {
	case l.Down > e.down:
		row.LastByte = now
	case e.lastByte != 0: // by today's clock: it may have been set since
		row.LastByte = now.Add(e.lastByte - now.Sub(t.start))
	}
	return row, true
}
